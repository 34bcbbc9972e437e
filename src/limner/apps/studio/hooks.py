"""Parts of Limner that the studio shows only where they are installed: editing (inversion, directions) and export."""

from __future__ import annotations

import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.apps.output import Progress
from limner.apps.studio.generator import Drawing, Edit
from limner.apps.studio.state import State
from limner.core.images import to_pil

AXIS_REACH, CLASS_REACH = 3.0, 1.5  # ends of the sliders of named directions


def present(module: str) -> bool:
    """Return whether a module of Limner exists."""
    try:
        return find_spec(f"limner.apps.{module}") is not None
    except ModuleNotFoundError:  # its package does not exist
        return False


def _load(module: str) -> Any:
    return import_module(f"limner.apps.{module}")


def features() -> dict[str, bool]:
    """Return which optional features the page can show."""
    return {
        "invert": present("editing.invert"), "directions": present("editing.direct"),
        "onnx": present("export.dispatch") and find_spec("onnx") is not None, "html": present("export.html"),
    }  # fmt: skip


# ---- editing ---------------------------------------------------------------------------------------------------------


def edit() -> Edit | None:
    """Return the function that draws states with an inverted picture or named directions; None without that room."""
    return draw_edited if present("editing.directions") else None


def draw_edited(drawing: Drawing, state: State) -> np.ndarray:
    """Return the picture uint8 [C,H,W] of a state with a latent file or directions. Raises ValueError for those of other weights."""
    latent, codes, directions = (_load(f"editing.{name}") for name in ("latent", "codes", "directions"))
    model, base = drawing.model, None
    if state.latent is not None:
        try:
            base = latent.Latent.load(state.latent)
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {state.latent}: invert the picture again.") from error
        found = codes.codes_of(model, [base])
    else:
        labels = drawing.labels(state)
        drawing.calibrate(state, labels)
        point = drawing.point(state, labels)
        point = drawing.styles(state, point, labels) if model.has_styles else point
        found = codes.Codes(point.astype(np.float32), labels)
    if state.directions:
        known = directions.Directions.load(model)
        if known is None:
            raise ValueError(f"{model.folder} has no directions yet: find them with `limner directions {model.folder}`.")
        for name, by in sorted(state.directions.items()):
            found = known.moved(model, found, name, by)
    moves = drawing.moves(state)
    if moves.any():
        code = found.code.astype(np.float64)
        axes = drawing.axes
        moved = axes.moved(code, moves) if code.ndim == 2 else code + (moves * axes.scale) @ axes.directions
        found = codes.Codes(moved.astype(np.float32), found.c)
    picture: np.ndarray = latent.render(model, codes.latents_of(model, found, [base]))[0]
    return picture


def named_directions(model: Any) -> list[dict[str, Any]]:
    """Return the directions stored beside a run, with what they were measured to change; empty if there are none."""
    if not present("editing.directions"):
        return []
    known = _load("editing.directions").Directions.load(model)
    return [] if known is None else [
        {"name": one.name, "title": one.name, "reach": AXIS_REACH if one.label is None else CLASS_REACH, "note": _effect(one)} for one in known
    ]  # fmt: skip


def _effect(direction: Any) -> str:
    effect = direction.effect
    if effect is None:
        return ""
    parts = [f"keeps the identity of {effect.identity:.0%}"]
    parts += [f"reaches its class in {effect.to_class:.0%}"] if effect.to_class is not None else []
    return ", ".join(parts)


def find_directions(model: Any, progress: Progress) -> str:
    """Find and store the directions of a generator; return a sentence."""
    return str(_load("editing.direct").find_directions(model, progress=progress)[1])


def invert(model: Any, image: Image.Image, out: Path, progress: Progress) -> tuple[bytes, bytes, str]:
    """Write the latent of a picture; return PNGs of the picture as the model takes it and as it draws it, and a sentence."""
    module = _load("editing.invert")
    found = module.Inverter(model, progress=progress).invert(module.target_of(model, image))
    found.latent.save(out)
    return _png(found.target), _png(found.made), f"The generator draws it at a PSNR of {found.psnr:.1f} dB."


# ---- export ----------------------------------------------------------------------------------------------------------


def export(model: Any, out: Path, progress: Progress) -> str:
    """Export a model by the suffix of `out`; return a sentence."""
    if out.suffix == ".html":
        return str(_load("export.html").write(model, out, progress=progress))
    return str(_load("export.dispatch").export(model, out, progress=progress))


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "PNG")
    return buffer.getvalue()

"""What the studio does by other rooms: editing (inversion, directions) and export."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from limner.apps.editing import direct, directions
from limner.apps.editing.invert import Inverter, target_of
from limner.apps.export import dispatch
from limner.apps.output import Progress
from limner.core.images import encode_png

AXIS_REACH, CLASS_REACH = 3.0, 1.5  # ends of the sliders of named directions


def features() -> dict[str, bool]:
    """Return which formats of an export can be written: .onnx needs an extra."""
    return {"onnx": find_spec("onnx") is not None, "html": True}


# ---- editing ---------------------------------------------------------------------------------------------------------


def named_directions(model: Any) -> list[dict[str, Any]]:
    """Return the directions stored beside a run, with what they were measured to change; empty if there are none."""
    known = directions.Directions.load(model)
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
    return direct.find_directions(model, progress=progress)[1]


def invert(model: Any, image: Image.Image, out: Path, progress: Progress) -> tuple[bytes, bytes, str]:
    """Write the latent of a picture; return PNGs of the picture as the model takes it and as it draws it, and a sentence."""
    found = Inverter(model, progress=progress).invert(target_of(model, image))
    found.latent.save(out)
    return encode_png(found.target), encode_png(found.made), f"The generator draws it at a PSNR of {found.psnr:.1f} dB."


# ---- export ----------------------------------------------------------------------------------------------------------


def export(model: Any, out: Path, progress: Progress) -> str:
    """Export a model by the suffix of `out`; return a sentence."""
    return str(dispatch.export(model, out, progress=progress))

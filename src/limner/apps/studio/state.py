"""A picture of a generator as a value: everything that determines it, as a command, as JSON, and in the PNG that is saved."""

from __future__ import annotations

import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import limner
from limner.apps.model import GeneratorModel, check_numbers
from limner.core.images import to_pil

MAX_MOVE = 6.0  # standard deviations along an axis
MAX_DIRECTION = 20.0  # of a named direction


@dataclass(frozen=True, kw_only=True)
class State:
    """What determines a picture.

    seed, label, truncation: as `limner sample` takes them. axes: number of an axis, from 1 -> standard deviations. at: place on
    the map, in standard deviations along the first two axes. mix_seed, mix_from: of a network with a style space, the seed of
    the styles from layer mix_from on, counted from 0. latent: a .npz of an inverted picture, in place of the seed. directions:
    name of a direction that `limner directions` found -> amount.
    """

    seed: int = 0
    label: str | None = None
    truncation: float = 1.0
    axes: Mapping[int, float] = field(default_factory=dict)
    at: tuple[float, float] | None = None
    mix_seed: int | None = None
    mix_from: int = 0
    latent: str | None = None
    directions: Mapping[str, float] = field(default_factory=dict)

    def check(self, model: GeneratorModel, axes: int) -> None:
        """Raise ValueError for a value out of range. axes: how many the model has."""
        check_numbers(1, self.seed)
        model.check_truncation(self.truncation)
        for number, value in self.axes.items():
            if not 1 <= number <= axes:
                raise ValueError(f"This model has the axes 1 to {axes}, not {number}.")
            if not abs(value) <= MAX_MOVE:  # also False for NaN
                raise ValueError(f"An axis goes from -{MAX_MOVE:g} to {MAX_MOVE:g} standard deviations, not {value:g}.")
        if self.at is not None and not all(abs(value) <= MAX_MOVE for value in self.at):
            raise ValueError(f"A place on the map has coordinates from -{MAX_MOVE:g} to {MAX_MOVE:g}.")
        if any(not abs(value) <= MAX_DIRECTION for value in self.directions.values()):
            raise ValueError(f"A direction is moved along by at most {MAX_DIRECTION:g}.")
        if self.mix_seed is not None:
            if not model.has_styles:
                raise ValueError("Only a network with a style space mixes styles (stylegan2): leave the second seed out.")
            check_numbers(1, self.mix_seed)
            layers = int(model.network.layers)  # type: ignore[arg-type]
            if not 0 <= self.mix_from <= layers:
                raise ValueError(f"This network has {layers} style layers: mix from one of 0 to {layers}.")

    def arguments(self) -> list[str]:
        """Return the options of `limner picture` that draw this picture; defaults are left out."""
        given: list[str] = []
        if self.latent is not None:
            given += ["--latent", self.latent]
        else:
            given += ["--seed", str(self.seed)]
        if self.label is not None and self.latent is None:
            given += ["--label", self.label]
        if self.truncation != 1:
            given += ["--truncation", number(self.truncation)]
        for axis, value in sorted(self.axes.items()):
            if value:
                given += ["--axis", f"{axis}={number(value)}"]
        for name, value in sorted(self.directions.items()):
            if value:
                given += ["--direction", f"{name}={number(value)}"]
        if self.at is not None:
            given += ["--at", ",".join(number(value) for value in self.at)]
        if self.mix_seed is not None:
            given += ["--mix-seed", str(self.mix_seed), "--mix-from", str(self.mix_from)]
        return given


def number(value: float) -> str:
    """Return a number as the shortest text that reads back as the same one."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def from_json(document: Mapping[str, Any]) -> State:
    """Return the state in a request's JSON. Raises ValueError for a field that is unknown or of a wrong type."""
    known = set(State.__dataclass_fields__)
    if unknown := document.keys() - known:
        raise ValueError(f"A picture has no {sorted(unknown)[0]!r}: known are {', '.join(sorted(known))}.")
    try:
        at, mix, latent, label = (document.get(name) for name in ("at", "mix_seed", "latent", "label"))
        found = State(
            seed=_whole(document.get("seed", 0)),
            label=None if label is None else str(label),
            truncation=float(document.get("truncation", 1.0)),
            axes={_whole(key): float(value) for key, value in dict(document.get("axes", {})).items()},
            at=None if at is None else (float(at[0]), float(at[1])),
            mix_seed=None if mix is None else _whole(mix),
            mix_from=_whole(document.get("mix_from", 0)),
            latent=None if latent is None else str(latent),
            directions={str(key): float(value) for key, value in dict(document.get("directions", {})).items()},
        )
    except (TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError("The description of the picture is damaged.") from error
    values = [found.truncation, *found.axes.values(), *(found.at or ()), *found.directions.values()]
    if not all(map(math.isfinite, values)):
        raise ValueError("The description of the picture holds a number that is not finite.")
    return found


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise TypeError
    return int(value)


def named_numbers(texts: Sequence[str], option: str) -> dict[str, float]:
    """Parse `NAME=AMOUNT`. Raises ValueError for anything else."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, amount = text.rpartition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"{option} {text!r} is not understood: give a name and an amount, as {option} 1=2.5.")
    return found


def whole_axes(named: Mapping[str, float]) -> dict[int, float]:
    """Return axes by number. Raises ValueError for a name that is no number."""
    if wrong := next((name for name in named if not name.isdigit()), None):
        raise ValueError(f"An axis is named by its number, from 1, not {wrong!r}.")
    return {int(name): amount for name, amount in named.items()}


def command(*parts: object) -> str:
    """Return a command line as a shell takes it."""
    return shlex.join(str(part) for part in parts)


def png(picture: np.ndarray, texts: Mapping[str, str]) -> bytes:
    """Return a picture uint8 [C,H,W] as the bytes of a PNG with text chunks, which name how it was made."""
    return with_texts(to_pil(picture), texts)


def with_texts(image: Image.Image, texts: Mapping[str, str]) -> bytes:
    """Return an image as the bytes of a PNG with text chunks; Latin-1 is written as tEXt, anything else as iTXt."""
    chunks = PngInfo()
    for name, text in {"Software": f"Limner {limner.__version__}", **texts}.items():
        chunks.add_text(name, text)
    buffer = io.BytesIO()
    kept = {key: image.info[key] for key in ("icc_profile", "exif") if image.info.get(key)}
    image.save(buffer, "PNG", pnginfo=chunks, **kept)
    return buffer.getvalue()


def texts_of(run: Path, state: State) -> dict[str, str]:
    """Return the text chunks of a generated picture: the command that draws it again, and the state as JSON."""
    shown = {key: value for key, value in asdict(state).items() if value not in (None, {}, State().__dict__.get(key))}
    return {
        "Comment": command("limner", "picture", run, "picture.png", *state.arguments()),
        "limner": json.dumps(shown, ensure_ascii=False),
    }

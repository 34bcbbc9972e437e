"""Named directions of a generator, with their measured effects: what sliders move.

They are stored beside the run, in its folder `editing`: `directions.safetensors` holds the vectors and the statistics of the
classes, `directions.json` the names and effects and the fingerprint of the generator's weights. Directions of other weights
are not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.apps.editing.class_change import LOOK, SIDE, ClassLook, change_class, look_tensors
from limner.apps.editing.codes import Codes, drawn
from limner.apps.editing.effect import Effect
from limner.apps.editing.latent import fingerprint
from limner.core import artifact, schema
from limner.core.files import open_regular, write_tensors, write_whole

FORMAT = 2
FOLDER, NAME = "editing", "directions"
MAX_TENSOR_BYTES = 1 << 30
METHODS = ("attribute", "like", "class", "closed form", "components")


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction.

    name: what it changes, as far as that was measured. method: one of METHODS. vector: float32 [D], one standard deviation of
    the codes long; all zeros for a class of the generator. label: that class. effect: what it was measured to change.
    """

    name: str
    method: str
    vector: np.ndarray
    label: int | None = None
    effect: Effect | None = None


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions of a generator. look: statistics of its classes. predictor: what classes were predicted by, or ""."""

    items: tuple[Direction, ...]
    fingerprint: str
    look: ClassLook | None = None
    predictor: str = ""

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> list[str]:
        return [d.name for d in self.items]

    def __getitem__(self, name: str) -> Direction:
        """Return the direction of a name; case, spaces and hyphens do not matter. Raises ValueError for an unknown one."""
        for direction in self.items:
            if plain(direction.name) == plain(name):
                return direction
        raise ValueError(f"There is no direction {name!r}: choose one of {', '.join(self.names)}.")

    def moved(self, model: Any, codes: Codes, name: str, by: float, layers: Sequence[int] | None = None, keep: bool = True) -> Codes:
        """Return codes moved along the direction of a name: `by` standard deviations, or for a class 1 to reach it.

        layers: of a style-based network, which are moved. keep: as in `class_change.change_class`. Raises ValueError for an
        unknown name, and for layers of a network without styles.
        """
        direction = self[name]
        if layers is not None and codes.code.ndim == 2:
            raise ValueError("This generator reads its latent at once, so that single layers cannot be moved: leave --layers out, or train stylegan2.")
        if direction.label is None:
            return codes.moved(direction.vector, by, layers)
        assert self.look is not None
        made = change_class(model, codes, direction.label, by, self.look, keep and layers is None)
        if layers is not None:
            code = codes.code.copy()
            code[:, list(layers)] = made.code[:, list(layers)]
            made = Codes(code, made.c)
        return made

    def save(self, folder: Path) -> None:
        """Write both files into the folder `editing` of a run. Raises ValueError when they cannot be written."""
        tensors = {f"vector.{i}": torch.from_numpy(d.vector) for i, d in enumerate(self.items)}
        tensors |= {} if self.look is None else look_tensors(self.look)
        entries = [
            {"name": d.name, "method": d.method, "label": d.label, "effect": None if d.effect is None else d.effect.to_json()}
            for d in self.items
        ]
        facts = {"format": FORMAT, "fingerprint": self.fingerprint, "tensors": artifact.content_hash(tensors),
                 "predictor": self.predictor, "directions": entries}  # fmt: skip
        write_tensors(folder / FOLDER / f"{NAME}.safetensors", tensors, {"format": "pt"})
        write_whole(folder / FOLDER / f"{NAME}.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, model: Any) -> Directions | None:
        """Return the directions stored beside a model; None if there are none, or only those of other weights.

        Raises ValueError for files that are damaged. No code is run, and the shapes are checked.
        """
        folder = model.folder / FOLDER
        damaged = ValueError(f"The directions in {folder} are damaged: find them again with `limner directions {model.folder}`.")
        try:
            facts = schema.read(folder / f"{NAME}.json", _File)
            with open_regular(folder / f"{NAME}.safetensors"):
                tensors = _tensors(folder / f"{NAME}.safetensors")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            raise damaged from error
        if facts["format"] != FORMAT or facts["fingerprint"] != fingerprint(model):
            return None
        if facts["tensors"] != artifact.content_hash(tensors):  # a kill between the two writes
            return None
        try:
            items = tuple(
                Direction(e["name"], e["method"], tensors[f"vector.{i}"].numpy(), e["label"], None if e["effect"] is None else Effect(**e["effect"]))
                for i, e in enumerate(facts["directions"])
            )
            look = ClassLook(**{n: tensors[f"look.{n}"].numpy() for n in LOOK}) if "look.mean" in tensors else None
        except (KeyError, TypeError) as error:
            raise damaged from error
        _check(items, look, model, damaged)
        return cls(items, facts["fingerprint"], look, facts["predictor"])


class _Effect(TypedDict):
    by: float
    attributes: dict[str, float]
    agreement: dict[str, float]
    changed: float | None
    identity: float
    to_class: float | None


class _Entry(TypedDict):
    name: str
    method: str
    label: int | None
    effect: _Effect | None


class _File(TypedDict):
    format: int
    fingerprint: str
    tensors: str
    predictor: str
    directions: list[_Entry]


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file of at most MAX_TENSOR_BYTES. Raises SafetensorError and OSError."""
    if path.stat().st_size > MAX_TENSOR_BYTES:
        raise OSError("too large")
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def _check(items: Sequence[Direction], look: ClassLook | None, model: Any, damaged: ValueError) -> None:
    """Raise `damaged` when a vector does not fit the model."""
    size, classes = code_size(model), model.spec.classes
    for d in items:
        fits = d.vector.shape == (size,) and d.vector.dtype == np.float32 and bool(np.isfinite(d.vector).all())
        if not fits or d.method not in METHODS or (d.label is not None and not (look is not None and 0 <= d.label < classes)):
            raise damaged
    if look is None:
        return
    cells = model.spec.channels * min(SIDE, model.spec.height) * min(SIDE, model.spec.width)
    shapes = {"sd": look.mean.shape, "centers": (classes, size), "slopes": (cells, classes), "offsets": (classes,)}
    if look.mean.shape[0] != classes or any(getattr(look, name).shape != shape for name, shape in shapes.items()):
        raise damaged


def code_size(model: Any) -> int:
    """Return D, the size of a style of a style-based network or of the latent of another."""
    return int(drawn(model, 1, 0).code.shape[-1])


def plain(name: str) -> str:
    """Return a name without what does not matter when it is typed: case, spaces, hyphens."""
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")

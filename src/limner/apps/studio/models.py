"""Trained models by run, loaded when they are used and again when a training has written new weights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.apps.model import GeneratorModel
from limner.apps.studio.generator import Drawing
from limner.core import artifact

MAX_MODELS = 3  # in memory
Load = Callable[[Path], Any]


@dataclass
class Loaded:
    """A model and what is made of it once. version: the time of its weights' file."""

    model: Any
    version: int
    drawing: Drawing | None

    def require(self) -> Drawing:
        """Return the drawing of a generator. Raises ValueError for a model of another kind."""
        if self.drawing is None:
            raise ValueError(f"This run is a {self.model.description['kind']}, which draws no pictures from latents.")
        return self.drawing


class Models:
    """The models in memory. load: as `families.load.load`."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._loaded: OrderedDict[Path, Loaded] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, folder: Path, newest: bool = False) -> Loaded:
        """Return the model of a run folder. newest: load it again if the weights have been written since."""
        with self._guard:
            found = self._loaded.get(folder)
            if found is None or (newest and found.version != _version(folder)):
                version = _version(folder)
                model = self.load(folder)
                found = self._loaded[folder] = Loaded(model, version, Drawing(model) if draws(model) else None)
            self._loaded.move_to_end(folder)
            while len(self._loaded) > MAX_MODELS:
                self._loaded.popitem(last=False)
            return found


def draws(model: Any) -> bool:
    """Return whether a model draws pictures from latents: a generator, or an autoencoder with a prior of them."""
    if not isinstance(model, GeneratorModel) or model.spec.condition.kind not in ("none", "classes"):
        return False
    autoencoder = getattr(model, "autoencoder", None)
    return autoencoder is None or hasattr(autoencoder, "z_size")


def _version(folder: Path) -> int:
    try:
        return (folder / artifact.WEIGHTS).stat().st_mtime_ns
    except OSError:
        return 0

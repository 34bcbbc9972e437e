"""Inversion and directions of a served generator, by `apps.editing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from limner.apps.autoencode import Autoencoder
from limner.apps.editing.codes import Codes, latents_of
from limner.apps.editing.directions import Directions
from limner.apps.editing.edit import edit
from limner.apps.editing.encoder import path_of
from limner.apps.editing.invert import Inverter, target_of
from limner.apps.editing.latent import Latent, mapped
from limner.apps.model import GeneratorModel
from limner.apps.serve.served import VARIATION, Editor, near


class GeneratorEditor:
    """Inverts with the encoder beside the run, and moves along the directions beside the run; a server makes neither.

    directions: names with hyphens in place of spaces, so that they stand in a prompt.
    """

    def __init__(self, model: GeneratorModel) -> None:
        self.model, self.found = model, Directions.load(model)
        self.directions: Sequence[str] = [name.replace(" ", "-") for name in self.found.names] if self.found else []
        self.inverter = Inverter(model) if path_of(model.folder).exists() else None
        self.inverts = self.inverter is not None

    def invert(self, image: Image.Image, progress: Callable[..., None]) -> Latent:
        assert self.inverter is not None
        return self.inverter.invert(target_of(self.model, image), tick=progress).latent

    def code(self, z: np.ndarray, label: int | None) -> Latent:
        return latents_of(self.model, Codes(z[None], None if label is None else np.array([label])))[0]

    def move(self, code: Latent, amounts: Mapping[str, float]) -> Latent:
        return edit(self.model, code, list(amounts.items()), self.found) if amounts else code

    def vary(self, code: Latent, z: np.ndarray) -> Sequence[Latent]:
        if code.styles is None:
            return [code.with_code(row) for row in near(code.code, z)]
        w = mapped(self.model, z, None if code.label is None else np.full(len(z), code.label))
        return [code.with_code(code.code + VARIATION * (row - code.code)) for row in w]

    def draw(self, codes: Sequence[Latent]) -> np.ndarray:
        return np.asarray(self.model.render(list(codes)))


def editor_of(model: Any) -> Editor | None:
    """Return the editor of a generator that has directions or an encoder beside it, made by `limner directions` and `limner invert`."""
    if not isinstance(model, GeneratorModel) or isinstance(model, Autoencoder) or model.spec.condition.kind not in ("none", "classes"):
        return None
    editor = GeneratorEditor(model)
    return editor if editor.directions or editor.inverts else None

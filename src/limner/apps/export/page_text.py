"""What the page of a text-to-image generator holds besides the program of its pictures: tokenizer, text encoder, axes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.editing.axes import COUNT, pixel_metric, principal
from limner.apps.export.metadata import tokenizer_of
from limner.core import latents

MAX_CAPTIONS = 8  # over whose texts the axes are measured


@cache
def case_folds() -> dict[str, str]:
    """Return Unicode's case folding of the characters for which it is not their lower case, among those that NFKC leaves."""
    characters = (chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    return {c: c.casefold() for c in characters if c.casefold() != c.lower() and unicodedata.normalize("NFKC", c) == c}


def text_facts(model: Any, encoded: Callable[[np.ndarray], str]) -> dict[str, Any]:
    """Return what `page/text.js` reads. encoded: numbers as text."""
    encoder = model.network.encoder
    tensors = {"table": encoder.table.weight}
    for name in ("words", "mix", "last"):
        layer = getattr(encoder, name)
        tensors |= {f"{name}_weight": layer.weight, f"{name}_bias": layer.bias}
    return {
        "tokenizer": tokenizer_of(model), "captions": model.captions, "folds": case_folds(),
        "encoder": {name: encoded(tensor.detach().float().cpu().numpy()) for name, tensor in tensors.items()},
    }  # fmt: skip


@torch.no_grad()
def text_axes(model: Any, network: Any, progress: Callable[[int, int], None] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return axes of a text-to-image generator's latents [K,Z], as `editing.axes`, and their shares of all change [K].

    network: it, on the CPU. The change is the mean over captions of the run's preview, of one at a time.
    """
    sentences = torch.from_numpy(model.features(model.captions[:MAX_CAPTIONS]))

    def picture(z: Tensor, caption: Tensor | None) -> Tensor:
        assert caption is not None
        made: Tensor = network.pictures(latents.transform(z, model.noise), sentences[caption])
        return made

    return principal(pixel_metric(picture, model.z_size, len(sentences), progress), COUNT)

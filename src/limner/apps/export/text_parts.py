"""Parts of a text-to-image generator.

    generator       z, tokens -> pixels
    text_encoder    tokens -> sentence; with attention, the sentence and its words (`networks.text2image.Generator.features`)
    decoder         z, sentence -> pixels: the generator behind its text encoder, to go from one sentence to another
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.export.latent_parts import PICTURE
from limner.apps.export.part import Axes, Part
from limner.apps.export.wrap import GeneratorGraph
from limner.core import latents
from limner.core.condition import TENSORS

TOKENS = TENSORS["tokens"]


class TextEncoderGraph(nn.Module):
    """tokens int64 [N,L] -> features float32 [N,F]"""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.network.features(tokens)
        return made


def generator(model: Any) -> Part:
    """(z, tokens) -> pixels"""

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        return _latents(model, rng, n), _tokens(model, rng, n)

    inputs: dict[str, Axes] = {"z": ("batch", model.z_size), **_token_axes(model)}
    return Part("generator", GeneratorGraph(model.network, model.noise), inputs, _pixels(model), draw, model.spec.size)


def text_encoder(model: Any) -> Part:
    """tokens -> sentence"""

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        return (_tokens(model, np.random.default_rng(seed), n),)

    outputs: dict[str, Axes] = {"sentence": ("batch", _features(model, 1).shape[1])}
    return Part("text_encoder", TextEncoderGraph(model.network), _token_axes(model), outputs, draw, model.spec.size)


def decoder(model: Any) -> Part:
    """(z, sentence) -> pixels"""

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        return _latents(model, rng, n), _features(model, n, rng)

    inputs: dict[str, Axes] = {"z": ("batch", model.z_size), "sentence": ("batch", _features(model, 1).shape[1])}
    return Part("decoder", GeneratorGraph(model.network.pictures, model.noise), inputs, _pixels(model), draw, model.spec.size)


def _token_axes(model: Any) -> dict[str, Axes]:
    if model.spec.condition.kind != "tokens":
        raise ValueError("This model takes frozen vectors of words, which the exported graph does not hold: sample it with Limner.")
    return {TOKENS: ("batch", model.spec.condition.length)}


def _pixels(model: Any) -> dict[str, Axes]:
    return {PICTURE: ("batch", model.spec.channels, *model.spec.size)}


def _latents(model: Any, rng: np.random.Generator, n: int) -> Tensor:
    return torch.from_numpy(latents.normal(rng, n, model.z_size))


def _features(model: Any, n: int, rng: np.random.Generator | None = None) -> Tensor:
    """Return what the network draws of n random texts, [n,F]."""
    with torch.no_grad():
        made: Tensor = model.network.features(_tokens(model, rng or np.random.default_rng(0), n))
    return made


def _tokens(model: Any, rng: np.random.Generator, n: int) -> Tensor:
    """Return the tokens of texts of random words from the captions of the run's preview, from none to twice the words that are read."""
    known = " ".join(model.captions).split()
    count = rng.integers(0, 2 * model.tokenizer.words, n)
    made: Tensor = model.tokenizer.encode([" ".join(rng.choice(known, k)) for k in count.tolist()])
    return made

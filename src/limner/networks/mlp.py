"""The original GAN: two multilayer perceptrons.

Goodfellow et al. 2014, "Generative Adversarial Nets", section 5: rectifiers in the generator, maxout and dropout in the
discriminator. Conditions by concatenation: Mirza & Osindero 2014, "Conditional Generative Adversarial Nets", section 4.1. The last
activation is tanh, not the paper's sigmoid, because images are in [-1,1] here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.condition import encode

SOURCE = "Goodfellow et al. 2014, Generative Adversarial Nets"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(100, "Dimensions of the latent vector.", low=1, high=WIDEST)
    hidden: int = option(1024, "Units of each of the two hidden layers.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    maxout: int = option(240, "Units of each of the two maxout layers.", low=1, high=WIDEST)
    pieces: int = option(5, "Linear pieces per maxout unit.", low=1, high=WIDEST)
    dropout: float = option(0.3, "Dropout probability after each maxout layer.", low=0, high=1)


TINY_GENERATOR = GeneratorConfig(z_size=8, hidden=16)
TINY_DISCRIMINATOR = DiscriminatorConfig(maxout=8, pieces=2)


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        self.layers = nn.Sequential(
            nn.Linear(config.z_size + spec.condition.size, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, spec.channels * spec.height * spec.width),
        )

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = self.layers(_conditioned(z, self.spec.condition, c))
        return torch.tanh(x.float()).view(-1, self.spec.channels, *self.spec.size)


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        self.condition = spec.condition
        self.layers = nn.Sequential(
            Maxout(spec.channels * spec.height * spec.width + spec.condition.size, config.maxout, config.pieces),
            nn.Dropout(config.dropout),
            Maxout(config.maxout, config.maxout, config.pieces),
            nn.Dropout(config.dropout),
            nn.Linear(config.maxout, 1),
        )

    @property
    def last(self) -> nn.Module:
        return self.layers[-1]

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.layers(_conditioned(x.flatten(1), self.condition, c)).float().squeeze(1)


class Maxout(nn.Module):
    """The largest of several linear maps, unit by unit (Goodfellow et al. 2013, "Maxout networks"). [N,I] -> [N,O]"""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, outputs * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def _conditioned(x: Tensor, condition: Condition, c: Tensor | None) -> Tensor:
    """x [N,F], and beside it the condition as `networks.condition.encode` writes it. -> [N, F + condition.size]"""
    return torch.cat([x, encode(condition, c).to(x.dtype)], 1) if condition else x

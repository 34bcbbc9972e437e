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
from limner.networks.condition import encode

SOURCE = "Goodfellow et al. 2014, Generative Adversarial Nets"


@dataclass(frozen=True, kw_only=True)
class Config:
    z_size: int = 100  # numbers in a latent
    hidden: int = 1024  # units of the generator's two hidden layers
    maxout: int = 240  # units of the discriminator's two maxout layers
    pieces: int = 5  # linear pieces of a maxout unit
    dropout: float = 0.3  # in the discriminator


TINY = Config(z_size=8, hidden=16, maxout=8, pieces=2)


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
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

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
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

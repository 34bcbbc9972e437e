"""SAGAN: residual nets that attend to themselves, spectrally normalised on both sides.

Zhang et al. 2019, "Self-attention generative adversarial networks": attention at one middle map of either net (section
4.2), spectral normalisation in the generator too (section 3.3), unequal learning rates (section 3.3, in the recipe).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.attention import SelfAttention, attended
from limner.networks.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    SpectralLinear,
    base_size,
    centre_crop,
    levels,
    to_map,
)
from limner.networks.residual import ResidualCritic, UpBlock, spectral_conv, widths

SOURCE = "Zhang et al. 2019, Self-attention generative adversarial networks"


@dataclass(frozen=True, kw_only=True)
class Config:
    z_size: int = 128  # numbers in a latent
    width: int = 32  # channels next to the picture; doubles with every halving, up to 8 times


TINY = Config(z_size=8, width=8)


class Generator(nn.Module):
    """(z [N,Z], y [N] | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        self.base = base_size(spec, depth)
        outputs = widths(config.width, depth)[::-1]
        self.width = outputs[0]
        self.first = SpectralLinear(config.z_size, self.width * self.base[0] * self.base[1], bias=False)
        self.blocks = nn.ModuleList(
            [
                UpBlock(a, b, lambda c: ConditionalBatchNorm2d(c, spec.classes), spectral=True)
                for a, b in zip([self.width, *outputs[:-1]], outputs, strict=True)
            ]
        )
        self.attends_before = depth - attended(spec)  # which block works on the map that attended
        self.attention = SelfAttention([self.width, *outputs][self.attends_before])
        self.norm = BatchNorm2d(outputs[-1])
        self.last = spectral_conv(outputs[-1], spec.channels, 3)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x = to_map(self.first(z), self.width, self.base)  # [N,W,h,w]
        for i, block in enumerate(self.blocks):
            if i == self.attends_before:
                x = self.attention(x)
            x = block(x, y)  # [N,·,2h,2w]
        return torch.tanh(centre_crop(self.last(F.relu(self.norm(x))), self.spec.size).float())


class Critic(ResidualCritic):
    """(x [N,C,H,W], y [N] | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__(spec, config.width, attended(spec))

"""SNGAN: residual nets, the critic spectrally normalised.

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", appendix B.4 (figure 10, tables 4-6):
batch normalisation in the generator alone, sum pooling in the critic. With classes, conditional batch normalisation and
a projection critic (Miyato & Koyama 2018). The paper's net for 32x32 pictures is equally wide throughout; here widths
halve towards the picture, as in its nets for larger ones, for the sake of a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.layers import BatchNorm2d, ConditionalBatchNorm2d, base_size, centre_crop, levels, to_map
from limner.networks.residual import ResidualCritic, UpBlock, plain_conv, widths

SOURCE = "Miyato et al. 2018, Spectral normalization for generative adversarial networks"


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
        self.first = nn.Linear(config.z_size, self.width * self.base[0] * self.base[1], bias=False)
        self.blocks = nn.ModuleList(
            [
                UpBlock(a, b, lambda c: ConditionalBatchNorm2d(c, spec.classes), spectral=False)
                for a, b in zip([self.width, *outputs[:-1]], outputs, strict=True)
            ]
        )
        self.norm = BatchNorm2d(outputs[-1])
        self.last = plain_conv(outputs[-1], spec.channels, 3)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x = to_map(self.first(z), self.width, self.base)  # [N,W,h,w]
        for block in self.blocks:
            x = block(x, y)  # [N,·,2h,2w]
        return torch.tanh(centre_crop(self.last(F.relu(self.norm(x))), self.spec.size).float())


class Critic(ResidualCritic):
    """(x [N,C,H,W], y [N] | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__(spec, config.width)

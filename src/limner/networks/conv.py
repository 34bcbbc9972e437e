"""Plain convolutional nets with a spectrally normalized discriminator: the fastest start on a CPU.

A generator of strided transposed convolutions and a discriminator of strided convolutions, as in Miyato et al. 2018, "Spectral
normalization for generative adversarial networks" (appendix B.4, table 3), narrowed for a CPU:
images seen count for more than width in the first minutes. With a condition, the generator's batch normalization is
conditional (Dumoulin et al. 2017) and the discriminator's head is a projection (Miyato & Koyama 2018, "cGANs with projection
discriminator", eq. 3). Weights are orthogonal at the start (Brock et al. 2019, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.layers import (
    ConditionalBatchNorm2d,
    SpectralConv2d,
    SpectralLinear,
    UpConv2d,
    base_size,
    center_crop,
    levels,
    spectral_projection,
    to_map,
    to_row,
)

SOURCE = "Miyato et al. 2018, Spectral normalization for generative adversarial networks"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


def _widths(config: GeneratorConfig | DiscriminatorConfig, depth: int) -> list[int]:
    """Channels from the picture down."""
    return [config.width * min(8, 2**i) for i in range(depth)]


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        self.base = base_size(spec, depth)
        widths = _widths(config, depth)[::-1]
        self.first = nn.Linear(config.z_size, widths[0] * self.base[0] * self.base[1], bias=False)
        self.norms = nn.ModuleList([ConditionalBatchNorm2d(w, spec.condition) for w in widths])
        outputs = [*widths[1:], spec.channels]
        self.ups = nn.ModuleList([UpConv2d(a, b, bias=i == depth - 1) for i, (a, b) in enumerate(zip(widths, outputs, strict=True))])
        for up in self.ups:
            nn.init.orthogonal_(up.weight)  # type: ignore[arg-type]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = to_map(self.first(z), self.ups[0].in_channels, self.base)  # type: ignore[arg-type]  # [N,W,h,w]
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(F.relu(norm(x, c)))  # [N,·,2h,2w]
        return torch.tanh(center_crop(x, self.spec.size).float())


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        depth = levels(spec)
        widths = _widths(config, depth)
        inputs = [spec.channels, *widths[:-1]]
        self.convs = nn.ModuleList([SpectralConv2d(a, b, 4, 2, 1) for a, b in zip(inputs, widths, strict=True)])
        self.last = SpectralLinear(widths[-1] * (spec.height >> depth) * (spec.width >> depth), 1)
        self.projection = spectral_projection(spec.condition, widths[-1]) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)  # [N,W,h/2,w/2]
        logits = self.last(to_row(x)).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(x.float().sum((2, 3)), c)
        return logits

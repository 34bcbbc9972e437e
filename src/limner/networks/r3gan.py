"""The R3GAN ConvNet: residual nets without any normalization, kept stable by R1 and R2.

Huang et al. 2024, "The GAN is dead; long live the GAN! A modern baseline GAN", section 4 and appendix: each stage is a
bilinear resampling and residual blocks of 1x1 -> grouped 3x3 -> 1x1 with leaky ReLU and no normalization, initialized as
in Fixup (Zhang et al. 2019: the last convolution of a block starts at zero, the others are scaled by depth); the
generator starts from a learned 4x4 basis modulated by the latent, the discriminator ends in a depthwise convolution over its
4x4 map. Conditioning: an embedding concatenated to the latent, and a projection in
the discriminator.

Where this differs: widths are for small images and a CPU, and a block has no expansion; groups default to 1 group per 32
channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, option
from limner.networks.condition import ConditionEmbedding, Projection
from limner.networks.layers import base_size, center_crop, levels

SOURCE = "Huang et al. 2024, The GAN is dead; long live the GAN! A modern baseline GAN"

GAIN = (2 / (1 + 0.2**2)) ** 0.5  # of a leaky ReLU 0.2: keeps the variance (He et al. 2015)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    blocks: int = option(1, "Residual blocks per stage (2 in the paper).", low=0, high=DEEPEST)
    group_width: int = option(32, "Channels per group of the 3x3 convolutions, more where they do not divide the width (16 in the paper).", low=1, high=WIDEST)
    label_size: int = option(32, "Dimensions of the class embedding.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    blocks: int = option(1, "Residual blocks per stage (2 in the paper).", low=0, high=DEEPEST)
    group_width: int = option(32, "Channels per group of the 3x3 convolutions, more where they do not divide the width (16 in the paper).", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, group_width=4, label_size=4)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8, group_width=4)


def _conv(inputs: int, outputs: int, kernel: int, gain: float, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.normal_(conv.weight, 0, gain / (inputs // groups * kernel**2) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ResidualBlock(nn.Module):
    """x + 1x1(lrelu(3x3(lrelu(1x1(x))))), [N,W,H,W'] -> the same shape."""

    def __init__(self, width: int, group_width: int, blocks_in_all: int) -> None:
        super().__init__()
        # Fixup, with 2 scaled layers a branch: L^(-1/(2m-2)) for m = 3
        scale = blocks_in_all**-0.25
        most = max(1, width // group_width)
        groups = next(g for g in range(most, 0, -1) if width % g == 0)  # of equal width, whatever the two numbers are
        self.reduce = _conv(width, width, 1, GAIN * scale, bias=True)
        self.mix = _conv(width, width, 3, GAIN * scale, groups, bias=True)
        self.expand = _conv(width, width, 1, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.reduce(x), 0.2)
        y = F.leaky_relu(self.mix(y), 0.2)
        return x + self.expand(y)


def _widths(config: GeneratorConfig | DiscriminatorConfig, depth: int) -> list[int]:
    """Channels of the stages from the picture's size down to the bottom."""
    return [config.width * min(8, 2**i) for i in range(depth + 1)]


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W], about in [-1,1] (the last layer is linear)"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        size = base_size(spec, depth)
        widths = _widths(config, depth)[::-1]
        self.embedding = ConditionEmbedding(spec.condition, config.label_size) if spec.condition else None
        inputs = config.z_size + (config.label_size if spec.condition else 0)
        self.basis = nn.Parameter(torch.randn(widths[0], *size))
        self.first = nn.Linear(inputs, widths[0], bias=False)
        nn.init.normal_(self.first.weight, 0, inputs**-0.5)
        in_all = (depth + 1) * config.blocks
        self.stages = nn.ModuleList(
            [nn.Sequential(*[ResidualBlock(w, config.group_width, in_all) for _ in range(config.blocks)]) for w in widths]
        )
        self.transitions = nn.ModuleList([_conv(a, b, 1, 1.0) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.last = _conv(widths[-1], spec.channels, 1, 0.5, bias=True)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(c)], 1)
        x = (self.basis * self.first(z)[:, :, None, None]).contiguous(memory_format=torch.channels_last)  # [N,W,h,w]
        x = self.stages[0](x)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            # the 1x1 convolution and the resampling commute; the cheaper order first
            x = stage(F.interpolate(transition(x), scale_factor=2, mode="bilinear"))
        return center_crop(self.last(x), self.spec.size).float()


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        depth = levels(spec)
        widths = _widths(config, depth)
        in_all = (depth + 1) * config.blocks
        self.first = _conv(spec.channels, widths[0], 1, GAIN, bias=True)
        self.stages = nn.ModuleList(
            [nn.Sequential(*[ResidualBlock(w, config.group_width, in_all) for _ in range(config.blocks)]) for w in widths]
        )
        self.transitions = nn.ModuleList([_conv(a, b, 1, 1.0) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        size = spec.height >> depth, spec.width >> depth
        self.basis = nn.Conv2d(widths[-1], widths[-1], size, groups=widths[-1], bias=False)  # depthwise, over the map
        nn.init.normal_(self.basis.weight, 0, (size[0] * size[1]) ** -0.5)
        self.last = nn.Linear(widths[-1], 1, bias=False)
        embedding = ConditionEmbedding(spec.condition, widths[-1]) if spec.condition else None
        self.projection = Projection(embedding) if embedding is not None else None
        for weight in [self.last.weight] + ([embedding.table.weight] if embedding is not None else []):
            nn.init.normal_(weight, 0, widths[-1] ** -0.5)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        x = self.stages[0](self.first(x).contiguous(memory_format=torch.channels_last))  # of one channel, it is not yet
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(F.avg_pool2d(x, 2)))  # [N,W,h/2,w/2]
        # the depthwise convolution, as a sum: a convolution's double backward, which R1 needs, loops over its groups
        basis = self.basis.weight.transpose(0, 1).contiguous(memory_format=torch.channels_last)  # [1,W,h,w], as the gradient then is
        features = (x * basis).sum((2, 3))  # [N,W]
        logits = self.last(features).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(features, c)
        return logits

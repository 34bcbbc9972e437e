"""Residual blocks, generators and discriminators that SNGAN, SAGAN and BigGAN share.

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", appendix B.4, figure 10 and table 4;
with a condition, the projection of Miyato & Koyama 2018, "cGANs with projection discriminator", eq. 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.attention import SelfAttention
from limner.networks.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    SpectralConv2d,
    SpectralLinear,
    SpectralUpConv2d,
    UpConv2d,
    base_size,
    center_crop,
    levels,
    spectral_projection,
    to_map,
)


def widths(width: int, depth: int) -> list[int]:
    """Channels of each level, from full resolution down: doubled each time, at most 8x."""
    return [width * min(8, 2**i) for i in range(depth)]


def plain_conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size, orthogonal at the start."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    nn.init.orthogonal_(conv.weight)
    return conv


def spectral_conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> SpectralConv2d:
    return SpectralConv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class UpBlock(nn.Module):
    """Norm, ReLU, doubling and 3x3, norm, ReLU, 3x3, beside a doubled 1x1. [N,I,h,w] -> [N,O,2h,2w]

    norm: channels -> a module of (x, condition). No biases: the norms that follow would remove them.
    """

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module], spectral: bool) -> None:
        super().__init__()
        conv = spectral_conv if spectral else plain_conv
        self.norms = nn.ModuleList([norm(inputs), norm(outputs)])
        self.up = (SpectralUpConv2d if spectral else UpConv2d)(inputs, outputs, bias=False)
        if not spectral:
            nn.init.orthogonal_(self.up.weight)
        self.conv = conv(outputs, outputs, 3, bias=False)
        self.skip = conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        branch = self.up(F.relu(self.norms[0](x, condition)))
        branch = self.conv(F.relu(self.norms[1](branch, condition)))
        # a 1x1 convolution and nearest-neighbor doubling commute; the cheaper order
        return branch + F.interpolate(self.skip(x), scale_factor=2)


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, halving, beside a halved 1x1. [N,I,H,W] -> [N,O,H/2,W/2], or the same size.

    first: whether its input is the image, to which no ReLU is applied.
    """

    def __init__(self, inputs: int, outputs: int, down: bool = True, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.convs = nn.ModuleList([spectral_conv(inputs, outputs, 3), spectral_conv(outputs, outputs, 3)])
        self.skip = spectral_conv(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.convs[0](x if self.first else F.relu(x))
        branch = self.convs[1](F.relu(branch))
        if not self.down:
            return branch + self.skip(x)
        return F.avg_pool2d(branch, 2) + self.skip(F.avg_pool2d(x, 2))


class ResidualGenerator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]

    spectral: whether its weights are spectrally normalized. attention: upsamplings that remain after the self-attention; 0 is no
    attention.
    """

    def __init__(self, spec: ImageSpec, z_size: int, width: int, *, spectral: bool, attention: int = 0) -> None:
        super().__init__()
        self.spec, self.z_size = spec, z_size
        depth = levels(spec)
        self.base = base_size(spec, depth)
        outputs = widths(width, depth)[::-1]
        self.width = outputs[0]
        linear, conv = (SpectralLinear, spectral_conv) if spectral else (nn.Linear, plain_conv)
        self.first = linear(z_size, self.width * self.base[0] * self.base[1], bias=False)
        self.blocks = nn.ModuleList(
            [
                UpBlock(a, b, lambda channels: ConditionalBatchNorm2d(channels, spec.condition), spectral)
                for a, b in zip([self.width, *outputs[:-1]], outputs, strict=True)
            ]
        )
        self.attends_before = depth - attention if attention else None  # the block after the self-attention
        if self.attends_before is not None:
            self.attention = SelfAttention([self.width, *outputs][self.attends_before])
        self.norm = BatchNorm2d(outputs[-1])
        self.last = conv(outputs[-1], spec.channels, 3)

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        blocks: list[Any] = list(self.blocks)
        return [(block.up, block.norms[1].norm) for block in blocks]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = to_map(self.first(z), self.width, self.base)  # [N,W,h,w]
        for i, block in enumerate(self.blocks):
            if i == self.attends_before:
                x = self.attention(x)
            x = block(x, c)  # [N,·,2h,2w]
        return torch.tanh(center_crop(self.last(F.relu(self.norm(x))), self.spec.size).float())


class ResidualDiscriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]

    attention: downsamplings before the self-attention; 0 is no attention.
    """

    def __init__(self, spec: ImageSpec, width: int, attention: int = 0) -> None:
        super().__init__()
        channels: Sequence[int] = widths(width, levels(spec))
        inputs = [spec.channels, *channels[:-1]]
        blocks: list[nn.Module] = []
        for i, (a, b) in enumerate(zip(inputs, channels, strict=True)):
            blocks.append(DownBlock(a, b, first=i == 0))
            if i + 1 == attention:
                blocks.append(SelfAttention(b))
        self.blocks = nn.Sequential(*blocks, DownBlock(channels[-1], channels[-1], down=False))
        self.last = SpectralLinear(channels[-1], 1)
        self.projection = spectral_projection(spec.condition, channels[-1]) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        features = F.relu(self.blocks(x)).float().sum((2, 3))  # [N,W]
        logits = self.last(features).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(features, c)
        return logits

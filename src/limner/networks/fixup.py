"""Residual encoder and decoder stages without normalization, with Fixup initialization; the autoencoders use them.

He et al. 2016, "Identity mappings in deep residual networks", figure 4e: activation before convolution. There is no
normalization, so that the code of an image does not depend on the rest of the batch; the last convolution of a branch
starts at zero instead (Zhang et al. 2019, "Fixup initialization", section 3).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from limner.networks.layers import UpConv2d

SLOPE = 0.2  # of the leaky ReLUs


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the variance after a leaky ReLU (He et al. 2015, eq. 15)."""
    return scaled(nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2))


def scaled(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, SLOPE)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class FixupBlock(nn.Module):
    """x + 3x3(lrelu(3x3(lrelu(x)))), [N,W,H,W'] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = convolution(width, width, 3), convolution(width, width, 3)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(x, SLOPE))
        return x + self.last(F.leaky_relu(y, SLOPE))


def widths(width: int, halvings: int) -> list[int]:
    """Channels after each downsampling: doubled each time, at most 8 times the first."""
    return [width * min(8, 2**i) for i in range(halvings)]


def down(channels: int, width: int, halvings: int, blocks: int) -> nn.Sequential:
    """[N,C,H,W] -> [N, widths[-1], H >> halvings, W >> halvings], linear at the end."""
    layers: list[nn.Module] = []
    inputs = channels
    for i, outputs in enumerate(widths(width, halvings)):
        layers += [nn.LeakyReLU(SLOPE)] if i else []
        layers += [convolution(inputs, outputs, 4, 2), *(FixupBlock(outputs) for _ in range(blocks))]
        inputs = outputs
    return nn.Sequential(*layers)


def up(outputs: int, width: int, halvings: int, blocks: int) -> nn.Sequential:
    """[N, widths[-1], h, w] -> [N, outputs, h << halvings, w << halvings], linear at the end."""
    layers: list[nn.Module] = []
    sizes = widths(width, halvings)[::-1]
    for inputs, following in zip(sizes, [*sizes[1:], outputs], strict=True):
        layers += [FixupBlock(inputs) for _ in range(blocks)]
        layers += [nn.LeakyReLU(SLOPE), scaled(UpConv2d(inputs, following))]
    return nn.Sequential(*layers)

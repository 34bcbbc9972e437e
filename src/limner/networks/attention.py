"""Self-attention over the pixels of a map.

Zhang et al. 2019, "Self-attention generative adversarial networks", section 3. Keys and values are taken from the map
at half size, as in the authors' code, which the paper does not mention: a quarter of the cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.layers import SpectralConv2d, levels


class SelfAttention(nn.Module):
    """x + gain * out(softmax(q k) v), with the gain zero at first (eq. 3). [N,C,H,W] -> the same"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.query = SpectralConv2d(channels, narrow, 1, bias=False)
        self.key = SpectralConv2d(channels, narrow, 1, bias=False)
        self.value = SpectralConv2d(channels, half, 1, bias=False)
        self.out = SpectralConv2d(half, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # [N,HW,c]
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # [N,c,HW/4]
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # [N,C/2,HW/4]
        weights = torch.softmax((query @ key).float(), 2).to(value.dtype)
        mixed = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])  # [N,C/2,H,W]
        return x + (self.gain * self.out(mixed)).to(x.dtype)


def attended(spec: ImageSpec) -> int:
    """The number of downsamplings before the self-attention: one, or more where the map would have over 32x32 positions
    (section 4.2: middle to high resolutions work best). Each position attends to a quarter of all."""
    halvings = 1
    while (spec.height >> halvings) * (spec.width >> halvings) > 32 * 32 and halvings < levels(spec):
        halvings += 1
    return halvings

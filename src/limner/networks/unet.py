"""The U-Net translator: an encoder and a decoder with a skip connection at every resolution.

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section 3.2.1 and appendix 6.1.1:
4x4 convolutions of stride 2 and leaky ReLU 0.2 down, ReLU up, each level's map concatenated to that of the same size on the way up, dropout in the three
lowest levels on the way up. Normalization is instance-wise (the paper's batch norm with batches of one is just that),
doubling is by resize-convolution (Odena et al. 2016), and the number of downsamplings follows the image size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.layers import InstanceNorm2d, UpConv2d
from limner.networks.padding import crop_to, pad_to

SOURCE = "Isola et al. 2017, Image-to-image translation with conditional adversarial networks"


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    dropout: float = option(0.0, "Dropout probability in the three lowest decoder levels (0.5 in the paper).", low=0, high=1)


TINY = Config(width=8)


class Translator(nn.Module):
    """x [N,C,H,W] in [-1,1] -> the same shape; any H and W from `least` up."""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        depth = max(2, min(8, (min(spec.size) // 4).bit_length() - 1))
        self.multiple = 2**depth
        self.least = 2 * self.multiple  # smaller images leave instance normalization a single pixel
        widths = [config.width * min(8, 2**i) for i in range(depth)]
        self.downs = nn.ModuleList(
            [nn.Conv2d(a, b, 4, 2, 1) for a, b in zip([spec.channels, *widths[:-1]], widths, strict=True)]
        )
        self.down_norms = nn.ModuleList([InstanceNorm2d(w) if i else nn.Identity() for i, w in enumerate(widths)])
        outputs = [*widths[-2::-1], config.width]
        inputs = [widths[-1], *(2 * w for w in widths[-2::-1])]
        self.ups = nn.ModuleList([UpConv2d(a, b) for a, b in zip(inputs, outputs, strict=True)])
        self.up_norms = nn.ModuleList([InstanceNorm2d(w) for w in outputs])
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Conv2d(config.width + spec.channels, spec.channels, 3, padding=1)

    def bottleneck(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> the map of the lowest resolution [N,F,h,w]"""
        return self._encode(pad_to(x, self.multiple))[-1]

    def _encode(self, x: Tensor) -> list[Tensor]:
        """The padded image, then the map of each level."""
        found = [x]
        for down, norm in zip(self.downs, self.down_norms, strict=True):
            found.append(F.leaky_relu(norm(down(found[-1])), 0.2))  # [N,W,h/2,w/2]
        return found

    def forward(self, x: Tensor) -> Tensor:
        size, x = (x.shape[-2], x.shape[-1]), pad_to(x, self.multiple)
        skips = self._encode(x)
        y = skips.pop()
        for i, (up, norm) in enumerate(zip(self.ups, self.up_norms, strict=True)):
            y = F.relu(norm(up(y)))  # [N,·,2h,2w]
            y = self.dropout(y) if i < 3 else y
            y = torch.cat([y, skips.pop().to(y.dtype)], 1)
        return crop_to(torch.tanh(self.last(y).float()), size)

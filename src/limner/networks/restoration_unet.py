"""A U-Net without normalization, for restoration that needs context: filling holes and adding color.

Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", figure 1, with padded convolutions,
strided ones instead of pooling, and at the lowest resolution dilated residual blocks (Yu & Koltun 2016) that see far. There is
no normalization: it would tie each pixel to statistics of the whole picture, and holes would change them (Liu et al. 2018,
"Image inpainting for irregular holes using partial convolutions", section 3.3).

A hole is filled smoothly first, and the network adds what the filling misses: with mid gray in the hole it had to learn from
its pictures which color borders on which, and left seams.

    x [N,I,H,W] -> head -> (two 3x3 convs, stride 2) per level -> dilated blocks -> (up, concatenate, two 3x3 convs) -> last
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.layers import UpConv2d
from limner.networks.padding import crop_to, pad_to
from limner.networks.restoration import filled

SOURCE = "Ronneberger et al. 2015, U-Net: convolutional networks for biomedical image segmentation"
SLOPE = 0.1  # of the leaky ReLU
DILATIONS = (1, 2, 4)
RED, BLUE = 1.402, 1.772  # of BT.601's color differences, full range
LUMA = (0.299, 0.587, 0.114)  # of BT.601


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(24, "Channels at full resolution; doubled at each downsampling, at most 4x.", low=1, high=WIDEST)
    downsamplings: int = option(4, "Stride-2 convolutions: more see farther.", low=1, high=8)
    blocks: int = option(3, "Dilated residual blocks at the lowest resolution.", low=0, high=DEEPEST)


TINY = Config(width=4, downsamplings=2, blocks=1)


class Restorer(nn.Module):
    """x [N,I,H,W] -> [N,C,H,W] in or near [-1,1]; with the contract `networks.contracts.RestorerNetwork`.

    inputs: C, or C+1 with a mask as the last channel (1 in the hole, 0 elsewhere): nothing in the hole is used, the output is of the
    whole picture, and the caller composes it with the input; or 1, the luma of a color picture: the network predicts both color
    differences (BT.601, full range) and the luma stays as it is. Before training, the last layer is zero and the output is the
    input, in which the hole is `networks.restoration.filled`.
    """

    scale = 1
    radius: int | None = None  # the context is wide enough to be treated as the whole picture

    def __init__(self, spec: ImageSpec, config: Config = Config(), inputs: int | None = None) -> None:
        super().__init__()
        check(config)
        self.channels, self.inputs = spec.channels, inputs or spec.channels
        self.fills_holes = self.inputs == self.channels + 1
        self.colorizes = self.inputs == 1 and self.channels == 3
        self.multiple = 2**config.downsamplings
        self.least = self.multiple
        widths = [config.width * min(4, 2**i) for i in range(config.downsamplings + 1)]
        steps = list(zip(widths, widths[1:], strict=False))
        self.head = _conv(self.inputs, widths[0])
        self.downs = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1) for a, b in steps])
        self.encoders = nn.ModuleList([_conv(b, b) for _, b in steps])
        self.blocks = nn.ModuleList([_Dilated(widths[-1], DILATIONS[i % len(DILATIONS)]) for i in range(config.blocks)])
        self.ups = nn.ModuleList([UpConv2d(b, a) for a, b in reversed(steps)])
        self.decoders = nn.ModuleList([_conv(2 * a, a) for a, _ in reversed(steps)])
        self.last = _conv(widths[0], 2 if self.colorizes else self.channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        x = pad_to(x, self.multiple)
        if self.fills_holes:
            mask = x[:, self.channels :]
            x = torch.cat([filled(x[:, : self.channels].float(), mask.float(), len(self.downs)), mask.float()], 1)
        y = F.leaky_relu(self.head(x), SLOPE)  # [N,W,H,W]
        skips = []
        for down, conv in zip(self.downs, self.encoders, strict=True):
            skips.append(y)
            y = F.leaky_relu(conv(F.leaky_relu(down(y), SLOPE)), SLOPE)  # [N,·,h/2,w/2]
        for block in self.blocks:
            y = block(y)
        for up, conv in zip(self.ups, self.decoders, strict=True):
            y = F.leaky_relu(up(y), SLOPE)  # [N,·,2h,2w]
            y = F.leaky_relu(conv(torch.cat([y, skips.pop().to(y.dtype)], 1)), SLOPE)
        made = self.last(y).float()
        return crop_to(with_chroma(x.float(), made) if self.colorizes else x[:, : self.channels].float() + made, size)

    def fused(self) -> Restorer:
        """Return a copy: there are no branches to merge."""
        return copy.deepcopy(self)


def with_chroma(luma: Tensor, chroma: Tensor) -> Tensor:
    """The RGB picture [N,3,H,W] of a luma [N,1,H,W] in [-1,1] and color differences Cb, Cr [N,2,H,W] in [-1,1] (BT.601)."""
    cb, cr = chroma.chunk(2, 1)
    red, blue = luma + RED * cr, luma + BLUE * cb
    green = (luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.cat([red, green, blue], 1)


class _Dilated(nn.Module):
    """x + conv(leaky ReLU(dilated conv(x)))"""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(x), SLOPE))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)

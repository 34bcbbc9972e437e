"""The patch discriminator (PatchGAN): a logit for each of many overlapping patches.

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section 3.2.2 and appendix 6.1.2:
strided 4x4 convolutions, leaky ReLU 0.2, a map of logits instead of one. The paper's receptive field is 70x70 pixels
of 256x256; here the number of downsamplings follows the size of the image. With `spectral`
the weights are normalized (Miyato et al. 2018) instead of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.layers import InstanceNorm2d, SpectralConv2d

SOURCE = "Isola et al. 2017, Image-to-image translation with conditional adversarial networks"


NORMS = ("instance", "spectral", "none")


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(64, "Channels after the first convolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    norm: str = option("instance", "Normalization: instance (as published), spectral or none.", choices=NORMS)
    downsamplings: int = option(0, "Stride-2 convolutions: more give larger patches; 0 chooses by the recipe and the image size (3 from 128 pixels, 2 below).", low=0, high=DEEPEST)


TINY = Config(width=8)


class Discriminator(nn.Module):
    """x [N,C,H,W] -> logits [N,h,w], one a patch. channels: of its input, where that is not the image alone."""

    def __init__(self, spec: ImageSpec, config: Config = Config(), channels: int | None = None) -> None:
        super().__init__()
        check(config)
        downsamplings = config.downsamplings or (3 if min(spec.size) >= 128 else 2)
        height, width = (side >> downsamplings for side in spec.size)
        if height * width < (2 if config.norm == "instance" else 1):  # a single pixel has no variance to normalize
            raise ValueError(f"{downsamplings} downsamplings leave no patches in {spec.height}x{spec.width}: give the discriminator fewer.")
        widths = [config.width * min(8, 2**i) for i in range(downsamplings + 1)]
        strides = [2] * downsamplings + [1]
        inputs = [channels or spec.channels, *widths[:-1]]
        make = SpectralConv2d if config.norm == "spectral" else _plain
        self.convs = nn.ModuleList(
            # the last keeps its size with a 3x3 kernel, so that small images keep some patches
            [make(a, b, 4 if s == 2 else 3, s, 1) for a, b, s in zip(inputs, widths, strides, strict=True)]
        )
        normal = config.norm == "instance"
        self.norms = nn.ModuleList(
            [InstanceNorm2d(w) if normal and i else nn.Identity() for i, w in enumerate(widths)]
        )
        self.last = make(widths[-1], 1, 3, 1, 1)

    def forward_with_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the feature map of every level, and the logits [N,h,w], of x [N,C,H,W]."""
        maps = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            maps.append(x)
        return maps, self.last(x).float().squeeze(1)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.forward_with_features(x)[1]


def _plain(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
    nn.init.normal_(conv.weight, 0, 0.02)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv

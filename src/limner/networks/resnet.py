"""The residual translator: two halvings, a row of residual blocks, two doublings.

Johnson et al. 2016, "Perceptual losses for real-time style transfer", and Zhu et al. 2017, "Unpaired image-to-image
translation using cycle-consistent adversarial networks", appendix 7.2: c7s1-w, d2w, d4w, R4w x 6 below 256 pixels and 9
from there, u2w, uw, c7s1. Doubling is by resize-convolution (Odena et al. 2016), and only the 7x7 layers mirror the
border. It is fully convolutional, so it translates any size.

With `keep` the last layer also outputs a mask that blends input and output (Pumarola et al. 2018, "GANimation", eq. 1): the
untrained translator is nearly the identity, so that a short training need not first learn to copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, check, option
from limner.networks.layers import InstanceNorm2d, UpConv2d
from limner.networks.padding import crop_to, pad_to

SOURCE = "Zhu et al. 2017, Unpaired image-to-image translation using cycle-consistent adversarial networks"


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(32, "Channels at full resolution, doubled at each of the two downsamplings (64 in the paper).", low=1, high=WIDEST)
    blocks: int = option(0, "Residual blocks; 0 chooses 6 below 256 pixels and 9 from there.", low=0, high=64)
    attention_mask: bool = option(False, "Blend the output with the input by a predicted mask, so that training starts near the identity.")


TINY = Config(width=8, blocks=2)
KEPT = 3.0  # the mask's first logit: 95 % of each pixel stays


class ResnetBlock(nn.Module):
    """x + norm(3x3(relu(norm(3x3(x))))), [N,W,H,W'] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList([InstanceNorm2d(width), InstanceNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return x + self.norms[1](self.second(y))


class Translator(nn.Module):
    """x [N,C,H,W] in [-1,1] -> the same shape; any H and W from `least` up."""

    least = 16

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        check(config)
        w, c = config.width, spec.channels
        blocks = [ResnetBlock(4 * w) for _ in range(config.blocks or (9 if min(spec.size) >= 256 else 6))]
        half = len(blocks) // 2
        self.encoder = nn.ModuleList(
            [
                _stage(nn.Conv2d(c, w, 7, padding=3, padding_mode="reflect", bias=False), w),
                _stage(nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False), 2 * w),
                _stage(nn.Conv2d(2 * w, 4 * w, 3, 2, 1, bias=False), 4 * w),
                *blocks[:half],
            ]
        )
        self.decoder = nn.Sequential(
            *blocks[half:],
            _stage(UpConv2d(4 * w, 2 * w, bias=False), 2 * w),
            _stage(UpConv2d(2 * w, w, bias=False), w),
            nn.Conv2d(w, c + config.attention_mask, 7, padding=3, padding_mode="reflect"),
        )
        self.attention_mask = config.attention_mask
        self.feature_widths = [c, 2 * w, 4 * w, *([4 * w] if half else [])]
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if config.attention_mask:
            last = self.decoder[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.constant_(last.bias[c:], KEPT)

    def features(self, x: Tensor) -> list[Tensor]:
        """x [N,C,H,W] -> feature maps for PatchNCE: the image, both downsampled maps, and the last map of the encoder"""
        return self._encode(pad_to(x, 4))[1]

    def bottleneck(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> the map of the lowest resolution [N,F,h,w], the last of the encoder"""
        return self._encode(pad_to(x, 4))[0]

    def with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x [N,C,H,W] -> the translation [N,C,H,W] and, from the same pass, the features of x"""
        size, x = (x.shape[-2], x.shape[-1]), pad_to(x, 4)
        y, features = self._encode(x)
        made = self.decoder(y).float()
        if self.attention_mask:
            made = torch.lerp(torch.tanh(made[:, :-1]), x.float(), torch.sigmoid(made[:, -1:]))
        else:
            made = torch.tanh(made)
        return crop_to(made, size), features

    def _encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = [x]
        for i, stage in enumerate(self.encoder):
            x = stage(x)
            if i in (1, 2):
                found.append(x)
        return x, found if len(self.encoder) == 3 else [*found, x]

    def forward(self, x: Tensor) -> Tensor:
        return self.with_features(x)[0]


def _stage(conv: nn.Conv2d, width: int) -> nn.Sequential:
    return nn.Sequential(conv, InstanceNorm2d(width), nn.ReLU())

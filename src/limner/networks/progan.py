"""Progressive growing (ProGAN): networks whose resolution grows during training.

Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and variation": equalized learning rates, pixel
normalization in the generator, the standard deviation over a minibatch in the discriminator, new levels faded in (figure 2).
Images have full size at every level, so that no other code depends on it: the generator upsamples its output, the
discriminator downsamples its input, and only the layers of the level are computed. Conditioning: an embedding
concatenated to the latent and a projection in the discriminator, where the paper has an auxiliary classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.batch_stats import MinibatchStddev
from limner.networks.condition import ConditionEmbedding
from limner.networks.contracts import ProgressiveNet
from limner.networks.equalized import EqualConv2d, EqualLinear, RectifiedConv2d, equal_projection, pixel_norm, rectified
from limner.networks.layers import base_size, levels, to_map, to_row
from limner.networks.residual import widths

SOURCE = "Karras et al. 2018, Progressive growing of GANs for improved quality, stability, and variation"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(128, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    growing: float = option(0.5, "Fraction of the budget over which the resolution grows; 0 trains at full resolution from the start.", low=0, high=1)
    label_size: int = option(32, "Dimensions of the class embedding.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    growing: float = option(0.5, "Fraction of the budget over which the resolution grows; must equal the generator's.", low=0, high=1)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, label_size=4)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class Generator(ProgressiveNet):
    """(z [N,Z], c | None) -> [N,C,H,W], about in [-1,1] (the last layer is linear)"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__(levels(spec), config.growing)
        self.spec, self.z_size = spec, config.z_size
        self.base = base_size(spec, self.depth)
        channels = widths(config.width, self.depth + 1)[::-1]
        self.embedding = ConditionEmbedding(spec.condition, config.label_size) if spec.condition else None
        inputs = config.z_size + (config.label_size if spec.condition else 0)
        self.width = channels[0]
        # a quarter of He's constant, as the latent is normalized over all its numbers (appendix A.1)
        self.first = EqualLinear(inputs, self.width * self.base[0] * self.base[1], gain=0.25)
        self.mix = RectifiedConv2d(self.width, self.width, 3)
        self.stages = nn.ModuleList(
            [
                nn.ModuleList([RectifiedConv2d(a, b, 3), RectifiedConv2d(b, b, 3)])
                for a, b in zip(channels[:-1], channels[1:], strict=True)
            ]
        )
        self.colors = nn.ModuleList([EqualConv2d(c, spec.channels, 1) for c in channels])

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(c)], 1)
        x = to_map(rectified(self.first(pixel_norm(z))), self.width, self.base)  # [N,W,h,w]
        x = pixel_norm(self.mix(pixel_norm(x)))
        level = self.level
        lower, upper = floor(level), ceil(level)
        picture = self.colors[0](x) if lower == 0 else None
        for i, stage in enumerate(self.stages[:upper], 1):
            x = F.interpolate(x, scale_factor=2)
            for conv in stage:  # type: ignore[attr-defined]
                x = pixel_norm(conv(x))  # [N,·,2h,2w]
            if i >= lower:
                finer = self.colors[i](x)
                picture = finer if picture is None else torch.lerp(F.interpolate(picture, scale_factor=2), finer,
                                                                   level - lower)  # fmt: skip
        assert picture is not None
        picture = F.interpolate(picture, scale_factor=2 ** (self.depth - upper))
        # cropped at the bottom right, so that pixels align with the cells that the discriminator and `at_level` pool
        return picture[..., : self.spec.height, : self.spec.width].float()

    def at_level(self, x: Tensor) -> Tensor:
        """Real images, in which details fade in with the level (appendix A.1). [N,C,H,W] -> [N,C,H,W]"""
        level = self.level
        fade = level - floor(level)
        if not fade:
            return x
        coarse = F.avg_pool2d(x, 2 ** (self.depth - floor(level)), ceil_mode=True, count_include_pad=False)
        coarse = F.interpolate(coarse, scale_factor=2 ** (self.depth - floor(level)))
        return torch.lerp(coarse[..., : x.shape[2], : x.shape[3]], x, fade)


class Discriminator(ProgressiveNet):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__(levels(spec), config.growing)
        channels = widths(config.width, self.depth + 1)
        self.colors = nn.ModuleList([RectifiedConv2d(spec.channels, c, 1) for c in channels])
        self.stages = nn.ModuleList(
            [
                nn.ModuleList([RectifiedConv2d(a, a, 3), RectifiedConv2d(a, b, 3)])
                for a, b in zip(channels[:-1], channels[1:], strict=True)
            ]
        )
        wide = channels[-1]
        self.minibatch_stddev = MinibatchStddev()
        self.mix = RectifiedConv2d(wide + 1, wide, 3)
        self.dense = EqualLinear(wide * (spec.height >> self.depth) * (spec.width >> self.depth), wide)
        self.last = EqualLinear(wide, 1)
        self.projection = equal_projection(spec.condition, wide) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        level = self.level
        lower, upper = floor(level), ceil(level)
        shrunk = F.avg_pool2d(x, 2 ** (self.depth - upper)) if upper < self.depth else x
        h = self.colors[self.depth - upper](shrunk).contiguous(memory_format=torch.channels_last)  # of one channel, it is not yet
        for i in range(self.depth - upper, self.depth):  # stage i halves what has been halved i times
            for conv in self.stages[i]:  # type: ignore[attr-defined]
                h = conv(h)
            h = F.avg_pool2d(h, 2)  # [N,·,H/2,W/2]
            if i == self.depth - upper and lower < upper:
                coarse = self.colors[i + 1](F.avg_pool2d(shrunk, 2))
                h = torch.lerp(coarse, h, level - lower)
        h = self.mix(self.minibatch_stddev(h))
        features = rectified(self.dense(to_row(h)))  # [N,W]
        logits = self.last(features).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(features, c)
        return logits

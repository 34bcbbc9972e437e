"""FastGAN: a light generator and a self-supervised discriminator for small data sets.

Liu et al. 2021, "Towards faster and stabilized GAN training for high-fidelity few-shot image synthesis": a thin generator
whose low-resolution maps gate the channels of high-resolution ones (skip-layer excitation, section 3.1, eq. 1), and a
discriminator regularized by an auxiliary loss, the reconstruction of real images from its features (section 3.2, eq. 2-3).
Its error is L1, where the paper uses a perceptual distance, which needs a pretrained network. The logit is the mean over
patches. Conditioning, which the paper lacks: an embedding concatenated to the latent, and a projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.condition import ConditionEmbedding
from limner.networks.layers import (
    BatchNorm2d,
    SpectralConv2d,
    SpectralLinear,
    UpConv2d,
    base_size,
    center_crop,
    levels,
    spectral_projection,
    to_map,
)
from limner.networks.residual import plain_conv, widths

SOURCE = "Liu et al. 2021, Towards faster and stabilized GAN training for high-fidelity few-shot image synthesis"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(128, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    label_size: int = option(32, "Dimensions of the class embedding.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, label_size=4)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class Excitation(nn.Module):
    """Skip-layer excitation: a small map gates the channels of a large one (eq. 1). [N,I,h,w], [N,O,H,W] -> [N,O,H,W]

    shrink: downsamplings from the small map to the generator's lowest resolution, `base`, which the first convolution covers.
    """

    def __init__(self, inputs: int, outputs: int, base: tuple[int, int], shrink: int) -> None:
        super().__init__()
        self.shrink = 2**shrink
        self.reach = nn.Conv2d(inputs, outputs, base)
        self.mix = nn.Conv2d(outputs, outputs, 1)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        x = F.avg_pool2d(small, self.shrink) if self.shrink > 1 else small
        return large * torch.sigmoid(self.mix(F.leaky_relu(self.reach(x), 0.1)))


class GatedUp(nn.Module):
    """Upsampling by 2 and 3x3, norm, gated linear unit. [N,I,h,w] -> [N,O,2h,2w]"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = UpConv2d(inputs, 2 * outputs, bias=False)
        nn.init.orthogonal_(self.conv.weight)
        self.norm = BatchNorm2d(2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.norm(self.conv(x)), 1)


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        self.base = base_size(spec, depth)
        channels = widths(config.width, depth + 1)[::-1]
        self.embedding = ConditionEmbedding(spec.condition, config.label_size) if spec.condition else None
        inputs = config.z_size + (config.label_size if spec.condition else 0)
        self.width = 2 * channels[0]
        self.first = nn.Linear(inputs, self.width * self.base[0] * self.base[1], bias=False)
        self.norm = BatchNorm2d(self.width)
        self.ups = nn.ModuleList([GatedUp(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)])
        self.reach = min(4, max(2, depth - 2))  # levels between the two maps (the paper: 16 times the size)
        self.excitations = nn.ModuleList(
            [Excitation(channels[i], channels[i + self.reach], self.base, i) for i in range(depth + 1 - self.reach)]
        )
        self.last = plain_conv(channels[-1], spec.channels, 3)

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        return [(self.first, self.norm), *((up.conv, up.norm) for up in self.ups)]  # type: ignore[list-item]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(c)], 1)
        maps = [F.glu(self.norm(to_map(self.first(z), self.width, self.base)), 1)]  # [N,W,h,w]
        for i, up in enumerate(self.ups, 1):
            x = up(maps[-1])  # [N,·,2h,2w]
            if i >= self.reach:
                x = self.excitations[i - self.reach](maps[i - self.reach], x)
            maps.append(x)
        return torch.tanh(center_crop(self.last(maps[-1]), self.spec.size).float())


class Down(nn.Module):
    """4x4 stride 2 and 3x3, beside a halved 1x1 (figure 4). [N,I,H,W] -> [N,O,H/2,W/2]"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.halve = SpectralConv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norms = nn.ModuleList([BatchNorm2d(outputs) for _ in range(3)])
        self.mix = SpectralConv2d(outputs, outputs, 3, padding=1, bias=False)
        self.skip = SpectralConv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.leaky_relu(self.norms[0](self.halve(x)), 0.2)
        branch = F.leaky_relu(self.norms[1](self.mix(branch)), 0.2)
        skip = F.leaky_relu(self.norms[2](self.skip(F.avg_pool2d(x, 2))), 0.2)
        return (branch + skip) * 0.5


class Decoder(nn.Module):
    """Reconstructs a small image from features. [N,I,h,w] -> [N,C,h*2^doublings,w*2^doublings] in [-1,1]"""

    def __init__(self, inputs: int, outputs: int, doublings: int) -> None:
        super().__init__()
        sizes = [max(8, inputs >> i) for i in range(doublings + 1)]
        self.ups = nn.Sequential(*[GatedUp(a, b) for a, b in zip([inputs, *sizes[1:-1]], sizes[1:], strict=True)])
        self.last = plain_conv(sizes[-1], outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(self.ups(x)).float())


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N], and an auxiliary loss (`networks.contracts.SelfSupervised`)"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        depth = levels(spec)
        channels = widths(config.width, depth + 1)
        self.first = SpectralConv2d(spec.channels, channels[0], 3, padding=1)
        self.downs = nn.ModuleList([Down(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)])
        self.head = SpectralConv2d(channels[-1], channels[-1], 1, bias=False)
        self.norm = BatchNorm2d(channels[-1])
        self.last = SpectralLinear(channels[-1], 1)
        self.projection = spectral_projection(spec.condition, channels[-1]) if spec.condition else None
        self.doublings = min(2, depth)
        self.whole = Decoder(channels[-1], spec.channels, self.doublings)
        self.depth, self.part_doublings = depth, self.doublings - 1 or 1
        self.part = Decoder(channels[-2], spec.channels, self.part_doublings)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last two feature maps. [N,C,H,W] -> [N,V,2h,2w], [N,W,h,w]"""
        x = F.leaky_relu(self.first(x), 0.2)
        before = x
        for down in self.downs:
            before, x = x, down(x)  # [N,·,H/2,W/2]
        return before, x

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.logits(self.maps(x)[1], c)

    def logits(self, x: Tensor, c: Tensor | None) -> Tensor:
        """The logits of the last map. [N,W,h,w], c | None -> [N]"""
        x = F.leaky_relu(self.norm(self.head(x)), 0.2)
        # the mean of the patches' logits is the logit of the mean of their features
        features = x.float().mean((2, 3))  # [N,W]
        logits = self.last(features).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(features, c)
        return logits

    def forward_with_aux(self, x: Tensor, c: Tensor | None, u: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and the auxiliary reconstruction loss, in one forward pass: the whole image from the last map, and a
        quarter, which u in [0,1) chooses, from the map before (eq. 3). [N,C,H,W], c | None, [N] -> [N], [N]"""
        before, after = self.maps(x)
        return self.logits(after, c), self.aux_loss(x, before, after, u)

    def aux_loss(self, x: Tensor, before: Tensor, after: Tensor, u: Tensor) -> Tensor:
        """The reconstruction error of images from their last two maps. [N,C,H,W], [N,V,2h,2w], [N,W,h,w], [N] -> [N]"""
        whole = self.whole(after)
        loss = (whole - _resized(x, whole)).abs().mean((1, 2, 3))
        corner = (u * 4).long().clamp_max(3)
        h, w = before.shape[2] // 2, before.shape[3] // 2
        part = self.part(_quarter(before, corner, (h, w)))
        # the pixels that the positions of the map stand for
        cell = 2 ** (self.depth - 1)
        seen = x[:, :, : before.shape[2] * cell, : before.shape[3] * cell]
        truth = _quarter(seen, corner, (h * cell, w * cell))
        return loss + (part - _resized(truth, part)).abs().mean((1, 2, 3))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="area")


def _quarter(x: Tensor, corner: Tensor, size: tuple[int, int]) -> Tensor:
    """A crop of `size` from one corner of each map: top left, top right, bottom left or bottom right. [N,C,H,W] -> [N,C,*size]"""
    h, w = size
    quarters = torch.stack([x[:, :, :h, :w], x[:, :, :h, -w:], x[:, :, -h:, :w], x[:, :, -h:, -w:]], 1)
    return quarters[torch.arange(len(x), device=x.device), corner]

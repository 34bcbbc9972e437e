"""A generator in the latents of an autoencoder: the networks of the recipe `latent`.

    z [N,Z] ──▶ LatentGenerator ──▶ latents [N,K,h,w] ──▶ Decoder ──▶ picture [N,C,H,W]     Generator: what is published
    picture ──▶ Encoder ──▶ latents ──▶ Discriminator ──▶ logits [N]                         in training only

The autoencoder learns first: how pictures look closely. The adversarial networks then only decide what is where, on maps of
1/64 of the pixels, which costs a fraction of a pixel network's time and is why whole objects form early. The division into a
perceptual and a generative stage is that of Esser et al. 2021, "Taming transformers for high-resolution image synthesis",
section 3, and Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", section 3.1, with a GAN in
place of a transformer or a diffusion model. Latents have mean 0 and variance 1 per channel over the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    SpectralConv2d,
    SpectralLinear,
    UpConv2d,
    center_crop,
    spectral_projection,
    to_map,
    to_row,
)

SOURCE = "Esser et al. 2021, Taming transformers for high-resolution image synthesis"

PATCH = 2  # the autoencoder sees pixels in squares of this side, which halves its resolution at the cost of one convolution
SLOPE = 0.2  # of leaky ReLU
BOTTOM = 4  # resolution at which the latent generator starts, and the discriminator ends


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(64, "Channels of the latent generator at the latents' resolution; doubled at each lower one.", low=1, high=WIDEST)
    blocks: int = option(1, "Residual convolutions of the latent generator per resolution.", low=0, high=DEEPEST)
    latent_channels: int = option(4, "Channels of the latents: more are closer to the picture, and harder to generate.", low=1, high=WIDEST)
    downsamplings: int = option(3, "Halvings of the resolution from the picture to the latents.", low=1, high=6)
    decoder_width: int = option(32, "Channels of the autoencoder at half the picture's resolution; doubled at each lower one, at most 4x.", low=1, high=WIDEST)
    decoder_blocks: int = option(1, "Residual blocks of the autoencoder at the latents' resolution.", low=0, high=DEEPEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(64, "Channels of the discriminator at the latents' resolution; doubled at each lower one.", low=1, high=WIDEST)
    blocks: int = option(1, "Convolutions of the discriminator at the latents' resolution besides the first.", low=0, high=DEEPEST)
    gain: float = option(15.0, "Factor on the discriminator's input: with spectral normalization, its Lipschitz constant is at most this.", low=0)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, decoder_width=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


def latent_size(spec: ImageSpec, config: GeneratorConfig) -> tuple[int, int]:
    """Return (h, w) of the latents of a picture, whose sides are padded to a multiple of the downsampling."""
    factor = 2**config.downsamplings
    return -(-spec.height // factor), -(-spec.width // factor)


def doublings(size: tuple[int, int]) -> int:
    """Return how often maps are doubled from about BOTTOM to the resolution of the latents."""
    return max(0, round(log2(max(1, min(size) / BOTTOM))))


def _widths(config: GeneratorConfig) -> list[int]:
    """Channels of the autoencoder, from half the picture's resolution down to that of the latents."""
    return [config.decoder_width * min(4, 2**i) for i in range(config.downsamplings)]


class Block(nn.Module):
    """x + two 3x3 convolutions of it, the second zero at the start. [N,W,h,w] -> the same"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.two.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.leaky_relu(self.one(F.leaky_relu(x, SLOPE)), SLOPE))


class Encoder(nn.Module):
    """x [N,C,H,W] in [-1,1] -> latents [N,K,h,w], standardized per channel by the statistics of the batch while the encoder is
    trained, and by their running means afterwards."""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig) -> None:
        super().__init__()
        self.size = tuple(side * 2**config.downsamplings for side in latent_size(spec, config))
        widths = _widths(config)
        self.first = nn.Conv2d(spec.channels * PATCH**2, widths[0], 3, padding=1)
        self.downs = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(widths, widths[1:], strict=False)])
        self.blocks = nn.Sequential(*[Block(widths[-1]) for _ in range(config.decoder_blocks)])
        self.last = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)
        self.standardize = BatchNorm2d(config.latent_channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        top, left = ((side - now) // 2 for side, now in zip(self.size, x.shape[-2:], strict=True))
        x = F.pad(x, (left, self.size[1] - x.shape[-1] - left, top, self.size[0] - x.shape[-2] - top), mode="replicate")
        x = self.first(F.pixel_unshuffle(x, PATCH))
        for down in self.downs:
            x = down(F.leaky_relu(x, SLOPE))
        x = self.last(F.leaky_relu(self.blocks(x), SLOPE)).float()
        self.standardize.train(self.training and self.last.weight.requires_grad)
        return self.standardize(x)


class Decoder(nn.Module):
    """Latents [N,K,h,w] -> picture [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig) -> None:
        super().__init__()
        self.size = spec.size
        widths = _widths(config)[::-1]
        self.first = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*[Block(widths[0]) for _ in range(config.decoder_blocks)])
        self.ups = nn.ModuleList([UpConv2d(a, b) for a, b in zip(widths, widths[1:], strict=False)])
        self.last = nn.Conv2d(widths[-1], spec.channels * PATCH**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.blocks(self.first(latents))
        for up in self.ups:
            x = up(F.leaky_relu(x, SLOPE))
        x = F.pixel_shuffle(self.last(F.leaky_relu(x, SLOPE)), PATCH)
        return torch.tanh(center_crop(x, self.size).float())


class LatentGenerator(nn.Module):
    """(z [N,Z], c | None) -> latents [N,K,h,w]: residual convolutions at each resolution, doubled by resize-convolution."""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig) -> None:
        super().__init__()
        self.spec, self.z_size, self.size = spec, config.z_size, latent_size(spec, config)
        depth = doublings(self.size)
        self.base = -(-self.size[0] // 2**depth), -(-self.size[1] // 2**depth)
        widths = [config.width * 2**i for i in reversed(range(depth + 1))]
        self.first = nn.Linear(config.z_size, widths[0] * self.base[0] * self.base[1], bias=False)
        self.blocks = nn.ModuleList(
            [nn.ModuleList([_Residual(w, spec) for _ in range(config.blocks)]) for w in widths]
        )
        self.norms = nn.ModuleList([ConditionalBatchNorm2d(w, spec.condition) for w in widths])
        self.ups = nn.ModuleList([UpConv2d(a, b, bias=False) for a, b in zip(widths, widths[1:], strict=False)])
        self.last = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)
        for up in self.ups:
            nn.init.orthogonal_(up.weight)  # type: ignore[arg-type]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = to_map(self.first(z), self.norms[0].norm.num_features, self.base)  # type: ignore[arg-type, union-attr]
        for i, (blocks, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, c)
            x = F.relu(norm(x, c))
            x = self.ups[i](x) if i < len(self.ups) else self.last(x)  # [N,·,2h,2w], in the end [N,K,h,w]
        return center_crop(x, self.size).float()


class _Residual(nn.Module):
    """x + a 3x3 convolution of it, zero at the start. [N,W,h,w], c -> the same"""

    def __init__(self, width: int, spec: ImageSpec) -> None:
        super().__init__()
        self.norm = ConditionalBatchNorm2d(width, spec.condition)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        return x + self.conv(F.relu(self.norm(x, c)))


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        check(config)
        self.spec, self.z_size = spec, config.z_size
        self.latents, self.decoder = LatentGenerator(spec, config), Decoder(spec, config)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.decoder(self.latents(z, c))


class Discriminator(nn.Module):
    """(latents [N,K,h,w], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, generator: GeneratorConfig, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        """spec, generator: of the pictures and the network whose latents it sees."""
        super().__init__()
        check(config)
        self.gain = config.gain
        height, width = latent_size(spec, generator)
        depth = doublings((height, width))
        widths = [config.width * 2**i for i in range(depth + 1)]
        same = [SpectralConv2d(a, widths[0], 3, 1, 1) for a in (generator.latent_channels, *[widths[0]] * config.blocks)]
        self.convs = nn.ModuleList([*same, *(SpectralConv2d(a, b, 4, 2, 1) for a, b in zip(widths, widths[1:], strict=False))])
        self.last = SpectralLinear(widths[-1] * (height >> depth) * (width >> depth), 1)
        self.projection = spectral_projection(spec.condition, widths[-1]) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        x = self.gain * x
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        logits = self.last(to_row(x)).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(x.float().sum((2, 3)), c)
        return logits

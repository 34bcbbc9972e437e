"""Plain convolutional nets with a spectrally normalized discriminator: the fastest start on a CPU.

A generator of strided transposed convolutions and a discriminator of strided convolutions, as in Miyato et al. 2018, "Spectral
normalization for generative adversarial networks" (appendix B.4, table 3), narrowed for a CPU:
images seen count for more than width in the first minutes. With a condition, the generator's batch normalization is
conditional (Dumoulin et al. 2017) and the discriminator's head is a projection (Miyato & Koyama 2018, "cGANs with projection
discriminator", eq. 3). Weights are orthogonal at the start (Brock et al. 2019, section 3).

With `patch` P above 1 the networks compute on the picture's squares of PxP pixels: the generator ends in a pixel shuffle, the
discriminator begins with its inverse (Shi et al. 2016, "Real-time single image and video super-resolution", section 3.2). A
picture then costs little more than one of 1/P of its sides. With upsampling by nearest neighbors, the last convolution too draws no
grid (`layers.PatchUpConv2d`).

With `vectors` D above 0 each class has a given vector of D numbers (the buffer `vectors` [K,D], which whoever builds the network
fills), and the networks are conditioned on it in place of the class: many classes of few pictures then share what they learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, check, option
from limner.networks.condition import given_vectors, vector_of
from limner.networks.layers import (
    ConditionalBatchNorm2d,
    PatchUpConv2d,
    SpectralConv2d,
    SpectralLinear,
    UpConv2d,
    base_size,
    center_crop,
    jointly_normalized,
    levels,
    spectral_layers,
    spectral_projection,
    to_map,
    to_row,
)
from limner.networks.padding import pad_to

SOURCE = "Miyato et al. 2018, Spectral normalization for generative adversarial networks"

UPSAMPLINGS = ("transposed", "nearest")
SPREAD = 0.3  # initial difference between the pixels of a patch, relative to the weights


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels of the largest map; doubled at each downsampling, at most 8x. With patches, no map has less than half a patch's side times as many.", low=1, high=WIDEST)
    patch: int = option(1, "Side of the squares of pixels that one position of the last map draws: higher is faster and coarser.", low=1, high=16)
    upsampling: str = option("transposed", "Doubling of the resolution: transposed convolutions, or nearest neighbors and a convolution, which leave no grid.", choices=UPSAMPLINGS)
    vectors: int = option(0, "Numbers of the vector that stands for each class, which --groups sets; 0 learns an embedding of each class.", low=0, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels of the largest map; doubled at each downsampling, at most 8x. With patches, no map has less than half a patch's side times as many.", low=1, high=WIDEST)
    patch: int = option(1, "Side of the squares of pixels that become one position of the first map.", low=1, high=16)
    gain: float = option(1.0, "Factor on the discriminator's input: with spectral normalization, its Lipschitz constant is at most this.", low=0)
    vectors: int = option(0, "Numbers of the vector that stands for each class, which --groups sets; 0 learns an embedding of each class.", low=0, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


def _of_patches(spec: ImageSpec, patch: int) -> ImageSpec:
    """The spec of a picture whose positions are its patches; its sides are rounded up."""
    return replace(spec, channels=spec.channels * patch**2, height=-(-spec.height // patch), width=-(-spec.width // patch))


def _units(patch: int, channels: int, x: Tensor) -> Tensor:
    """The kernel [P^2 C,C,P,P] that takes the pixels of a square apart, in the order of `pixel_unshuffle`."""
    return torch.eye(channels * patch**2, device=x.device, dtype=x.dtype).view(-1, channels, patch, patch)


def to_patches(x: Tensor, patch: int, gain: float = 1.0) -> Tensor:
    """The pixels of each square as channels, times `gain`: [N,C,H,W] -> [N,C P^2,H/P,W/P].

    This is `pixel_unshuffle` as a convolution with unit vectors, which takes half as long in bf16 on a CPU, forward and backward.
    """
    return F.conv2d(x, gain * _units(patch, x.shape[1], x), stride=patch)


def from_patches(x: Tensor, patch: int, training: bool) -> Tensor:
    """The inverse of `to_patches`: [N,C P^2,h,w] -> [N,C,Ph,Pw]. training: on a CPU, do it so that the backward pass is fast."""
    if training and x.device.type == "cpu":
        return F.conv_transpose2d(x, _units(patch, x.shape[1] // patch**2, x), stride=patch)
    return F.pixel_shuffle(x, patch)


def _widths(config: GeneratorConfig | DiscriminatorConfig, count: int) -> list[int]:
    """Channels from the highest resolution down; a map of patches above 2x2 has more of them, for the many pixels of each."""
    return [config.width * min(8, max(2**i, config.patch // 2)) for i in range(count)]


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        check(config)
        self.spec, self.z_size, self.patch = spec, config.z_size, config.patch
        inner = _of_patches(spec, config.patch)
        condition, self.vectors = given_vectors(spec.condition, config.vectors)
        depth = levels(inner)
        self.base = base_size(inner, depth)
        if config.patch == 1:  # the last doubling gives the picture
            widths = _widths(config, depth)[::-1]
            outputs = [*widths[1:], spec.channels]
        else:  # a convolution after the last doubling gives the patches
            widths = _widths(config, depth + 1)[::-1]
            outputs = widths[1:]
        self.first = nn.Linear(config.z_size, widths[0] * self.base[0] * self.base[1], bias=False)
        self.norms = nn.ModuleList([ConditionalBatchNorm2d(w, condition) for w in widths])
        biased = [config.patch == 1 and i == depth - 1 for i in range(depth)]  # no norm follows the last doubling to a picture
        self.ups = nn.ModuleList([
            UpConv2d(a, b, bias=bias) if config.upsampling == "nearest" else nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)
            for a, b, bias in zip(widths, outputs, biased, strict=False)
        ])  # fmt: skip
        for up in self.ups:
            nn.init.orthogonal_(up.weight)  # type: ignore[arg-type]
        self.last: nn.Conv2d | None = None
        if config.patch > 1:
            even = config.upsampling == "nearest"
            self.last = PatchUpConv2d(widths[-1], spec.channels, config.patch) if even else nn.Conv2d(widths[-1], inner.channels, 3, padding=1)
            nn.init.orthogonal_(self.last.weight)
            if not even:
                with torch.no_grad():  # the pixels of a patch begin nearly equal (Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution")
                    pixels = self.last.weight.unflatten(0, (spec.channels, config.patch**2))
                    pixels.copy_(torch.lerp(pixels[:, :1], pixels, SPREAD))

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        return [(layer, norm.norm) for layer, norm in zip([self.first, *self.ups], self.norms, strict=False)]  # type: ignore[misc]

    def activate(self, level: int, x: Tensor, c: Tensor | None) -> Tensor:
        """The map of a level as its convolution takes it: normalized, and activated. [N,W,h,w] -> the same"""
        return F.relu_(self.norms[level](x, c))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        c = vector_of(self.vectors, c)
        x = to_map(self.first(z), self.ups[0].in_channels, self.base)  # type: ignore[arg-type]  # [N,W,h,w]
        for level, up in enumerate(self.ups):
            x = up(self.activate(level, x, c))  # [N,·,2h,2w]
        if self.last is not None:
            x = from_patches(self.last(self.activate(len(self.ups), x, c)), self.patch, self.training)  # [N,C,Ph,Pw]
        return torch.tanh(center_crop(x, self.spec.size).float())


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        check(config)
        self.patch, self.gain = config.patch, config.gain
        inner = _of_patches(spec, config.patch)
        condition, self.vectors = given_vectors(spec.condition, config.vectors)
        depth = levels(inner)
        widths = _widths(config, depth + (config.patch > 1))
        self.features_width = widths[-1]
        self.first = SpectralConv2d(inner.channels, widths[0], 3, 1, 1) if config.patch > 1 else None
        inputs = [spec.channels, *widths[:-1]] if config.patch == 1 else widths[:-1]
        outputs = widths if config.patch == 1 else widths[1:]
        self.convs = nn.ModuleList([SpectralConv2d(a, b, 4, 2, 1) for a, b in zip(inputs, outputs, strict=True)])
        self.last = SpectralLinear(widths[-1] * (inner.height >> depth) * (inner.width >> depth), 1)
        self.projection = spectral_projection(condition, widths[-1]) if condition else None
        self.spectral = [layer for _, layer in spectral_layers(self)]

    def features(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> the last feature maps [N,W,h,w]"""
        if self.first is not None:
            x = F.leaky_relu_(self.first(to_patches(pad_to(x, self.patch), self.patch, self.gain)), 0.2)  # [N,W,H/P,W/P]
        elif self.gain != 1:
            x = self.gain * x
        for conv in self.convs:
            x = F.leaky_relu_(conv(x), 0.2)  # [N,W,h/2,w/2]
        return x

    def logits(self, features: Tensor) -> Tensor:
        """Feature maps [N,W,h,w] -> logits [N], without the condition"""
        logits: Tensor = self.last(to_row(features)).float().squeeze(1)
        return logits

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        with jointly_normalized(self.spectral):
            x = self.features(x)
            logits = self.logits(x)
            if self.projection is not None:
                logits = logits + self.projection(x.sum((2, 3), dtype=torch.float32), vector_of(self.vectors, c))
        return logits

"""A generator of clips: a picture generator whose latent is a content code and a motion code, which depends on the time.

    z ─▶ content ───────────────┬──────────────────────▶ picture generator ─▶ frame
         motion noise ──────────┼─▶ motion net ─▶ code ─▶
         time (cos, sin) ─▶ sines of its multiples

Yu et al. 2022, "Generating videos with dynamics-aware implicit generative adversarial networks" (DIGAN): a frame is a function of
a content code and of a motion code that depends on the time (section 3.1), and a discriminator sees pairs of frames and their
distance in time, not whole clips (section 3.2): no 3-D convolutions. Here the picture generator is a convolutional one
(`networks.conv`) and sees the time as sines of whole multiples of it, so that a clip of one period closes exactly.

The time is two of the latent's numbers. Only their angle counts, which is uniform where they are normal: a sample is a frame at a
random time, so that whatever samples, inverts or measures a picture generator does so with this one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.condition import Condition
from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.core.options import WIDEST, check, option
from limner.networks import conv
from limner.networks.conv import Discriminator as Discriminator  # of frames
from limner.networks.conv import DiscriminatorConfig as DiscriminatorConfig
from limner.networks.equalized import pixel_norm
from limner.networks.layers import BatchNorm2d, levels, to_row

SOURCE = "Yu et al. 2022, Generating videos with dynamics-aware implicit generative adversarial networks"

CLOCK = 2  # numbers of a latent that are the time: a vector of any length whose angle is 2 pi t
DISTANCES = 4  # multiples of the distance in time whose cosines and sines the discriminator of pairs is given


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(conv.GeneratorConfig):
    z_size: int = option(64, "Dimensions of the content code, which all frames of a clip share.", low=1, high=WIDEST)
    motion_size: int = option(16, "Dimensions of the noise that, with the content, decides the motion.", low=1, high=WIDEST)
    code_size: int = option(64, "Dimensions of the motion code of a frame.", low=1, high=WIDEST)
    multiples: int = option(3, "Highest multiple of the time whose sine the motion net sees: higher allows faster changes within a period.", low=1, high=64)
    motion_width: int = option(128, "Units of the motion net's layers.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, motion_size=4, code_size=4, motion_width=8)
TINY_DISCRIMINATOR = conv.TINY_DISCRIMINATOR
TINY_ENCODER = EncoderConfig(width=8)


def multiples(clock: Tensor, count: int) -> Tensor:
    """Cosines and sines of the multiples 1 to `count` of the angle of vectors, divided by the multiple. [N,2] -> [N,2*count]

    By de Moivre's formula: powers of a complex number of length 1 have the multiples of its angle.
    """
    clock = clock.float()
    unit = clock * (clock.square().sum(1, keepdim=True) + 1e-12).rsqrt()
    power, found = unit, [unit]
    for k in range(2, count + 1):
        power = turned(power, unit)
        found.append(power / k)
    return torch.cat(found, 1)


def turned(clock: Tensor, by: Tensor) -> Tensor:
    """Vectors [N,2] turned by the angles of unit vectors [N,2]: the product of complex numbers."""
    a, b, c, d = clock[:, :1], clock[:, 1:], by[:, :1], by[:, 1:]
    return torch.cat([a * c - b * d, a * d + b * c], 1)


def unit_vectors(t: Tensor) -> Tensor:
    """(cos, sin) of 2 pi t; the same for times that differ by a whole number, to the bit. [N] -> float32 [N,2]"""
    angle = 2 * torch.pi * torch.remainder(t.double(), 1.0)
    return torch.stack([angle.cos(), angle.sin()], 1).float()


def distance_features(distance: Tensor) -> Tensor:
    """Distances in time, in periods, as the condition of a discriminator of pairs. [N] -> float32 [N,2*DISTANCES]

    Cosines and sines of the multiples of the angle between the frames, together of length 1, as the one-hot row of a class is.
    """
    angles = 2 * torch.pi * distance.double()[:, None] * torch.arange(1, DISTANCES + 1, device=distance.device)
    return (DISTANCES**-0.5 * torch.stack([angles.cos(), angles.sin()], 2).flatten(1)).float()


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]. Raises ValueError for data with a condition."""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        check(config)
        if spec.condition:
            raise ValueError(f"A generator of clips takes no condition, and these have {spec.condition}.")
        self.spec, self.count = spec, config.multiples
        self.sizes = [config.z_size, config.motion_size, CLOCK]
        self.z_size = sum(self.sizes)
        self.picture = conv.Generator(spec, replace(config, z_size=config.z_size + config.code_size))
        width = config.motion_width
        self.motion = nn.Sequential(
            nn.Linear(config.z_size + config.motion_size + 2 * config.multiples, width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, config.code_size),
        )  # fmt: skip
        for layer, gain in zip(list(self.motion)[::2], (1.0, 1.4, 1.4), strict=True):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, 0, gain * layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        first, still = self.motion[0].weight, config.z_size + config.motion_size  # [W,I]
        assert isinstance(first, nn.Parameter)
        with torch.no_grad():  # at first the time and the rest have equal shares of the variance; else few sines are lost among many numbers
            first[:, :still] *= (0.5 * first.shape[1] / still) ** 0.5
            first[:, still:] *= (0.5 * first.shape[1] / sum(1 / k**2 for k in range(1, config.multiples + 1))) ** 0.5

    def moved(self, z: Tensor, t: Tensor) -> Tensor:
        """Latents a time later: z [N,Z], t [N] in periods -> [N,Z]; z itself, to the bit, for a whole number of periods."""
        still, clock = z[:, :-CLOCK], z[:, -CLOCK:]
        return torch.cat([still, turned(clock, unit_vectors(t).to(z.device, z.dtype))], 1)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        content, noise, clock = z.split(self.sizes, 1)
        with full_precision(z.device):  # of the sines: half precision would shake the motion
            sines = multiples(clock, self.count)
        code = pixel_norm(self.motion(torch.cat([content, noise, sines.to(z.dtype)], 1)))
        return self.picture(torch.cat([content, code.to(z.dtype)], 1))


class PairGenerator(nn.Module):
    """Two frames of one clip, stacked in channels: (z [N,Z], distance features [N,2K]) -> [N,2C,H,W]. It has no weights of its own.

    The first frame is at the time of z, the second at a distance from it (`distance_features`).
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator, self.z_size = generator, generator.z_size

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        second = torch.cat([z[:, :-CLOCK], turned(z[:, -CLOCK:], c[:, :2].to(z.dtype) * DISTANCES**0.5)], 1)
        return torch.cat(self.generator(torch.cat([z, second])).chunk(2), 1)


class Encoder(nn.Module):
    """Pairs of frames to latents at the time of the first.

    (frames [N,2C,H,W], distance features [N,2K], time [N] of the first in its clip, in periods) -> mean and log-variance of content
    and motion noise, [N,Z-2] each, and the time as the generator has it, [N,2]: that in the clip and an angle that the encoder adds,
    at first about 0. Its length is sqrt(2), as that of a normal latent is on average.
    """

    def __init__(self, spec: ImageSpec, z_size: int, config: EncoderConfig = EncoderConfig()) -> None:
        super().__init__()
        check(config)
        depth = levels(spec)
        widths = [2 * spec.channels, *(config.width * min(8, 2**i) for i in range(depth))]
        stages = [
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, bias=False), BatchNorm2d(b), nn.LeakyReLU(0.2))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.stages = nn.Sequential(*stages)
        size = widths[-1] * (spec.height >> depth) * (spec.width >> depth)
        self.features = nn.Linear(size + 2 * DISTANCES, 2 * widths[-1])
        self.last = nn.Linear(2 * widths[-1], 2 * (z_size - CLOCK) + CLOCK)
        with torch.no_grad():
            self.last.weight[-CLOCK:] *= 0.1
            self.last.bias[-CLOCK:] = torch.tensor([1.0, 0.0])
        self.z_size = z_size

    def forward(self, x: Tensor, c: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        row = torch.cat([to_row(self.stages(x)), c.to(x.dtype)], 1)
        out = self.last(F.leaky_relu(self.features(row), 0.2)).float()
        mean, log_variance, clock = out.split([self.z_size - CLOCK, self.z_size - CLOCK, CLOCK], 1)
        clock = turned(F.normalize(clock, dim=1, eps=1e-6), unit_vectors(time))
        return mean, log_variance.clamp(-10, 10), 2**0.5 * clock


def pair_discriminator(spec: ImageSpec, config: DiscriminatorConfig) -> Discriminator:
    """The discriminator of pairs: (frames [N,2C,H,W], distance features [N,2K]) -> logits [N]"""
    pairs = ImageSpec(2 * spec.channels, spec.height, spec.width, Condition.vector(2 * DISTANCES))
    return Discriminator(pairs, config)

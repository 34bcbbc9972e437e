"""SAGAN: residual networks with self-attention, both spectrally normalized.

Zhang et al. 2019, "Self-attention generative adversarial networks": attention at one middle resolution of either network (section
4.2), spectral normalization in the generator too (section 3.3), unequal learning rates (section 3.3, in the recipe).
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.attention import attended
from limner.networks.residual import ResidualDiscriminator, ResidualGenerator

SOURCE = "Zhang et al. 2019, Self-attention generative adversarial networks"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(128, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class Generator(ResidualGenerator):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__(spec, config.z_size, config.width, spectral=True, attention=attended(spec))


class Discriminator(ResidualDiscriminator):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__(spec, config.width, attended(spec))

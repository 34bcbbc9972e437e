"""SNGAN: residual networks with a spectrally normalized discriminator.

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", appendix B.4 (figure 10, tables 4-6):
batch normalization in the generator alone, sum pooling in the discriminator. With a condition, conditional batch normalization and
a projection discriminator (Miyato & Koyama 2018). The paper's network for 32x32 images has the same width throughout; here
widths halve towards full resolution, as in its networks for larger images, to be faster on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.residual import ResidualDiscriminator, ResidualGenerator

SOURCE = "Miyato et al. 2018, Spectral normalization for generative adversarial networks"


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
        super().__init__(spec, config.z_size, config.width, spectral=False)


class Discriminator(ResidualDiscriminator):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__(spec, config.width)

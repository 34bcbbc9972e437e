"""BigGAN: class-conditional residual nets with a shared embedding and a latent for every level.

Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", section 3 and appendix B: the
latent is cut in chunks, the first enters at the bottom and one more at every block, where together with the shared class
embedding it sets scale and shift of the batch normalization by a linear map; spectral normalization in both nets;
attention at one middle map; orthogonal weights. Orthogonal regularization (eq. 3) is the recipe's. Without a condition,
the chunks alone modulate. Other conditions than classes have a shared embedding too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, option
from limner.networks.attention import SelfAttention, attended
from limner.networks.condition import ConditionEmbedding
from limner.networks.layers import BatchNorm2d, SpectralLinear, base_size, center_crop, levels, to_map
from limner.networks.residual import ResidualDiscriminator, UpBlock, spectral_conv, widths

SOURCE = "Brock et al. 2019, Large scale GAN training for high fidelity natural image synthesis"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(80, "Dimensions of the latent vector, split over the resolutions.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    label_size: int = option(64, "Dimensions of the class embedding that all layers share.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8, label_size=4)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class ModulatedNorm(nn.Module):
    """Batch normalization whose scale (about 1) and shift are linear in a condition [N,K]."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        self.scale = SpectralLinear(condition, channels, bias=False)
        self.shift = SpectralLinear(condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = 1 + self.scale(condition)[:, :, None, None], self.shift(condition)[:, :, None, None]
        x = self.norm(x)
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        if config.z_size <= depth:
            raise ValueError(f"The latent is shared out over {depth + 1} levels: give it at least that many numbers.")
        chunk = config.z_size // (depth + 1)
        self.chunks = [config.z_size - depth * chunk] + [chunk] * depth
        self.embedding = ConditionEmbedding(spec.condition, config.label_size) if spec.condition else None
        if self.embedding is not None:
            nn.init.orthogonal_(self.embedding.table.weight)
        condition = chunk + (config.label_size if spec.condition else 0)
        self.base = base_size(spec, depth)
        outputs = widths(config.width, depth)[::-1]
        self.width = outputs[0]
        self.first = SpectralLinear(self.chunks[0], self.width * self.base[0] * self.base[1], bias=False)
        self.blocks = nn.ModuleList(
            [
                UpBlock(a, b, lambda channels: ModulatedNorm(channels, condition), spectral=True)
                for a, b in zip([self.width, *outputs[:-1]], outputs, strict=True)
            ]
        )
        self.attends_before = depth - attended(spec)  # the block after the self-attention
        self.attention = SelfAttention([self.width, *outputs][self.attends_before])
        self.norm = BatchNorm2d(outputs[-1])
        self.last = spectral_conv(outputs[-1], spec.channels, 3)

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        blocks: list[Any] = list(self.blocks)
        return [(block.up, block.norms[1].norm) for block in blocks]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        first, *chunks = z.split(self.chunks, 1)
        if self.embedding is not None:
            shared = self.embedding(c)
            chunks = [torch.cat([chunk, shared], 1) for chunk in chunks]
        x = to_map(self.first(first), self.width, self.base)  # [N,W,h,w]
        for i, (block, condition) in enumerate(zip(self.blocks, chunks, strict=True)):
            if i == self.attends_before:
                x = self.attention(x)
            x = block(x, condition)  # [N,·,2h,2w]
        return torch.tanh(center_crop(self.last(F.relu(self.norm(x))), self.spec.size).float())


class Discriminator(ResidualDiscriminator):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__(spec, config.width, attended(spec))

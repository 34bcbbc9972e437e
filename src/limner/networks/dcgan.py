"""DCGAN: the convolutional nets that made adversarial training work.

Radford et al. 2016, "Unsupervised representation learning with deep convolutional generative adversarial networks",
section 3 and figure 1: no pooling, batch normalization in both nets except the generator's last and the discriminator's first
layer, ReLU in the generator, leaky ReLU 0.2 in the discriminator, weights from N(0, 0.02). Doubling is by resize-convolution
(Odena et al. 2016) rather than the paper's transposed convolution, which leaves checkerboards; it costs the same once
folded. Virtual batch normalization in the generator is a choice (Salimans et al. 2016, section 3.5). A condition is
concatenated, as an embedding to the latent and as a plane to the image: Mirza & Osindero 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import WIDEST, Needs, check, option
from limner.networks.batch_stats import MinibatchDiscrimination
from limner.networks.condition import ConditionEmbedding
from limner.networks.layers import (
    BatchNorm2d,
    UpConv2d,
    VirtualBatchNorm2d,
    base_size,
    center_crop,
    levels,
    to_map,
    to_row,
)

SOURCE = "Radford et al. 2016, Unsupervised representation learning with deep convolutional GANs"


NORMS = ("batch", "virtual")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(100, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(64, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    norm: str = option("batch", "Normalization: batch normalization, or virtual batch normalization by a fixed reference batch.", choices=NORMS)
    reference_batch: int = option(32, "Latents in the reference batch of virtual batch normalization; each forward pass computes them too.", low=2, high=WIDEST, needs=Needs("norm", ("virtual",)))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(64, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    batch_norm: bool = option(True, "Use batch normalization; switch it off for penalties on the gradient of each sample.")
    minibatch_kernels: int = option(0, "Kernels of minibatch discrimination (Salimans et al. 2016); 0 leaves the layer out.", low=0, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, width=8)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W] in [-1,1]

    With virtual normalization the latents of the reference batch are buffers: drawn once, saved with the weights.
    """

    reference_z: Tensor  # [R,Z]
    reference_c: Tensor  # conditions c of them

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        check(config)
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        self.base = base_size(spec, depth)
        widths = [config.width * min(8, 2**i) for i in reversed(range(depth))]
        self.embedding = ConditionEmbedding(spec.condition, config.z_size) if spec.condition else None
        inputs = config.z_size * (2 if spec.condition else 1)
        self.first = nn.Linear(inputs, widths[0] * self.base[0] * self.base[1], bias=False)
        self.reference = config.reference_batch if config.norm == "virtual" else 0
        if config.norm == "virtual":
            self.register_buffer("reference_z", torch.randn(config.reference_batch, config.z_size))
            examples = spec.condition.examples(config.reference_batch)
            self.register_buffer("reference_c", torch.zeros(config.reference_batch, dtype=torch.long) if examples is None else examples)
            self.norms = nn.ModuleList([VirtualBatchNorm2d(w, config.reference_batch) for w in widths])
        else:
            self.norms = nn.ModuleList([BatchNorm2d(w) for w in widths])
        outputs = [*widths[1:], spec.channels]
        self.ups = nn.ModuleList(
            [UpConv2d(a, b, bias=i == depth - 1) for i, (a, b) in enumerate(zip(widths, outputs, strict=True))]
        )
        self.apply(_radford)

    def refer(self, bend: Callable[[Tensor], Tensor]) -> None:
        if self.reference:
            self.reference_z.copy_(bend(self.reference_z))

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """As `networks.contracts.BatchNormalized` states it."""
        pairs = zip([self.first, *self.ups][:-1], self.norms, strict=True)
        return [(layer, norm) for layer, norm in pairs if isinstance(norm, BatchNorm2d)]

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if self.reference:
            z = torch.cat([self.reference_z.to(z.dtype), z])  # [R+N,Z]
            c = None if c is None else torch.cat([self.reference_c, c])
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(c)], 1)
        x = to_map(self.first(z), self.ups[0].in_channels, self.base)  # type: ignore[arg-type]  # [N,W,h,w]
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = F.relu(norm(x))
            if up is self.ups[-1]:
                x = x[self.reference :]  # the last normalization was the last to use the reference rows
            x = up(x)  # [N,·,2h,2w]
        return torch.tanh(center_crop(x, self.spec.size).float())


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        self.spec = spec
        depth = levels(spec)
        widths = [config.width * min(8, 2**i) for i in range(depth)]
        self.embedding = ConditionEmbedding(spec.condition, spec.height * spec.width) if spec.condition else None
        inputs = [spec.channels + (1 if spec.condition else 0), *widths[:-1]]
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(a, b, 4, 2, 1, bias=i == 0 or not config.batch_norm)
                for i, (a, b) in enumerate(zip(inputs, widths, strict=True))
            ]
        )
        self.norms = nn.ModuleList(
            [BatchNorm2d(w) if i and config.batch_norm else nn.Identity() for i, w in enumerate(widths)]
        )
        features = widths[-1] * (spec.height >> depth) * (spec.width >> depth)
        self.minibatch_discrimination = MinibatchDiscrimination(features, config.minibatch_kernels) if config.minibatch_kernels else None
        self.last = nn.Linear(features + config.minibatch_kernels, 1)
        self.apply(_radford)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            x = torch.cat([x, self.embedding(c).view(-1, 1, *self.spec.size).to(x.dtype)], 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)  # [N,W,h/2,w/2]
        features = to_row(x)
        if self.minibatch_discrimination is not None:
            features = self.minibatch_discrimination(features)
        return self.last(features).float().squeeze(1)


def _radford(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, 0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, BatchNorm2d | VirtualBatchNorm2d):
        nn.init.normal_(layer.weight, 1, 0.02)

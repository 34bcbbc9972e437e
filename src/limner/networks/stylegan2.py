"""StyleGAN2: a mapping network from latents to styles, which modulate the convolutions of the synthesis network.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN": weight demodulation (section 2.2, eq. 1-3),
skip generator and residual discriminator (section 4.1, figure 7), noise inputs, the minibatch deviation of 2018; the mapping
network of Karras et al. 2019. Conditioning as in Karras et al. 2020, "Training GANs with limited data", appendix C: an
embedding concatenated to the latent, a projection in the discriminator.

Demodulation scales the input of one shared convolution by the style and its output by eq. 3: the same as a
convolution per image, in plain operations that any exporter supports. Upsampling is bilinear, which is the paper's filter
[1,3,3,1]; the discriminator downsamples by 2x2 average pooling, where the paper's code applies this filter with stride 2: at equal images that was no
better here (FID 12.5 against 14.1) and a fifth slower. Path-length regularization and style mixing belong to the method,
which uses `mapping` and `synthesis`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, option
from limner.networks.batch_stats import MinibatchStddev
from limner.networks.condition import LinearEmbedding, unit_gain
from limner.networks.equalized import (
    GAIN,
    EqualConv2d,
    EqualLinear,
    RectifiedConv2d,
    equal_projection,
    pixel_norm,
    rectified,
)
from limner.networks.layers import base_size, center_crop, levels, to_row
from limner.networks.residual import widths

SOURCE = "Karras et al. 2020, Analyzing and improving the image quality of StyleGAN"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    z_size: int = option(128, "Dimensions of the latent vector.", low=1, high=WIDEST)
    w_size: int = option(128, "Dimensions of the style vector w.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    mapping: int = option(4, "Layers of the mapping network (8 in the paper).", low=1, high=DEEPEST)
    noise: bool = option(True, "Add noise to each layer: random during training, fixed afterwards.")
    label_size: int = option(32, "Dimensions of the class embedding.", low=1, high=WIDEST)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)


TINY_GENERATOR = GeneratorConfig(z_size=8, w_size=8, width=8, mapping=2, label_size=4)
TINY_DISCRIMINATOR = DiscriminatorConfig(width=8)


class Modulated(nn.Module):
    """A convolution whose inputs are scaled by a style. [N,I,H,W], [N,W] -> [N,O,H,W]

    demodulate: scale the outputs to unit standard deviation, assuming independent inputs of unit standard deviation (eq. 3).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, w_size: int, demodulate: bool = True) -> None:
        super().__init__()
        self.style = EqualLinear(w_size, inputs, bias=1.0)
        self.conv = EqualConv2d(inputs, outputs, kernel, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        """gain: factor on the output of a demodulated convolution."""
        style = self.style(w).float()  # [N,I]
        y = self.conv(x * style[:, :, None, None].to(x.dtype))
        bias = (self.bias * gain)[:, None, None].to(y.dtype)
        if not self.demodulate:
            return y + bias
        with full_precision(x.device):
            energy = self.conv.weight.float().square().sum((2, 3)) * self.conv.scale**2  # [O,I]
            factor = (style.square() @ energy.T + 1e-8).rsqrt() * gain  # [N,O]
        return torch.addcmul(bias, y, factor[:, :, None, None].to(y.dtype))


class Layer(nn.Module):
    """A modulated 3x3 convolution, noise of learned strength, leaky ReLU. [N,I,H,W], [N,W] -> [N,O,H,W]"""

    fixed_noise: Tensor

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], w_size: int, noise: bool) -> None:
        super().__init__()
        self.conv = Modulated(inputs, outputs, 3, w_size)
        self.strength = nn.Parameter(torch.zeros(())) if noise else None
        if noise:
            self.register_buffer("fixed_noise", torch.randn(1, 1, *size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w, GAIN)  # that of the leaky ReLU, which is homogeneous
        if self.strength is not None:
            noise = torch.randn_like(x[:, :1]) if self.training else self.fixed_noise.to(x.dtype)
            x = x + noise * (GAIN * self.strength).to(x.dtype)
        return F.leaky_relu(x, 0.2)


def upsampled(x: Tensor) -> Tensor:
    """Bilinear upsampling by 2. [N,C,H,W] -> [N,C,2H,2W]"""
    return F.interpolate(x, scale_factor=2, mode="bilinear")


class Generator(nn.Module):
    """(z [N,Z], c | None) -> [N,C,H,W], about in [-1,1] (the last layer is linear)"""

    def __init__(self, spec: ImageSpec, config: GeneratorConfig = GeneratorConfig()) -> None:
        super().__init__()
        self.spec, self.z_size = spec, config.z_size
        depth = levels(spec)
        base = base_size(spec, depth)
        channels = widths(config.width, depth + 1)[::-1]
        self.embedding: LinearEmbedding | None = None
        if spec.condition:
            embed = EqualLinear(spec.condition.size, config.label_size, bias=None)
            self.embedding = LinearEmbedding(spec.condition, embed, unit_gain(spec.condition))
        inputs = [config.z_size + (config.label_size if spec.condition else 0)] + [config.w_size] * (config.mapping - 1)
        self.dense = nn.ModuleList([EqualLinear(size, config.w_size, lr_multiplier=0.01) for size in inputs])
        self.basis = nn.Parameter(torch.randn(channels[0], *base))
        w = config.w_size
        sizes = [(base[0] * 2**i, base[1] * 2**i) for i in range(depth + 1)]
        stages = [[Layer(channels[0], channels[0], base, w, config.noise)]]
        for a, b, size in zip(channels[:-1], channels[1:], sizes[1:], strict=True):
            stages.append([Layer(a, b, size, w, config.noise), Layer(b, b, size, w, config.noise)])
        self.stages = nn.ModuleList([nn.ModuleList(stage) for stage in stages])
        self.colors = nn.ModuleList([Modulated(c, spec.channels, 1, w, demodulate=False) for c in channels])
        self.layers = 2 * depth + 2  # styles: one a convolution, and one for the last colors

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        """z [N,Z], c | None -> style w [N,W]"""
        w = pixel_norm(z)
        if self.embedding is not None:
            embedding = self.embedding(c)
            # the length of a vector's embedding carries its magnitude, which normalization would remove
            w = torch.cat([w, pixel_norm(embedding) if self.spec.classes else embedding], 1)
        for layer in self.dense:
            w = rectified(layer(w))
        return w

    def synthesis(self, styles: Tensor) -> Tensor:
        """styles [N,layers,W] -> images [N,C,H,W]"""
        queue = styles.unbind(1)
        x = self.basis.expand(styles.shape[0], -1, -1, -1)  # [N,W0,h,w]
        picture: Tensor | None = None
        used = 0
        for i, (stage, colors) in enumerate(zip(self.stages, self.colors, strict=True)):
            if i:
                x = upsampled(x)
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x, queue[used])
                used += 1
            finer = colors(x, queue[used])  # the style of the layer after it, as in the paper's code
            picture = finer if picture is None else upsampled(picture) + finer
        assert picture is not None
        return center_crop(picture, self.spec.size).float()

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        w = self.mapping(z, c)
        return self.synthesis(w[:, None].expand(-1, self.layers, -1))


class DiscriminatorBlock(nn.Module):
    """3x3, 3x3, downsampling, beside a downsampled 1x1; their sum keeps the variance. [N,I,H,W] -> [N,O,H/2,W/2]"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([RectifiedConv2d(inputs, inputs, 3), RectifiedConv2d(inputs, outputs, 3)])
        self.skip = EqualConv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.convs[1](self.convs[0](x))
        return (F.avg_pool2d(branch, 2) + self.skip(F.avg_pool2d(x, 2))) * 0.5**0.5


class Discriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]"""

    def __init__(self, spec: ImageSpec, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        depth = levels(spec)
        channels = widths(config.width, depth + 1)
        wide = channels[-1]
        self.first = RectifiedConv2d(spec.channels, channels[0], 1)
        self.blocks = nn.ModuleList([DiscriminatorBlock(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)])
        self.minibatch_stddev = MinibatchStddev()
        self.mix = RectifiedConv2d(wide + 1, wide, 3)
        self.dense = EqualLinear(wide * (spec.height >> depth) * (spec.width >> depth), wide)
        self.last = EqualLinear(wide, 1)
        self.projection = equal_projection(spec.condition, wide, unit_gain(spec.condition)) if spec.condition else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        x = self.first(x).contiguous(memory_format=torch.channels_last)  # of one channel, it is not yet
        for block in self.blocks:
            x = block(x)  # [N,·,H/2,W/2]
        x = self.mix(self.minibatch_stddev(x))
        features = rectified(self.dense(to_row(x)))  # [N,W]
        logits = self.last(features).float().squeeze(1)
        if self.projection is not None:
            logits = logits + self.projection(features, c) / features.shape[1] ** 0.5
        return logits

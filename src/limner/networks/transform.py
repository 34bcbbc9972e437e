"""The transforms of a learned codec: a linear path that starts as a discrete cosine transform, and a convolutional one."""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision

BLOCK = 16  # pixels of the linear transform, and the stride of a latent
SLOWNESS = 16.0  # the linear paths' weights are held times this, so that Adam changes them as much less


def cosine_transform(channels: int, outputs: int) -> tuple[Tensor, Tensor]:
    """An orthonormal transform of blocks, [outputs, channels, BLOCK, BLOCK], and the typical standard deviation of each output.

    The coefficients of a discrete cosine transform with the most energy in photographs, of gray and two color differences (and
    alpha, where there is one): the energy of pixels in [-1,1] is about 20 / frequency², of color differences a twentieth. Outputs
    beyond the channels * BLOCK^2 coefficients are zero.
    """
    place = torch.arange(BLOCK, dtype=torch.float64)
    basis = torch.cos(pi / BLOCK * (place[None] + 0.5) * place[:, None]) * (2 / BLOCK) ** 0.5
    basis[0] *= 0.5**0.5
    colors = torch.eye(channels, dtype=torch.float64)
    weights = torch.ones(channels, dtype=torch.float64)
    if channels >= 3:  # gray, blue - yellow, red - green
        axes = [[1.0, 1.0, 1.0], [-0.5, -0.5, 1.0], [1.0, -1.0, 0.0]]
        colors[:3, :3] = F.normalize(torch.tensor(axes, dtype=torch.float64), dim=1)
        weights[1:3] = 0.05
    frequency = place[:, None].square() + place[None].square()
    energy = (20 * weights[:, None, None] / (frequency + 0.2)).flatten()
    kept = energy.argsort(descending=True, stable=True)[:outputs]
    color, v, u = kept // BLOCK**2, kept // BLOCK % BLOCK, kept % BLOCK
    kernels = colors[color][:, :, None, None] * basis[v][:, None, :, None] * basis[u][:, None, None, :]
    beyond = outputs - len(kept)
    return F.pad(kernels, (0, 0, 0, 0, 0, 0, 0, beyond)).float(), F.pad(energy[kept].sqrt(), (0, beyond), value=0.01).float()


class Residual(nn.Module):
    """x + 3x3(ReLU(3x3(x)))"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.relu_(self.first(x)))
        return y


def initialize(net: nn.Module) -> None:
    """Draw the weights of all convolutions for ReLU (He et al. 2015, eq. 14) and set their biases to zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_residuals(net: nn.Module) -> None:
    """Scale the second convolution of all residual blocks down, so that each block starts near the identity."""
    for module in net.modules():
        if isinstance(module, Residual):
            with torch.no_grad():
                module.second.weight.mul_(0.1)


def blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(count)))


class Analysis(nn.Module):
    """x [N,C,H,W], quality [N] -> latents [N,M,H/16,W/16] before the gain"""

    def __init__(self, channels: int, latents: int, width: int, count: int, qualities: int) -> None:
        super().__init__()
        self.linear = nn.Parameter(cosine_transform(channels, latents)[0] * SLOWNESS)
        self.first = nn.Conv2d(16 * channels, width, 3, padding=1)
        self.quality = nn.Parameter(torch.zeros(qualities, width))
        self.quarter = blocks(width, count)
        self.down_eighth = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.eighth = blocks(2 * width, count)
        self.down_sixteenth = nn.Conv2d(2 * width, 3 * width, 3, 2, 1)
        self.sixteenth = blocks(3 * width, count)
        self.last = nn.Conv2d(3 * width, latents, 1)
        initialize(self)
        start_residuals(self)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        with full_precision(x.device):  # a coefficient is hundreds of steps long, more than bf16 resolves
            linear = _blocks_of(x.float()) @ (self.linear / SLOWNESS).flatten(1).T  # [N,h,w,M]
        y = self.first(F.pixel_unshuffle(x, 4)) + interpolate(self.quality, quality)[:, :, None, None]
        y = self.quarter(F.relu(y))
        y = self.eighth(F.relu_(self.down_eighth(y)))
        y = self.sixteenth(F.relu_(self.down_sixteenth(y)))
        latents: Tensor = linear.permute(0, 3, 1, 2) + self.last(F.relu(y)).float()
        return latents


def _blocks_of(x: Tensor) -> Tensor:
    """[N,C,H,W] -> its blocks, [N, H/BLOCK, W/BLOCK, C * BLOCK^2]: many times as fast as a convolution with this stride"""
    x = x.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))  # [N,C,h,BLOCK,w,BLOCK]
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3)


class Synthesis(nn.Module):
    """latents [N,M,h,w] without the gain, quality [N] -> picture [N,C,16h,16w]"""

    def __init__(self, channels: int, latents: int, width: int, count: int, qualities: int) -> None:
        super().__init__()
        self.linear = nn.Parameter(cosine_transform(channels, latents)[0] * SLOWNESS)
        self.first = nn.Conv2d(latents, 3 * width, 1)
        self.quality = nn.Parameter(torch.zeros(qualities, 3 * width))
        self.sixteenth = blocks(3 * width, count)
        self.up_eighth = nn.Conv2d(3 * width, 8 * width, 1)
        self.eighth = blocks(2 * width, count)
        self.up_quarter = nn.Conv2d(2 * width, 4 * width, 1)
        self.quarter = blocks(width, count)
        self.last = nn.Conv2d(width, 16 * channels, 3, padding=1)
        initialize(self)
        start_residuals(self)
        nn.init.zeros_(self.last.weight)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        with full_precision(y.device):
            linear = _picture_of(y.float().permute(0, 2, 3, 1) @ (self.linear / SLOWNESS).permute(0, 2, 3, 1).flatten(1))
        x = self.first(y) + interpolate(self.quality, quality)[:, :, None, None]
        x = self.sixteenth(F.relu_(x))
        x = F.relu_(F.pixel_shuffle(self.up_eighth(x), 2))
        x = F.relu_(F.pixel_shuffle(self.up_quarter(self.eighth(x)), 2))
        return linear + F.pixel_shuffle(self.last(self.quarter(x)), 4).float()


def _picture_of(blocks: Tensor) -> Tensor:
    """Blocks of pixels [N,h,w, BLOCK * BLOCK * C] -> [N,C,H,W], whose rows are copied whole: channels_last"""
    rows = blocks.unflatten(3, (BLOCK, -1)).transpose(2, 3)  # [N,h,BLOCK,w, BLOCK * C]
    n, h, _, w, _ = rows.shape
    return rows.reshape(n, h * BLOCK, w * BLOCK, -1).permute(0, 3, 1, 2)


def interpolate(levels: Tensor, quality: Tensor) -> Tensor:
    """Rows of levels [Q,D] at the qualities [N], linearly interpolated: [N,D]"""
    quality = quality.clamp(0, len(levels) - 1)
    low = quality.floor().clamp(max=len(levels) - 2)
    return torch.lerp(levels[low.long()], levels[low.long() + 1], (quality - low)[:, None].to(levels.dtype))

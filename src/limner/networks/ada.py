"""Adaptive discriminator augmentation (ADA): transforms that are applied with a probability which a controller adjusts.

Karras et al. 2020, "Training generative adversarial networks with limited data", section 3 and appendix B: each
transform is applied to each image independently with probability p; below about 0.8 the generator does not learn the
transforms. Mirroring and luma inversion are applied with p / 2: where half of the images are mirrored, the original
orientation is lost. Geometry (mirroring, quarter turns, shifts, scaling, rotation, stretching) is one affine
resampling, color (brightness, contrast, luma inversion, hue, saturation) one affine map of the pixels; the filters and
corruptions, which the paper found to help little, are left out. Of the quarter turns, images
that are not square get the half turn only.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 21  # uniform numbers a picture that `augment` uses
GATES = 11  # the first of them decide which changes happen
COINS = (0, 8)  # those of mirroring and luma inversion, applied half as often


def augment(x: Tensor, u: Tensor, p: float) -> Tensor:
    """Float [N,C,H,W] in [-1,1] and uniform numbers [N, DRAWS]; p = 0 is the identity. -> [N,C,H,W]"""
    if p <= 0:
        return x
    chance = u.new_full((GATES,), p)
    chance[list(COINS)] = p / 2
    on, draws = u[:, :GATES] < chance, u[:, GATES:]
    return _recolored(_resampled(x, on[:, :6], draws[:, :6]), on[:, 6:], draws[:, 6:])


def _bell(u: Tensor, deviation: float) -> Tensor:
    """Uniform to normal numbers."""
    return torch.erfinv((2 * u - 1).clamp(-1 + 1e-6, 1 - 1e-6)) * (deviation * 2**0.5)


def _resampled(x: Tensor, on: Tensor, u: Tensor) -> Tensor:
    """flip, turn, shift (2 numbers), scale, rotation, stretch, as one bilinear resampling that mirrors at the border."""
    height, width = x.shape[2:]
    flip, turn, shift, scale, rotate, stretch = on.unbind(1)
    quarters = torch.floor(u[:, 0] * 4) if height == width else 2 * torch.floor(u[:, 0] * 2)
    angle = turn * quarters * (pi / 2) + rotate * (2 * u[:, 4] - 1) * pi
    size = torch.exp2(torch.where(scale, _bell(u[:, 3], 0.2), 0.0))
    tall = torch.exp2(torch.where(stretch, _bell(u[:, 5], 0.2), 0.0))
    cos, sin = angle.cos(), angle.sin()
    mirror = 1.0 - 2.0 * flip
    # output to input in pixels from the center: stretch and scale, then rotate, then mirror
    rows = [mirror * cos * size * tall, -mirror * sin * size / tall, sin * size * tall, cos * size / tall]
    a, b, c, d = rows
    dx, dy = (2 * u[:, 1] - 1) * 0.25 * shift, (2 * u[:, 2] - 1) * 0.25 * shift  # an eighth of each side, both ways
    ratio = height / width
    theta = torch.stack([torch.stack([a, b * ratio, dx], 1), torch.stack([c / ratio, d, dy], 1)], 1)  # [N,2,3]
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return torch.where(on.any(1)[:, None, None, None], moved, x)


def _recolored(x: Tensor, on: Tensor, u: Tensor) -> Tensor:
    """brightness, contrast, inversion of luma, hue, saturation; gray images get the first two, alpha none."""
    brightness, contrast, luma, hue, saturation = on.unbind(1)
    offset = torch.where(brightness, _bell(u[:, 0], 0.2), 0.0)
    factor = torch.exp2(torch.where(contrast, _bell(u[:, 1], 0.5), 0.0))
    offset = (offset * factor)[:, None, None, None]
    if x.shape[1] < 3:
        return x * factor[:, None, None, None] + offset
    eye = torch.eye(3, device=x.device)
    gray = torch.full((3, 3), 1 / 3, device=x.device)  # onto the axis on which all colors are equal
    skew = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=x.device) / 3**0.5
    angle = (hue * (2 * u[:, 2] - 1) * pi)[:, None, None]
    richness = torch.exp2(torch.where(saturation, _bell(u[:, 3], 1.0), 0.0))[:, None, None]
    along = (1.0 - 2.0 * luma)[:, None, None]
    turned = (eye - gray) * angle.cos() + skew * angle.sin()  # of what is across the axis (Rodrigues)
    matrix = factor[:, None, None] * (gray * along + turned * richness)  # [N,3,3]
    changed = torch.einsum("nij,njhw->nihw", matrix.to(x.dtype), x[:, :3]) + offset
    return changed if x.shape[1] == 3 else torch.cat([changed, x[:, 3:]], 1)

"""Random affine augmentation of pictures: rotation, scale, shear and shift as one bilinear resampling."""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 6  # uniform numbers of one picture
MAX_ANGLE = pi / 6  # either way, at strength 1
MAX_SCALE, MAX_SHEAR, MAX_SHIFT = 0.3, 0.3, 0.125  # natural logarithm of a side's factor; tangent; fraction of a side


def affine(x: Tensor, u: Tensor, strength: float = 1.0) -> Tensor:
    """Transform pictures float [N,C,H,W] by uniform numbers u [N,DRAWS] in [0,1); strength 0 is the identity. -> the same shape

    Uncovered borders repeat the picture's edge. All ranges are proportional to `strength`.
    """
    if strength <= 0:
        return x
    v = (2 * u - 1) * strength  # [N,DRAWS] in [-strength, strength)
    angle, shear = v[:, 0] * MAX_ANGLE, v[:, 1] * MAX_SHEAR
    tall, wide = torch.exp(v[:, 2] * MAX_SCALE), torch.exp(v[:, 3] * MAX_SCALE)
    cos, sin, ratio = angle.cos(), angle.sin(), x.shape[2] / x.shape[3]
    # output to input, in pixels from the center: shear and scale, then rotation
    a, b = cos * wide, (cos * shear - sin) * tall
    c, d = sin * wide, (sin * shear + cos) * tall
    dx, dy = 2 * MAX_SHIFT * v[:, 4], 2 * MAX_SHIFT * v[:, 5]  # of the grid, whose sides are 2
    theta = torch.stack([torch.stack([a, b * ratio, dx], 1), torch.stack([c / ratio, d, dy], 1)], 1)  # [N,2,3]
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

"""Random warps of pictures: rotation, scale, shear, shift and an elastic deformation, as one bilinear resampling; widths of strokes.

The elastic part is that of Simard et al. 2003, "Best practices for convolutional neural networks applied to visual document
analysis", section 2, with displacements of a coarse grid interpolated smoothly instead of Gaussian-filtered noise.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 4  # points a side of the grid of displacements
AFFINE_DRAWS = 6
DRAWS = AFFINE_DRAWS + 2 * CELLS * CELLS  # uniform numbers of one picture
MAX_ANGLE = pi / 6  # either way, at strength 1
MAX_SCALE, MAX_SHEAR, MAX_SHIFT = 0.3, 0.3, 0.125  # natural logarithm of a side's factor; tangent; fraction of a side
MAX_DISPLACEMENT = 0.1  # of a point of the grid at elastic strength 1, as a fraction of a side


def warp(x: Tensor, u: Tensor, strength: float = 1.0, elastic: float = 0.0) -> Tensor:
    """Transform pictures float [N,C,H,W] by uniform numbers u [N,DRAWS] in [0,1). -> the same shape

    strength, elastic: factors on all ranges of the affine map and of the displacements; both 0 are the identity. Uncovered
    borders repeat the picture's edge.
    """
    if strength <= 0 and elastic <= 0:
        return x
    v = (2 * u[:, :AFFINE_DRAWS] - 1) * strength  # [N,6] in [-strength, strength)
    angle, shear = v[:, 0] * MAX_ANGLE, v[:, 1] * MAX_SHEAR
    tall, wide = torch.exp(v[:, 2] * MAX_SCALE), torch.exp(v[:, 3] * MAX_SCALE)
    cos, sin, ratio = angle.cos(), angle.sin(), x.shape[2] / x.shape[3]
    # output to input, in pixels from the center: shear and scale, then rotation
    a, b = cos * wide, (cos * shear - sin) * tall
    c, d = sin * wide, (sin * shear + cos) * tall
    dx, dy = 2 * MAX_SHIFT * v[:, 4], 2 * MAX_SHIFT * v[:, 5]  # of the grid, whose sides are 2
    theta = torch.stack([torch.stack([a, b * ratio, dx], 1), torch.stack([c / ratio, d, dy], 1)], 1)  # [N,2,3]
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)  # [N,H,W,2]
    if elastic > 0:
        points = (2 * u[:, AFFINE_DRAWS:] - 1).view(-1, 2, CELLS, CELLS) * (2 * MAX_DISPLACEMENT * elastic)
        field = F.interpolate(points.to(x.dtype), size=tuple(x.shape[2:]), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def stroke(x: Tensor, u: Tensor, strength: float = 1.0) -> Tensor:
    """Make what is bright wider or narrower, in pictures float [N,C,H,W] by uniform numbers u [N,1] in [0,1). -> the same shape

    Gray-scale dilation and erosion (Serra 1982, "Image analysis and mathematical morphology") with a square of 1/14 of a side (3
    pixels of 28), blended with the picture: at strength 1 by 0 to 1, so that a stroke becomes up to 1/14 of a side wider or narrower.
    """
    if strength <= 0:
        return x
    radius = max(1, round(min(x.shape[2:]) / 28))
    v = ((2 * u[:, :1] - 1) * strength).clamp(-1, 1)[:, :, None, None].to(x.dtype)
    sign = v.sign()
    return torch.lerp(x, sign * _dilation(sign * x, radius), v.abs())  # an erosion is the dilation of the negative


def _dilation(x: Tensor, radius: int) -> Tensor:
    """Return the maximum of the square of 2 * radius + 1 pixels around each pixel, first of its column, then of its row."""
    for dim, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius))):
        wide = F.pad(x, pad, value=-torch.inf)
        for start in range(2 * radius + 1):
            x = torch.maximum(x, wide.narrow(dim, start, x.shape[dim]))
    return x

"""Structural similarity, and its multi-scale form as a loss: differentiable, per picture, [N]."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

import torch
import torch.nn.functional as F
from torch import Tensor

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003, section 3.2
WINDOW, SIGMA = 11, 1.5
MOST = 256  # of the values that one product gives
LEAST = 1e-4  # of a term: a power of less than 1 has an infinite gradient at 0


def scales_within(side: int) -> int:
    """Return the number of scales, at most 5, that pictures of this shorter side have room for. Raises ValueError for none."""
    if side < WINDOW:
        raise ValueError(f"MS-SSIM needs pictures of at least {WINDOW} pixels a side: choose the distortion mse.")
    return max(scales for scales in range(1, len(EXPONENTS) + 1) if side >= WINDOW * 2 ** (scales - 1))


def ms_ssim_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 1 - MS-SSIM (Wang, Simoncelli & Bovik 2003, eq. 7) of pictures [N,C,H,W] in [-1,1].

    As `evaluation.image_quality.ms_ssim`, on as many of the five scales as fit, whose exponents then are scaled to sum 1.
    """
    scales = scales_within(min(x.shape[2:]))
    x, y = (x.float() + 1) / 2, (y.float() + 1) / 2
    total = sum(EXPONENTS[:scales]) if scales < len(EXPONENTS) else 1.0
    product = x.new_ones(len(x))
    for i, exponent in enumerate(EXPONENTS[:scales]):
        whole, contrast = similarity(x, y)
        product = product * (whole if i == scales - 1 else contrast).clamp_min(LEAST) ** (exponent / total)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return 1 - product


def similarity(x: Tensor, y: Tensor, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (SSIM, its contrast and structure terms alone), each [N], of floating-point pictures [N,C,H,W] in 0 to `peak`.

    Wang et al. 2004, eq. 13: Gaussian window of 11 with sigma 1.5, K 0.01 and 0.03, at the positions where the window lies inside the
    picture. Raises ValueError for pictures of less than 11 pixels.
    """
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} pixels; got {x.shape[2]}x{x.shape[3]}.")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    with torch.autocast(x.device.type, enabled=False):  # differences of squares need all digits
        mean_x, mean_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y])).unbind()
        spread_x, spread_y, joint = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        contrast = (2 * joint + c2) / (spread_x + spread_y + c2)
        whole = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * contrast
        return whole.mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _blur(maps: Tensor) -> Tensor:
    """Convolve with the Gaussian window, without padding: [S,N,C,H,W] -> [S,N,C,H-10,W-10].

    As products with banded matrices: on a CPU a convolution of one channel took 20 times as long for crops of 192 pixels.
    """
    rows = torch.cat([F.linear(part, band) for part, band in _parts(maps)], -1).flatten(0, 2)
    found = [torch.bmm(band.expand(len(rows), -1, -1), part.mT) for part, band in _parts(rows.mT)]
    return torch.cat(found, 1).unflatten(0, maps.shape[:3])


def _parts(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the last dimension into overlapping parts, each with the banded matrix [width - 10, width] that blurs it: the time of one
    product for the whole would grow with the square of the width."""
    weights = [exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    total = sum(weights)
    for start in range(0, x.shape[-1] - WINDOW + 1, MOST):
        part = x[..., start : start + MOST + WINDOW - 1]
        band = x.new_zeros(part.shape[-1] - WINDOW + 1, part.shape[-1])
        for i, weight in enumerate(weights):
            band.diagonal(i).fill_(weight / total)
        yield part, band

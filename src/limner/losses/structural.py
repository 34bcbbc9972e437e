"""Multi-scale structural similarity as a loss: differentiable, per picture, [N]."""

from __future__ import annotations

from math import exp

import torch
import torch.nn.functional as F
from torch import Tensor

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003, section 3.2
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
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
        whole, contrast = _similarity(x, y)
        product = product * (whole if i == scales - 1 else contrast).clamp_min(LEAST) ** (exponent / total)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return 1 - product


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return (SSIM, its contrast and structure terms alone), each [N], of pictures in [0,1] (Wang et al. 2004, eq. 13)."""
    mean_x, mean_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y])).unbind()
    spread_x, spread_y, joint = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    contrast = (2 * joint + C2) / (spread_x + spread_y + C2)
    whole = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1) * contrast
    return whole.mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _blur(maps: Tensor) -> Tensor:
    """Convolve with the Gaussian window, without padding: [S,N,C,H,W] -> [S,N,C,H-10,W-10]."""
    window = maps.new_tensor([exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)])
    window = window / window.sum()
    with torch.autocast(maps.device.type, enabled=False):  # differences of squares need all digits
        flat = maps.reshape(-1, 1, *maps.shape[3:])
        flat = F.conv2d(F.conv2d(flat, window[None, None, :, None]), window[None, None, None, :])
    return flat.reshape(*maps.shape[:3], *flat.shape[2:])

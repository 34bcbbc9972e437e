"""Full-reference image quality: PSNR, SSIM, MS-SSIM, and distances between the layers of a network.

All take two uint8 [N,C,H,W], with a peak of 255, and return one value per pair, float64 [N].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from limner.losses.structural import EXPONENTS, WINDOW, similarity

PEAK = 255.0


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB [N]: 10 log₁₀(255² / mean squared error); infinite for equal pictures."""
    _same(a, b)
    error = _in_parts(a, b, lambda x, y: (x - y).square().mean((1, 2, 3)))
    return 10 * torch.log10(255**2 / error)


def psnr_of(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR in dB of two pictures uint8 [C,H,W], over all channels; infinite for equal ones."""
    return float(psnr(torch.from_numpy(np.ascontiguousarray(a))[None], torch.from_numpy(np.ascontiguousarray(b))[None]))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity [N] (Wang et al. 2004, eq. 13): Gaussian window of 11 with σ 1.5, K 0.01 and 0.03.

    The mean is over channels and positions where the window lies inside the picture, as in scikit-image with
    gaussian_weights=True and use_sample_covariance=False. Raises ValueError for pictures of less than 11 pixels.
    """
    _same(a, b)
    return _in_parts(a, b, lambda x, y: similarity(x, y, PEAK)[0])


def ms_ssim(a: Tensor, b: Tensor, scales: int = 5) -> Tensor:
    """Return the multi-scale SSIM [N] (Wang, Simoncelli & Bovik 2003, eq. 7) with 2×2 means; negative terms are set to 0.

    An odd row or column is dropped when a scale is halved, so that five scales need 176 pixels. With fewer scales, whose
    exponents are scaled to sum 1, it is another metric: name their number with the value.
    """
    _same(a, b)
    if not 1 <= scales <= len(EXPONENTS):
        raise ValueError(f"MS-SSIM has 1 to {len(EXPONENTS)} scales, not {scales}.")
    needed = least_side(scales)
    if min(a.shape[2:]) < needed:
        raise ValueError(f"MS-SSIM of {scales} scales needs pictures of at least {needed} pixels: give fewer scales.")
    exponents = [weight / sum(EXPONENTS[:scales]) if scales < len(EXPONENTS) else weight for weight in EXPONENTS[:scales]]

    def over_scales(x: Tensor, y: Tensor) -> Tensor:
        result = torch.ones(len(x), dtype=torch.float64)
        for i, exponent in enumerate(exponents):
            whole, contrast = similarity(x, y, PEAK)
            result = result * (whole if i == scales - 1 else contrast).clamp(min=0) ** exponent
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return result

    return _in_parts(a, b, over_scales)


def least_side(scales: int = 5) -> int:
    """Return the minimum shorter side, in pixels, for a number of scales of MS-SSIM."""
    return WINDOW * 2 ** (scales - 1)


def layer_distance(a: Tensor, b: Tensor, layers: Callable[[Tensor], list[Tensor]], batch: int = 64) -> Tensor:
    """Return the squared distance of normalized activations [N], averaged over positions and summed over layers.

    This is Zhang et al. 2018, eq. 1, with w = 1, for the layers [n,c,h,w] of any network, such as `OwnFeatures.layers`. It is
    not LPIPS, which has trained weights on AlexNet or VGG: name the network with the value.
    """
    _same(a, b)
    found = []
    for x, y in zip(a.split(batch), b.split(batch), strict=True):
        total = torch.zeros(len(x), dtype=torch.float64)
        for p, q in zip(layers(x), layers(y), strict=True):
            difference = F.normalize(p.double(), dim=1, eps=1e-10) - F.normalize(q.double(), dim=1, eps=1e-10)
            total += difference.square().sum(1).mean((1, 2))
        found.append(total)
    return torch.cat(found)


def _same(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"Pairs must have one shape [N,C,H,W]; got {tuple(a.shape)} and {tuple(b.shape)}.")
    if a.dtype != torch.uint8 or b.dtype != torch.uint8:
        raise ValueError(f"Pairs must be uint8 pictures; got {a.dtype} and {b.dtype}.")
    if not len(a):
        raise ValueError("There are no pairs to measure: the sets are empty.")


def _in_parts(a: Tensor, b: Tensor, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the measure of each pair [N] in float64, in parts of about 100 MB of maps."""
    many = max(1, 2_000_000 // a[0].numel())
    return torch.cat([measure(x.double(), y.double()) for x, y in zip(a.split(many), b.split(many), strict=True)])

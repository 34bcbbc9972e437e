"""Differentiable augmentation (DiffAugment) of real and generated images.

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training", section 4: the discriminator gets only
augmented images, real and generated, and the generator's gradient flows through the augmentation, so that it learns the
unaugmented distribution. Every function takes float [N,C,H,W] in [-1,1] and uniform numbers in [0,1),
one row per image, so that the caller controls the randomness.
"""

from __future__ import annotations

import torch
from torch import Tensor

POLICIES = ("none", "light", "full")
DRAWS = 7  # uniform numbers a picture that `augment` uses


def flip(x: Tensor, u: Tensor) -> Tensor:
    """Mirror left and right where u [N] < 0.5."""
    return torch.where((u < 0.5)[:, None, None, None], x.flip(3), x)


def brightness(x: Tensor, u: Tensor) -> Tensor:
    """Add u - 0.5 to the colors (alpha, the fourth channel, is left alone)."""
    return _colors(x, lambda rgb: rgb + (u - 0.5)[:, None, None, None])


def saturation(x: Tensor, u: Tensor) -> Tensor:
    """Scale the distance from the pixel's mean color by 2u; gray images do not change."""
    return _colors(x, lambda rgb: torch.lerp(rgb.mean(1, keepdim=True), rgb, 2 * u[:, None, None, None]))


def contrast(x: Tensor, u: Tensor) -> Tensor:
    """Scale the distance from the image's mean by u + 0.5."""
    return _colors(x, lambda rgb: torch.lerp(rgb.mean((1, 2, 3), keepdim=True), rgb, (u + 0.5)[:, None, None, None]))


def translation(x: Tensor, u: Tensor, reach: float = 0.125) -> Tensor:
    """Shift by up to `reach` of each side, u [N,2]; the uncovered border repeats the image's edge."""
    n, c, h, w = x.shape
    dy = ((u[:, 0] * 2 - 1) * reach * h).round().long()[:, None]
    dx = ((u[:, 1] * 2 - 1) * reach * w).round().long()[:, None]
    rows = (torch.arange(h, device=x.device)[None] + dy).clamp(0, h - 1)  # [N,H]
    columns = (torch.arange(w, device=x.device)[None] + dx).clamp(0, w - 1)  # [N,W]
    first = torch.arange(n, device=x.device)[:, None] * h
    pixels = (first + rows)[:, :, None] * w + columns[:, None, :]  # [N,H,W]
    # one index a pixel: three took three times as long on a CPU, forward and backward
    return x.permute(0, 2, 3, 1).reshape(n * h * w, c).index_select(0, pixels.flatten()).view(n, h, w, c).permute(0, 3, 1, 2)


def cutout(x: Tensor, u: Tensor, share: float = 0.5) -> Tensor:
    """Set to gray a box of `share` of each side at a random place, u [N,2] (DeVries & Taylor 2017)."""
    _, _, h, w = x.shape
    top, left = (u[:, 0] * h)[:, None], (u[:, 1] * w)[:, None]
    rows = (torch.arange(h, device=x.device)[None] - top).abs() < h * share / 2
    columns = (torch.arange(w, device=x.device)[None] - left).abs() < w * share / 2
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def augment(x: Tensor, u: Tensor, policy: str) -> Tensor:
    """Apply a policy: none, light (translation), full (color, translation, cutout). u is [N, DRAWS] in [0,1)."""
    if policy == "none":
        return x
    if policy == "full":
        x = contrast(saturation(brightness(x, u[:, 0]), u[:, 1]), u[:, 2])
    x = translation(x, u[:, 3:5])
    return cutout(x, u[:, 5:7]) if policy == "full" else x


def _colors(x: Tensor, change) -> Tensor:  # type: ignore[no-untyped-def]
    if x.shape[1] < 4:
        return change(x)
    return torch.cat([change(x[:, :3]), x[:, 3:]], 1)

"""The Bjøntegaard delta rate: how many more bits one codec needs than another at the same quality, over a range of qualities.

Bjøntegaard 2001, "Calculation of average PSNR differences between RD-curves" (VCEG-M33), with the piecewise cubic interpolation
that later standards took (Strom et al. 2023, "Working practices using objective metrics for evaluation of video coding
efficiency experiments", ISO/IEC TR 23002-8): it does not swing between the points as the original's single cubic does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DeltaRate:
    """percent: mean difference of the rate, negative where the tested codec needs fewer bits. low, high: the common qualities.

    overlap: their part of the range of both curves; below a half the figure stands for little.
    """

    percent: float
    low: float
    high: float
    overlap: float


def bd_rate(
    anchor_rate: Sequence[float], anchor_quality: Sequence[float], rate: Sequence[float], quality: Sequence[float]
) -> DeltaRate | None:
    """Return the BD-rate of a codec against an anchor; None where their qualities do not overlap, or one has a single point.

    The logarithms of the rates are interpolated over the quality and integrated over the common range. Points that cost more than
    another of at least their quality are left out first, since a curve must rise.
    """
    x, y = _frontier(anchor_rate, anchor_quality)
    u, v = _frontier(rate, quality)
    if len(x) < 2 or len(u) < 2:
        return None
    low, high = max(x[0], u[0]), min(x[-1], u[-1])
    if high <= low:
        return None
    mean = (integral(u, v, low, high) - integral(x, y, low, high)) / (high - low)
    overlap = (high - low) / (max(x[-1], u[-1]) - min(x[0], u[0]))
    return DeltaRate(float(np.expm1(mean) * 100), float(low), float(high), float(overlap))


def _frontier(rate: Sequence[float], quality: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return (quality, logarithm of the rate) of the points that no other beats, by rising quality."""
    assert len(rate) == len(quality)
    kept: list[tuple[float, float]] = []
    for r, q in sorted(zip(rate, quality, strict=True), key=lambda point: (point[0], -point[1])):
        if r > 0 and np.isfinite(q) and (not kept or q > kept[-1][1]):
            kept.append((r, q))
    points = np.array(kept, np.float64).reshape(-1, 2)
    return points[:, 1], np.log(points[:, 0])


def integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Return the integral from low to high, within x, of the monotone cubic that interpolates the points."""
    slopes = _slopes(x, y)
    total = 0.0
    for i, h in enumerate(np.diff(x)):
        begin, end = np.clip((np.array([low, high]) - x[i]) / h, 0, 1)
        if end > begin:
            # Hermite's basis, integrated: of the values and of the slopes at both ends
            t = np.array([begin, end])
            parts = [
                y[i] * (t**4 / 2 - t**3 + t),
                y[i + 1] * (t**3 - t**4 / 2),
                h * slopes[i] * (t**4 / 4 - 2 * t**3 / 3 + t**2 / 2),
                h * slopes[i + 1] * (t**4 / 4 - t**3 / 3),
            ]
            total += float(h * sum(part[1] - part[0] for part in parts))
    return total


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slopes at the points of the monotone piecewise cubic (Fritsch & Butland 1984, the weighted harmonic mean)."""
    h = np.diff(x)
    s = np.diff(y) / h
    if len(x) == 2:
        return np.array([s[0], s[0]])
    slopes = np.zeros_like(x)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same = s[:-1] * s[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes[1:-1] = np.where(same, (w1 + w2) / (w1 / s[:-1] + w2 / s[1:]), 0)
    for end, (a, b), (p, q) in ((0, h[:2], s[:2]), (-1, h[-1:-3:-1], s[-1:-3:-1])):
        slope = ((2 * a + b) * p - a * q) / (a + b)  # of the parabola through three points, kept monotone
        if slope * p <= 0:
            slope = 0.0
        elif p * q <= 0 and abs(slope) > 3 * abs(p):
            slope = 3 * p
        slopes[end] = slope
    return slopes

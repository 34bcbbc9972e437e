"""Feature sets as a table of rows, or as mean and covariance accumulated in chunks in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

import numpy as np
import torch
from torch import Tensor

Features = Union[np.ndarray, Tensor, "Iterable[np.ndarray | Tensor]"]  # [N,F], or chunks [n,F] of it


@dataclass(frozen=True)
class Estimate:
    """An estimate from a sample, with its standard error; low and high are its 95 % interval."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return self.value - 1.96 * self.error

    @property
    def high(self) -> float:
        return self.value + 1.96 * self.error

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Statistics:
    """Mean [F] and covariance [F,F] (divided by n - 1) of n feature rows, in float64.

    factor [n,F] with factorᵀ·factor = covariance is kept if n <= F: it makes the Fréchet distance of small sets exact and
    fast, where the covariance alone is singular.
    """

    n: int
    mean: Tensor
    covariance: Tensor
    factor: Tensor | None = None


def chunks(features: Features) -> Iterable[Tensor]:
    """Yield the features as float64 chunks [n,F]; an array is one chunk. Raises ValueError for rows that are not finite."""
    for chunk in [features] if isinstance(features, np.ndarray | Tensor) else features:
        # torch does not support the negative strides of reversed NumPy views
        rows = (
            torch.as_tensor(np.ascontiguousarray(chunk) if isinstance(chunk, np.ndarray) else chunk).detach().cpu().double()
        )
        if rows.ndim != 2:
            raise ValueError(f"Features must be a table [N,F] with one row per image; got the shape {tuple(rows.shape)}.")
        if not torch.isfinite(rows).all():
            raise ValueError("The features hold NaN or infinite values: check the images and the feature extractor.")
        yield rows


def table(features: Features, least: int = 1) -> Tensor:
    """Return the features as one table [N,F] in float64. Raises ValueError for fewer than `least` rows."""
    parts = list(chunks(features))
    rows = torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.float64)
    if len(rows) < least:
        raise ValueError(f"{len(rows)} images are too few: give at least {least}.")
    return rows


def two_tables(a: Features, b: Features, least: int = 1) -> tuple[Tensor, Tensor]:
    """Return both sets as tables [N,F] and [M,F]. Raises ValueError if their widths differ or one is too small."""
    x, y = table(a, least), table(b, least)
    same_width(x.shape[1], y.shape[1])
    return x, y


def same_width(f: int, g: int) -> None:
    """Raise ValueError unless both feature sets have the same number of columns."""
    if f != g:
        raise ValueError(f"The two sets have features of {f} and {g} numbers: extract both with the same extractor.")


def statistics_of(features: Features) -> Statistics:
    """Return mean and covariance of [N,F] or of chunks of it (N at least 2), with one chunk in memory at a time.

    Chunks are merged by their centered sums (Chan, Golub & LeVeque 1983), so that a large common offset costs no precision and
    the result does not depend on the chunks. While N <= F the rows are kept for the factor.
    """
    n, mean, scatter = 0, torch.zeros(0), torch.zeros(0)
    kept: list[Tensor] | None = []
    for rows in chunks(features):
        m = len(rows)
        if m == 0:
            continue
        own_mean = rows.mean(0)
        centered = rows - own_mean
        own_scatter = torch.from_numpy(centered.numpy().T @ centered.numpy())  # NumPy uses the symmetry: half the work
        if n == 0:
            n, mean, scatter = m, own_mean, own_scatter
        else:
            same_width(len(mean), rows.shape[1])
            step = own_mean - mean
            scatter = scatter + own_scatter + torch.outer(step, step) * (n * m / (n + m))
            mean = mean + step * (m / (n + m))
            n += m
        if kept is not None:
            kept = [*kept, rows] if n <= len(mean) else None
    if n < 2:
        raise ValueError(f"{n} images have no covariance: give at least 2.")
    factor = (torch.cat(kept) - mean) / (n - 1) ** 0.5 if kept is not None else None
    return Statistics(n, mean, scatter / (n - 1), factor)

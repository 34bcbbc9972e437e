"""Precision and recall, density and coverage: fidelity and diversity from k-nearest-neighbor balls."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.neighbors import nearest, squared_distances
from limner.evaluation.statistics import Features, two_tables


def precision_recall(generated: Features, real: Features, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2), from features [N,F] and [M,F].

    Precision: fraction of generated rows inside the k-th-neighbor ball of some real row. Recall: fraction of real rows
    inside the k-th-neighbor ball of some generated row. Distances are Euclidean. Raises ValueError for fewer than k + 1 rows in either set.
    """
    x, y = two_tables(generated, real)
    precise, _ = _inside(x, y, _radii(y, k))
    recalled, _ = _inside(y, x, _radii(x, k))
    return (precise > 0).double().mean().item(), (recalled > 0).double().mean().item()


def density_coverage(generated: Features, real: Features, k: int = 5) -> tuple[float, float]:
    """Return density and coverage (Naeem et al. 2020, eq. 5 and 6), which are more robust to outliers.

    Density: mean number of real balls that a generated row lies in, divided by k; about 1 for real pictures, unbounded.
    Coverage: fraction of real balls that contain a generated row; about 1 - 2^-k for real pictures. Raises ValueError for
    fewer than k + 1 real rows.
    """
    x, y = two_tables(generated, real)
    holding, reached = _inside(x, y, _radii(y, k))
    return (holding.double().mean() / k).item(), reached.double().mean().item()


def _radii(rows: Tensor, k: int) -> Tensor:
    """Return the distance of each row to its k-th nearest neighbor [N]."""
    return nearest(rows, rows, k, same=True)[0][:, -1]


def _inside(x: Tensor, centers: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each row of x, the number of balls that contain it [N], and for each ball whether it contains any row [M]."""
    # The tolerance absorbs rounding: a row equal to the center must count as inside a ball of radius 0.
    limit = radii.square() + 1e-13 * (centers - centers.mean(0)).square().sum(1).mean()
    counts = torch.zeros(len(x), dtype=torch.long)
    reached = torch.zeros(len(centers), dtype=torch.bool)
    for rows, block in squared_distances(x, centers):
        inside = block <= limit
        counts[rows] = inside.sum(1)
        reached |= inside.any(0)
    return counts, reached

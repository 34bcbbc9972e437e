"""Is each picture like a real one, and is each real one reached? Precision and recall, density and coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.neighbors import nearest, squared_distances
from limner.evaluation.statistics import Features, two_tables


def precision_recall(generated: Features, real: Features, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2), from features [N,F] and [M,F].

    Precision: the share of generated rows within the k-th neighbor's distance of some real row, so looking real;
    recall: the share of real rows so covered by generated ones. The distance is Euclidean. k + 1 rows at least.
    """
    x, y = two_tables(generated, real)
    precise, _ = _inside(x, y, _radii(y, k))
    recalled, _ = _inside(y, x, _radii(x, k))
    return (precise > 0).double().mean().item(), (recalled > 0).double().mean().item()


def density_coverage(generated: Features, real: Features, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 5 and 6): as above, but robust against outliers among either set.

    Density: in how many real neighborhoods a generated row lies, over k; 1 is usual for real pictures, and it may be
    more. Coverage: the share of real neighborhoods with a generated row inside; about 1 - 2^-k for real pictures.
    """
    x, y = two_tables(generated, real)
    holding, reached = _inside(x, y, _radii(y, k))
    return (holding.double().mean() / k).item(), reached.double().mean().item()


def _radii(rows: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other [N]."""
    return nearest(rows, rows, k, same=True)[0][:, -1]


def _inside(x: Tensor, centers: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """In how many balls each x lies [N], and which balls [M] hold any x."""
    # Rows that are equal are at distance 0 but for rounding, and belong in a ball of radius 0.
    limit = radii.square() + 1e-13 * (centers - centers.mean(0)).square().sum(1).mean()
    counts = torch.zeros(len(x), dtype=torch.long)
    reached = torch.zeros(len(centers), dtype=torch.bool)
    for rows, block in squared_distances(x, centers):
        clamp_with_gradient = block <= limit
        counts[rows] = clamp_with_gradient.sum(1)
        reached |= clamp_with_gradient.any(0)
    return counts, reached

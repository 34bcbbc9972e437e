"""Diversity of a set: mean distance, Vendi score, and the number of modes of each class that it covers."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.neighbors import nearest, squared_distances
from limner.evaluation.statistics import Features, table, two_tables


def mean_distance(features: Features) -> float:
    """Return the mean Euclidean distance between two different rows of [N,F]; N at least 2."""
    x = table(features, least=2)
    total = 0.0
    for rows, block in squared_distances(x, x):
        block.diagonal(rows.start).zero_()
        total += block.sqrt_().sum().item()
    return total / (len(x) * (len(x) - 1))


def vendi(features: Features) -> float:
    """Return the Vendi score (Friedman & Dieng 2023, eq. 1) with the cosine kernel: the effective number of different pictures.

    The exponential of the entropy of the eigenvalues of K/N, between 1 (all equal) and N. It uses those of the smaller of
    X·Xᵀ and Xᵀ·X, which are the same except for zeros; it cannot exceed F.
    """
    x = torch.nn.functional.normalize(table(features), dim=1) / len(table(features)) ** 0.5
    values = torch.linalg.svdvals(x).square() if min(x.shape) <= 512 else torch.linalg.eigvalsh(
        x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    )
    values = values[values > 1e-15]
    return torch.exp(-(values * values.log()).sum()).item()


def modes(generated: Features, real: Features, k: int = 10, seed: int = 0) -> tuple[int, int, float]:
    """Return (modes covered, number of modes, evenness): k-means clusters of the real rows, with the nearest generated rows.

    A mode is covered if its share of the generated rows is at least a tenth of its share of the real rows. Evenness is 1 minus
    half the sum of absolute differences of shares: 1 if all shares are equal, near 0 if one rare mode has all rows (after the
    bins of Richardson & Weiss 2018). k is at most a fifth of the smaller set's size.
    """
    x, y = two_tables(generated, real)
    k = max(1, min(k, len(x) // 5, len(y) // 5))
    centers = kmeans(y, k, seed)
    ours = torch.bincount(nearest(x, centers)[1][:, 0], minlength=k).double() / len(x)
    theirs = torch.bincount(nearest(y, centers)[1][:, 0], minlength=k).double() / len(y)
    covered = int(((ours >= 0.1 * theirs) & (ours > 0)).sum())
    return covered, k, 1 - 0.5 * (ours - theirs).abs().sum().item()


def modes_per_class(
    generated: Features, labels: Tensor, real: Features, real_labels: Tensor, k: int = 10, seed: int = 0
) -> dict[int, tuple[int, int, float]]:
    """Return `modes` for each class of the real rows; a class without generated rows covers none."""
    x, y = two_tables(generated, real)
    found = {}
    for label in real_labels.unique().tolist():
        mine, theirs = x[labels == label], y[real_labels == label]
        found[label] = modes(mine, theirs, k, seed) if len(mine) else (0, max(1, min(k, len(theirs) // 5)), 0.0)
    return found


def kmeans(rows: Tensor, k: int, seed: int = 0, rounds: int = 20) -> Tensor:
    """Return centers [k,F] of Lloyd's algorithm from a k-means++ start (Arthur & Vassilvitskii 2007); deterministic by seed."""
    assert 1 <= k <= len(rows), (k, rows.shape)
    random = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(rows), (1,), generator=random))]
    left = (rows - rows[chosen[0]]).square().sum(1)
    while len(chosen) < k:
        weights = left if left.sum() > 0 else torch.ones_like(left)
        chosen.append(int(torch.multinomial(weights, 1, generator=random)))
        left = torch.minimum(left, (rows - rows[chosen[-1]]).square().sum(1))
    centers = rows[chosen].clone()
    for _ in range(rounds):
        index = nearest(rows, centers)[1][:, 0]
        sums = torch.zeros_like(centers).index_add_(0, index, rows)
        counts = torch.bincount(index, minlength=k).to(rows.dtype)[:, None]
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centers)  # an empty cluster keeps its center
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers

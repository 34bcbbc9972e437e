"""Diversity metrics: mean pairwise distance, Vendi score, and the number of modes covered, overall or per class."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.neighbors import nearest, squared_distances
from limner.evaluation.statistics import Features, table, two_tables


def mean_distance(features: Features) -> float:
    """Return the mean pairwise Euclidean distance of the rows of [N,F]. Raises ValueError for fewer than 2 rows."""
    x = table(features, least=2)
    total = 0.0
    for rows, block in squared_distances(x, x):
        block.diagonal(rows.start).zero_()
        total += block.sqrt_().sum().item()
    return total / (len(x) * (len(x) - 1))


def vendi(features: Features) -> float:
    """Return the Vendi score (Friedman & Dieng 2023, eq. 1) with the cosine kernel: the effective number of different pictures.

    It is the exponential of the entropy of the eigenvalues of K/N: 1 if all rows are equal, at most min(N, F). The
    eigenvalues are those of the smaller of X·Xᵀ and Xᵀ·X, which differ only in zeros. Raises ValueError without rows.
    """
    x = table(features)  # once: the chunks of an iterator can be read only once
    x = torch.nn.functional.normalize(x, dim=1) / len(x) ** 0.5
    values = torch.linalg.svdvals(x).square() if min(x.shape) <= 512 else torch.linalg.eigvalsh(
        x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    )
    values = values[values > 1e-15]
    return torch.exp(-(values * values.log()).sum()).item()


def modes(generated: Features, real: Features, k: int = 10, seed: int = 0) -> tuple[int, int, float]:
    """Return (modes covered, number of modes, evenness), where the modes are k-means clusters of the real rows.

    Each row belongs to the mode with the nearest center, as in the bins of Richardson & Weiss 2018. A mode is covered if its
    share of the generated rows is at least a tenth of its share of the real rows. Evenness is 1 minus the total variation
    distance between the two sets' shares: 1 if each mode has the same share of both, near 0 if all generated rows are in one
    rare mode. k is reduced to at most a fifth of the smaller set's size.
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
    """Return `modes` for each class of the real rows; a class without generated rows has no covered modes."""
    x, y = two_tables(generated, real)
    found = {}
    for label in real_labels.unique().tolist():
        mine, theirs = x[labels == label], y[real_labels == label]
        found[label] = modes(mine, theirs, k, seed) if len(mine) else (0, max(1, min(k, len(theirs) // 5)), 0.0)
    return found


def kmeans(rows: Tensor, k: int, seed: int = 0, rounds: int = 20) -> Tensor:
    """Return the k-means centers [k,F]: Lloyd's algorithm, k-means++ initialization (Arthur & Vassilvitskii 2007), seeded."""
    assert 1 <= k <= len(rows), (k, rows.shape)
    random = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(rows), (1,), generator=random))]
    squared = (rows - rows[chosen[0]]).square().sum(1)
    while len(chosen) < k:
        weights = squared if squared.sum() > 0 else torch.ones_like(squared)  # all zero: fewer than k distinct rows
        chosen.append(int(torch.multinomial(weights, 1, generator=random)))
        squared = torch.minimum(squared, (rows - rows[chosen[-1]]).square().sum(1))
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

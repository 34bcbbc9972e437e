"""How varied a set is: mean distance, Vendi score, and the modes of each class that it reaches."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.neighbors import nearest, squared_distances
from limner.evaluation.statistics import Features, table, two_tables


def mean_distance(features: Features) -> float:
    """Mean Euclidean distance between two different rows of [N,F]; N at least 2."""
    x = table(features, least=2)
    total = 0.0
    for rows, block in squared_distances(x, x):
        block.diagonal(rows.start).zero_()
        total += block.sqrt_().sum().item()
    return total / (len(x) * (len(x) - 1))


def vendi(features: Features) -> float:
    """Vendi score (Friedman & Dieng 2023, eq. 1) with the cosine kernel: how many different pictures, effectively.

    exp of the entropy of the eigenvalues of K/N, between 1 (all alike) and N. Those of the smaller of X·Xᵀ and Xᵀ·X
    serve, which have the same ones beside zeros; it cannot exceed F therefore.
    """
    x = torch.nn.functional.normalize(table(features), dim=1) / len(table(features)) ** 0.5
    values = torch.linalg.svdvals(x).square() if min(x.shape) <= 512 else torch.linalg.eigvalsh(
        x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    )
    values = values[values > 1e-15]
    return torch.exp(-(values * values.log()).sum()).item()


def modes(generated: Features, real: Features, k: int = 10, seed: int = 0) -> tuple[int, int, float]:
    """(modes reached, modes there are, evenness): the real rows' k-means clusters and the generated rows' nearest ones.

    A mode is reached when it gets at least a tenth of the share that it has among the real rows. Evenness is 1 less half
    the summed differences of shares: 1 when every mode has its right share, near 0 when one that is rare has all (after
    the bins of Richardson & Weiss 2018). k falls to a fifth of the smaller set's size.
    """
    x, y = two_tables(generated, real)
    k = max(1, min(k, len(x) // 5, len(y) // 5))
    centers = kmeans(y, k, seed)
    ours = torch.bincount(nearest(x, centers)[1][:, 0], minlength=k).double() / len(x)
    theirs = torch.bincount(nearest(y, centers)[1][:, 0], minlength=k).double() / len(y)
    reached = int(((ours >= 0.1 * theirs) & (ours > 0)).sum())
    return reached, k, 1 - 0.5 * (ours - theirs).abs().sum().item()


def modes_per_class(
    generated: Features, labels: Tensor, real: Features, real_labels: Tensor, k: int = 10, seed: int = 0
) -> dict[int, tuple[int, int, float]]:
    """`modes` of each class present among the real rows; a class never generated reaches none."""
    x, y = two_tables(generated, real)
    found = {}
    for label in real_labels.unique().tolist():
        mine, theirs = x[labels == label], y[real_labels == label]
        found[label] = modes(mine, theirs, k, seed) if len(mine) else (0, max(1, min(k, len(theirs) // 5)), 0.0)
    return found


def kmeans(rows: Tensor, k: int, seed: int = 0, rounds: int = 20) -> Tensor:
    """Centers [k,F] by Lloyd's rounds from k-means++ starts (Arthur & Vassilvitskii 2007); the same for the same seed."""
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
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centers)  # an empty cluster stays where it was
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers

"""Nearest neighbors among feature rows, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # rows of the distance matrix in memory


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of |x_i - y_j|²: (rows of x, [n,M]). Both are centered first, which keeps the expanded form accurate."""
    center = y.mean(0)
    x, y = x - center, y - center
    length = y.square().sum(1)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        block = torch.addmm(length[None, :], part, y.T, alpha=-2).add_(part.square().sum(1, keepdim=True))
        yield slice(start, start + len(part)), block.clamp_(min=0)


def nearest(x: Tensor, y: Tensor, k: int = 1, same: bool = False) -> tuple[Tensor, Tensor]:
    """Return the distances [N,k] of each row of x [N,F] to its k nearest rows of y [M,F], and their indices [N,k].

    same: x is y, and a row is not its own neighbor. Raises ValueError for too few rows.
    """
    if len(y) - same < k:
        raise ValueError(f"{len(y)} images have no {k} neighbors each: give at least {k + same}.")
    which = []
    for rows, block in squared_distances(x, y):
        if same:
            block.diagonal(rows.start).fill_(float("inf"))
        which.append(block.topk(k, dim=1, largest=False).indices)
    index = torch.cat(which)
    # Recomputed directly: the expanded form is off by 1e-8 for equal rows, but a copy must be at exactly 0.
    distances = torch.stack([(x - y[index[:, i]]).norm(dim=1) for i in range(k)], 1)
    return distances, index

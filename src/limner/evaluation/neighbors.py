"""Nearest neighbors of feature rows, computed in blocks of the distance matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # rows of the distance matrix in memory


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the squared distances |x_i - y_j|² in blocks: (slice of the rows of x, distances [n,M]).

    Both sets are centered on the mean of y, which keeps the expansion |x|² - 2x·y + |y|² accurate.
    """
    center = y.mean(0)
    x, y = x - center, y - center
    length = y.square().sum(1)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        block = torch.addmm(length[None, :], part, y.T, alpha=-2).add_(part.square().sum(1, keepdim=True))
        yield slice(start, start + len(part)), block.clamp_(min=0)


def nearest(x: Tensor, y: Tensor, k: int = 1, same: bool = False) -> tuple[Tensor, Tensor]:
    """Return the distances [N,k] of each row of x [N,F] to its k nearest rows of y [M,F], and their indices [N,k].

    same: x is y, and a row does not count as its own neighbor. Raises ValueError if y has fewer than k rows (k + 1 if same).
    """
    if len(y) - same < k:
        raise ValueError(f"{len(y)} images are too few for {k} nearest neighbors: give at least {k + same}.")
    which = []
    for rows, block in squared_distances(x, y):
        if same:
            block.diagonal(rows.start).fill_(float("inf"))
        which.append(block.topk(k, dim=1, largest=False).indices)
    index = torch.cat(which)
    # Recomputed without the expansion, which is off by 1e-8 for equal rows: the distance of a copy must be exactly 0.
    distances = torch.stack([(x - y[index[:, i]]).norm(dim=1) for i in range(k)], 1)
    return distances, index

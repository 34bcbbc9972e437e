"""Large pictures piece by piece: overlapping tiles whose results are blended, so that no seam is seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: they cover it, and neighbours share at least `overlap` pixels."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window(length: int, before: int, after: int, margin: int) -> Tensor:
    """A tile's weight along a side: 0 within `margin` of an edge that has a neighbour, then rising over the rest of the
    `before` or `after` pixels that are shared; 1 elsewhere. Two neighbours sum to 1 where they share pixels evenly."""
    weight = torch.ones(length)
    for shared, flipped in ((before, False), (after, True)):
        if shared:
            ramp = ((torch.arange(shared) + 0.5 - margin) / max(1, shared - 2 * margin)).clamp(0, 1)
            part = weight.flip(0) if flipped else weight
            part[:shared] *= ramp
            weight = part.flip(0) if flipped else part
    return weight


def in_tiles(translate: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int) -> Tensor:
    """`translate` [1,C,H,W] -> the same shape, applied to tiles of at most `tile` pixels a side and blended.

    What lies within a quarter of the overlap of a tile's inner edge does not count: for a network that looks no farther
    than that, the result is that of the whole picture.
    """
    assert 0 <= overlap <= tile // 2, (tile, overlap)
    h, w = x.shape[-2:]
    if h <= tile and w <= tile:
        return translate(x)
    total, weights = torch.zeros_like(x), x.new_zeros(1, 1, h, w)
    tops, lefts = starts(h, tile, overlap), starts(w, tile, overlap)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            piece = x[..., top : top + tile, left : left + tile]
            rows = window(piece.shape[-2], *_shared(tops, i, tile), overlap // 4)
            columns = window(piece.shape[-1], *_shared(lefts, j, tile), overlap // 4)
            weight = (rows[:, None] * columns[None, :]).to(x.device)
            area = (..., slice(top, top + piece.shape[-2]), slice(left, left + piece.shape[-1]))
            total[area] += translate(piece) * weight
            weights[area] += weight
    return total / weights.clamp_min(1e-8)


def _shared(begins: list[int], i: int, tile: int) -> tuple[int, int]:
    """How many pixels tile i shares with the one before and the one after."""
    before = begins[i - 1] + tile - begins[i] if i else 0
    after = begins[i] + tile - begins[i + 1] if i + 1 < len(begins) else 0
    return before, after

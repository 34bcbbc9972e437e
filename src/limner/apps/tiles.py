"""Tiled inference for large pictures: overlapping tiles, normalized with shared statistics and blended without seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the start positions of tiles along an axis: they cover it, and neighbors share at least `overlap` pixels."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window(length: int, before: int, after: int, margin: int) -> Tensor:
    """Return the blending weights of a tile along an axis.

    They are 0 within `margin` of an edge that has a neighbor, rise over the rest of the `before` or `after` pixels that are
    shared, and are 1 elsewhere. Two neighbors with equal overlaps sum to 1.
    """
    weight = torch.ones(length)
    for shared, flipped in ((before, False), (after, True)):
        if shared:
            ramp = ((torch.arange(shared) + 0.5 - margin) / max(1, shared - 2 * margin)).clamp(0, 1)
            part = weight.flip(0) if flipped else weight
            part[:shared] *= ramp
            weight = part.flip(0) if flipped else part
    return weight


def thumbnail(x: Tensor, side: int, least: int) -> Tensor:
    """Return x [1,C,H,W] resized to a longer side of `side`, antialiased, with a shorter side of at least `least`."""
    factor = side / max(x.shape[-2:])
    size = [max(min(least, length), round(length * factor)) for length in x.shape[-2:]]
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


@contextmanager
def normalized_as(network: nn.Module, translate: Callable[[Tensor], Tensor], small: Tensor) -> Iterator[None]:
    """Make every instance normalization of the network use the mean and variance of the picture `small`, within the context.

    With its own statistics each tile would be normalized differently, and an empty one would become noise; those of the
    downscaled whole picture treat all tiles alike (Chen et al. 2022, "Towards ultra-resolution neural style transfer via
    thumbnail instance normalization", section 3.2).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    moments: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, inputs: Any) -> None:
        x = inputs[0].float()
        moments[norm] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    def normalize(norm: Any, inputs: Any, output: Tensor) -> Tensor:
        made = F.batch_norm(inputs[0].float(), *moments[norm], norm.weight, norm.bias, eps=norm.eps)
        return made.to(output.dtype)

    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.register_forward_pre_hook(measure).remove)
        translate(small)
    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.register_forward_hook(normalize).remove)
        yield


def in_tiles(
    translate: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Apply `translate` [1,C,H,W] -> [1,C,H,W] to tiles of at most `tile` pixels a side and blend the results.

    Outputs within a quarter of the overlap of a tile's inner edge get no weight: for a network with a receptive field no
    larger than that, the result equals that of the whole picture. progress: called with (tiles done, tiles).
    """  # fmt: skip
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
            if progress:
                progress(i * len(lefts) + j + 1, len(tops) * len(lefts))
    return total / weights.clamp_min(1e-8)


def _shared(begins: list[int], i: int, tile: int) -> tuple[int, int]:
    """Return the number of pixels that tile i shares with the previous and with the next tile."""
    before = begins[i - 1] + tile - begins[i] if i else 0
    after = begins[i] + tile - begins[i + 1] if i + 1 < len(begins) else 0
    return before, after

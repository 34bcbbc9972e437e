"""Large pictures piece by piece: overlapping tiles, normalized alike and blended, so that no seam is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: they cover it, and neighbors share at least `overlap` pixels."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window(length: int, before: int, after: int, margin: int) -> Tensor:
    """A tile's weight along a side: 0 within `margin` of an edge that has a neighbor, then rising over the rest of the
    `before` or `after` pixels that are shared; 1 elsewhere. Two neighbors sum to 1 where they share pixels evenly."""
    weight = torch.ones(length)
    for shared, flipped in ((before, False), (after, True)):
        if shared:
            ramp = ((torch.arange(shared) + 0.5 - margin) / max(1, shared - 2 * margin)).clamp(0, 1)
            part = weight.flip(0) if flipped else weight
            part[:shared] *= ramp
            weight = part.flip(0) if flipped else part
    return weight


def thumbnail(x: Tensor, side: int, least: int) -> Tensor:
    """x [1,C,H,W] with its longer side brought to `side`, antialiased, and its shorter one not below `least`."""
    factor = side / max(x.shape[-2:])
    size = [max(min(least, length), round(length * factor)) for length in x.shape[-2:]]
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


@contextmanager
def normalized_as(network: nn.Module, translate: Callable[[Tensor], Tensor], small: Tensor) -> Iterator[None]:
    """Within, every instance normalization of the network takes mean and variance from the picture `small`.

    By its own statistics each tile would be stretched differently, an empty one into noise; by those of the whole
    picture made small, all are treated alike (Chen et al. 2022, "Towards ultra-resolution neural style transfer via thumbnail
    instance normalization", section 3.2).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    known: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, inputs: Any) -> None:
        x = inputs[0].float()
        known[norm] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    def normalize(norm: Any, inputs: Any, output: Tensor) -> Tensor:
        made = F.batch_norm(inputs[0].float(), *known[norm], norm.weight, norm.bias, eps=norm.eps)
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
    """`translate` [1,C,H,W] -> the same shape, applied to tiles of at most `tile` pixels a side and blended.

    What lies within a quarter of the overlap of a tile's inner edge does not count: for a network that looks no farther
    than that, the result is that of the whole picture. progress: called with (tiles done, tiles).
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
    """How many pixels tile i shares with the one before and the one after."""
    before = begins[i - 1] + tile - begins[i] if i else 0
    after = begins[i] + tile - begins[i + 1] if i + 1 < len(begins) else 0
    return before, after

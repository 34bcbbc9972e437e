"""Tiled inference for large pictures: overlapping tiles, normalized with shared statistics and blended without seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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


def pad_to_minimum(x: Tensor, least: int) -> tuple[Tensor, tuple[int, int]]:
    """Return x with its border replicated until no side is shorter than `least`, and its original (H, W)."""
    h, w = x.shape[-2:]
    below, right = max(0, least - h), max(0, least - w)
    return (F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x), (h, w)


@contextmanager
def normalized_as(network: nn.Module, translate: Callable[[Tensor], Tensor], small: Tensor) -> Iterator[None]:
    """Make every instance normalization of the network use the mean and variance of the picture `small`, within the context.

    With its own statistics each tile would be normalized differently, and an empty one would become noise; those of the
    downscaled whole picture treat all tiles alike (Chen et al. 2022, "Towards ultra-resolution neural style transfer via
    thumbnail instance normalization", section 3.2).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, inputs: Any) -> None:
        x = inputs[0].float()
        statistics[norm] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    def normalize(norm: Any, inputs: Any, output: Tensor) -> Tensor:
        made = F.batch_norm(inputs[0].float(), *statistics[norm], norm.weight, norm.bias, eps=norm.eps)
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
    h, w = x.shape[-2:]
    if h <= tile and w <= tile:
        return translate(x)
    rows = blended_rows(lambda top, bottom: x[..., top:bottom, :], translate, (h, w), tile, overlap, progress)
    return torch.cat([band for _, band in rows], -2)


def blended_rows(
    read: Callable[[int, int], Tensor], translate: Callable[[Tensor], Tensor], size: tuple[int, int], tile: int, overlap: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Apply `translate` [1,I,h,w] -> [1,C,h,w] to overlapping tiles of a picture of (H,W) `size`; yield (top, rows [1,C,h,W]).

    read: (top, bottom) -> those rows of the picture, [1,I,bottom-top,W]. One row of tiles is in memory at a time.
    """  # fmt: skip
    assert 0 <= overlap <= tile // 2, (tile, overlap)
    tops, lefts = starts(size[0], tile, overlap), starts(size[1], tile, overlap)
    total = weights = torch.empty(0)
    for i, top in enumerate(tops):
        band = read(top, min(top + tile, size[0]))
        before = _shared(tops, i, tile)[0]  # rows that the previous tiles have begun
        for j, left in enumerate(lefts):
            piece = band[..., left : left + tile]
            made = translate(piece)
            if not j:
                total, weights = _begin(total, weights, made, band.shape[-2] - before, size[1])
            rows = window(piece.shape[-2], *_shared(tops, i, tile), overlap // 4)
            columns = window(piece.shape[-1], *_shared(lefts, j, tile), overlap // 4)
            weight = (rows[:, None] * columns[None, :]).to(made.device)
            total[..., left : left + tile] += made * weight
            weights[..., left : left + tile] += weight
            if progress:
                progress(i * len(lefts) + j + 1, len(tops) * len(lefts))
        ready = (tops[i + 1] if i + 1 < len(tops) else size[0]) - top
        yield top, total[..., :ready, :] / weights[..., :ready, :].clamp_min(1e-8)
        total, weights = total[..., ready:, :], weights[..., ready:, :]


def _begin(total: Tensor, weights: Tensor, made: Tensor, more: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the sums of a row of tiles: those of the rows that the previous one began, and zeros for `more` rows."""
    new, new_weights = made.new_zeros(1, made.shape[1], more, width), made.new_zeros(1, 1, more, width)
    if not total.numel():
        return new, new_weights
    return torch.cat([total, new], -2), torch.cat([weights, new_weights], -2)


def _shared(begins: list[int], i: int, tile: int) -> tuple[int, int]:
    """Return the number of pixels that tile i shares with the previous and with the next tile."""
    before = begins[i - 1] + tile - begins[i] if i else 0
    after = begins[i] + tile - begins[i + 1] if i + 1 < len(begins) else 0
    return before, after


# ---- tiles that equal the whole ----------------------------------------------------------------------------------------

Box = tuple[int, int, int, int]  # (left, top, right, bottom), as Pillow has it
MIN_INPUT = 20_481  # numbers: PyTorch computes convolutions of smaller inputs with another algorithm than oneDNN's


@dataclass(frozen=True)
class Span:
    """A tile along one axis: output for the pixels first ... last - 1 is computed from start ... stop - 1."""

    first: int
    last: int
    start: int
    stop: int


def spans(length: int, count: int, margin: int, multiple: int = 1) -> list[Span]:
    """Return at most `count` equal tiles of an axis, each computed from `margin` more pixels on both sides within the picture.

    All are computed from equally many pixels (but for less than `multiple`), starting at a multiple.
    """
    tile = -(-length // (count * multiple)) * multiple
    extent = min(length, -(-(tile + 2 * margin) // multiple) * multiple + multiple)
    found = []
    for first in range(0, length, tile):
        last = min(first + tile, length)
        start = max(0, min(first - margin, length - extent)) // multiple * multiple
        stop = min(length, max(start + extent, last + margin))
        assert start <= max(0, first - margin) and stop >= min(length, last + margin), (first, last, start, stop)
        found.append(Span(first, last, start, stop))
    return found


def exact_spans(size: tuple[int, int], tile: int, margin: int, multiple: int) -> tuple[list[Span], list[Span]]:
    """Return the tiles of a picture of (H,W) `size`, at most `tile` a side, by rows and columns.

    They are larger where MIN_INPUT needs it.
    """
    rows, columns = (-(-side // tile) for side in size)
    while rows * columns > 1 and (size[0] // rows) * (size[1] // columns) < MIN_INPUT * multiple**2:
        rows, columns = (rows - 1, columns) if rows > columns else (rows, columns - 1)
    return spans(size[0], rows, margin, multiple), spans(size[1], columns, margin, multiple)


def exact_tiles(
    read: Callable[[Box], Tensor], restore: Callable[[Tensor], Tensor], size: tuple[int, int], tile: int, margin: int,
    multiple: int, scale: int, progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Apply `restore` [1,I,h,w] -> [1,C,s*h,s*w] to tiles of a picture of (H,W) `size`; yield (top, left, output) of each.

    For a network whose outputs depend on no input further than `margin` away, and on its position by no more than the
    remainder of `multiple`, each tile computes the numbers of the whole picture: real borders stay borders, and the margin is
    cut off. read: a box -> that part of the picture, [1,I,h,w].

    The numbers are the same bit for bit where an output pixel's sum is added up in the same order at any place of any tile.
    oneDNN's fp32 convolutions of channels_last tensors (x86 CPUs, any number of threads) do so; MIN_INPUT keeps every tile on
    them. Elsewhere (GPUs, CPUs without oneDNN) tiles equal the whole up to rounding.
    """  # fmt: skip
    rows, columns = exact_spans(size, tile, margin, multiple)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            made = restore(read((column.start, row.start, column.stop, row.stop)))
            yield row.first * scale, column.first * scale, made[..., _part(row, scale), :][..., _part(column, scale)]
            if progress:
                progress(i * len(columns) + j + 1, len(rows) * len(columns))


def _part(span: Span, scale: int) -> slice:
    """Return the output of a tile that lies outside its margin."""
    return slice((span.first - span.start) * scale, (span.last - span.start) * scale)

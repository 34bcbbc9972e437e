"""All pictures of a Source at once: their headers, then their pixels, in parallel and each decoded once."""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from limner.data.cache import room_for
from limner.data.image import Damaged, Header, as_color, decoded, header, passing, scales
from limner.data.source import Rejected, Source

Progress = Callable[[int, int], None]
HELD = 1 << 28   # bytes of small files kept open between the two passes, so that each is opened once
LEAST = 16       # pixels a side
CHUNK = 16       # pictures a turn of a thread


@dataclass
class Decoded:
    """What came of decoding: pictures uint8 [N,H,W,C], and where each comes from."""

    pictures: np.ndarray
    kept: list[int]                  # the number in the Source of each picture
    bad: list[Rejected]                   # what decoding found, beside what the Source knew before
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)  # upright (H,W) as stored -> how many
    modes: dict[str, int] = field(default_factory=dict)              # Pillow mode -> how many
    alpha: int = 0                   # how many have real transparency
    enlarged: int = 0                # how many were smaller than the target
    equal: list[list[int]] | None = None  # groups of rows equal pixel for pixel, once someone has looked
    passing: bool = False            # some may be readable the next time


def default_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The (H,W) to train at: what at least nine in ten pictures share where that is 16 to 64 a side, else 64x64."""
    if sizes:
        (common, count), = Counter(sizes).most_common(1)
        if count >= 0.9 * len(sizes) and all(LEAST <= side <= 64 for side in common):
            return common
    return 64, 64


def target_size(size: int | Sequence[int] | None, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The `size` a person gave (a side, (H,W) or None for default_size) as (H,W). Raises ValueError in a sentence."""
    if size is None:
        return default_size(sizes)
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) for side in both):
        raise ValueError(f"size {size!r} is not understood: give one whole number, or height and width.")
    if min(both) < LEAST:
        raise ValueError(f"size {both[0]}x{both[1]} is too small to learn from: give at least {LEAST} a side.")
    if max(both) > 4096:
        raise ValueError(f"size {both[0]}x{both[1]} is beyond what can be trained: give at most 4096 a side.")
    return both[0], both[1]


def threads() -> int:
    """How many decoding threads this process may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quietly() -> Iterator[None]:
    """Pillow warns of large pictures and odd EXIF on stderr; what matters of it is in our reasons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def each(work: Callable[[int], None], count: int, workers: int, tick: Callable[[int], None]) -> None:
    """work(0) ... work(count - 1) on several threads; tick(k) on this one after every k. An interruption ends soon."""
    if workers <= 1:
        for i in range(count):
            work(i)
            tick(1)
        return

    def run(first: int) -> int:
        last = min(first + CHUNK, count)
        for i in range(first, last):
            work(i)
        return last - first

    pool = ThreadPoolExecutor(workers)
    try:
        waiting = {pool.submit(run, first) for first in range(0, count, CHUNK)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            tick(sum(future.result() for future in done))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def headers_of(
    source: Source, workers: int, tick: Callable[[int], None], skip: Callable[[int, Damaged], None]
) -> tuple[list[Header | None], dict[int, Image.Image]]:
    """The header of every picture (None for one that `skip` was called with), and small files that stay open, by number."""
    headers: list[Header | None] = [None] * len(source)
    held: dict[int, Image.Image] = {}
    budget = [HELD]

    def look(i: int) -> None:
        try:
            image = source.open(i)
        except Damaged as damage:
            skip(i, damage)
            return
        headers[i] = header(image)
        file = getattr(image, "fp", None)
        if isinstance(file, io.BytesIO) and budget[0] > 0:
            budget[0] -= file.getbuffer().nbytes
            held[i] = image
        elif file is not None:
            image.close()

    each(look, len(source), workers, tick)
    return headers, held


def decode_all(
    source: Source, size: int | Sequence[int] | None, fit: str, channels: int | None, background: str,
    workers: int | None = None, progress: Progress | None = None,
) -> Decoded:
    """Every usable picture of `source` at one size and number of channels (None: what the pictures need).

    Raises ValueError in one sentence when none is usable.
    """
    ground = as_color(background)
    if source.array is not None and (whole := _as_it_is(source.array, size, channels)):
        return whole
    count, workers, seen = len(source), workers or threads(), 0
    reasons: dict[int, str] = {}
    again: set[int] = set()

    def tick(more: int) -> None:
        nonlocal seen
        seen += more
        if progress is not None:
            progress(seen, 2 * count)

    def skip(i: int, damage: Damaged) -> None:
        reasons[i] = str(damage)
        if passing(damage):
            again.add(i)

    with quietly():
        headers, held = headers_of(source, workers, tick, skip)
        good = [i for i, head in enumerate(headers) if head is not None]
        heads = [head for head in headers if head is not None]
        target = target_size(size, [(head.height, head.width) for head in heads])
        wide = channels or (4 if any(h.alpha for h in heads) else 3 if any(h.color for h in heads) else 1)
        pictures = room_for((len(good), *target, wide))
        real = np.zeros(len(good), bool)
        colored = [channels is not None]  # whether a color was met, or none need be looked for
        usable = np.ones(len(good), bool)

        def draw(row: int) -> None:
            i = good[row]
            try:
                image = held.pop(i, None) or source.open(i)
                try:
                    array, real[row] = decoded(image, target, wide, fit, ground)
                finally:
                    if not isinstance(getattr(image, "fp", None), io.BytesIO):
                        image.close()
            except Damaged as damage:
                skip(i, damage)
                usable[row] = False
                return
            pictures[row] = array
            if not colored[0] and array.shape[-1] >= 3:
                red = array[..., 0]
                colored[0] = bool((red != array[..., 1]).any() or (red != array[..., 2]).any())

        tick(count - len(good))
        each(draw, len(good), workers, tick)
    found = [(source.names[i], reasons[i]) for i in sorted(reasons)]
    rows = np.flatnonzero(usable)
    if not len(rows):
        bad = source.bad + found
        raise ValueError(
            f"{source.origin[:1].upper()}{source.origin[1:]} holds no usable picture: {len(bad):,} cannot be read, "
            f"such as {bad[0][0]} ({bad[0][1]})."
        )
    alpha = int(real[rows].sum())
    needed = channels or (4 if alpha else 3 if colored[0] else 1)
    used = [heads[row] for row in rows]
    return Decoded(
        compact(pictures, rows, needed), [good[row] for row in rows], found,
        dict(Counter((h.height, h.width) for h in used).most_common()), dict(Counter(h.mode for h in used)),
        alpha, sum(max(scales((h.height, h.width), target, fit)) > 1 for h in used), passing=bool(again),
    )


def compact(pictures: np.ndarray, rows: np.ndarray, channels: int) -> np.ndarray:
    """The given rows of [N,H,W,C] with the first `channels` only; the array itself where that is all of it."""
    if len(rows) == len(pictures) and channels == pictures.shape[-1]:
        return pictures
    chosen = room_for((len(rows), *pictures.shape[1:3], channels))
    for i in range(0, len(rows), 1024):
        chosen[i : i + 1024] = pictures[rows[i : i + 1024], ..., :channels]
    return chosen


def _as_it_is(array: np.ndarray, size: int | Sequence[int] | None, channels: int | None) -> Decoded | None:
    """An array of pictures that needs no resizing nor any change of channels, as Decoded; else None."""
    n, h, w, c = array.shape
    target = target_size(size, [(h, w)])
    if (h, w) != target or (channels or c) != c or c == 4:  # with 4, clear pixels still want their clean color
        return None
    if c == 3 and channels is None and not any(
        (array[i : i + 256, ..., :1] != array[i : i + 256, ..., 1:]).any() for i in range(0, n, 256)
    ):
        return None
    return Decoded(array, list(range(n)), [], {(h, w): n}, {{1: "L", 3: "RGB"}[c]: n})

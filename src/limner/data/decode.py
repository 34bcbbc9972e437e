"""Decoding of all pictures of a Source: first the headers, then the pixels, in parallel and each decoded once."""

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

from limner.data.cache import allocate
from limner.data.image import Damaged, Header, decode_image, header, is_transient, parse_color, scales
from limner.data.source import Rejected, Source

Progress = Callable[[int, int], None]
SMALL_BYTES = 1 << 14  # of a picture in memory, up to which one thread is the fastest
MAX_OPEN_BYTES = 1 << 28  # of small files kept open between the two passes, so that each is opened once
MIN_SIDE = 16             # pixels
CHUNK = 16                # pictures per task of a thread


@dataclass
class Decoded:
    """The result of decoding: pictures uint8 [N,H,W,C] and facts about them."""

    pictures: np.ndarray
    kept: list[int]                  # number in the Source of each picture
    bad: list[Rejected]              # found by decoding, in addition to those of the Source
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)  # upright (H,W) of the files -> count
    modes: dict[str, int] = field(default_factory=dict)              # Pillow mode -> count
    alpha: int = 0                   # number of pictures with transparent pixels
    enlarged: int = 0                # number of pictures smaller than the target
    equal: list[list[int]] | None = None  # groups of identical rows, once computed
    transient: bool = False          # whether some failures may not occur again


def default_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the default (H,W): the size of at least 90% of the pictures if it has 16 to 64 pixels a side, otherwise 64x64."""
    if sizes:
        (common, count), = Counter(sizes).most_common(1)
        if count >= 0.9 * len(sizes) and all(MIN_SIDE <= side <= 64 for side in common):
            return common
    return 64, 64


def target_size(size: int | Sequence[int] | None, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return `size` (a side, (H,W) or None for default_size) as (H,W). Raises ValueError for an invalid size."""
    if size is None:
        return default_size(sizes)
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) for side in both):
        raise ValueError(f"size {size!r} is not understood: give one whole number, or height and width.")
    if min(both) < MIN_SIDE:
        raise ValueError(f"size {both[0]}x{both[1]} is too small to learn from: give at least {MIN_SIDE} a side.")
    if max(both) > 4096:
        raise ValueError(f"size {both[0]}x{both[1]} is too large to train on: give at most 4096 a side.")
    return both[0], both[1]


def cpu_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about large pictures and invalid EXIF; the reasons of skipped pictures cover what matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parallel_for(work: Callable[[int], None], count: int, workers: int, tick: Callable[[int], None]) -> None:
    """Call work(0) ... work(count - 1) on several threads, and tick(k) on this one after every k. Interrupts end it soon."""
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


class Reading:
    """One pass over the files of a source, their headers and then their pixels: progress, failures, files left open."""

    def __init__(self, source: Source, workers: int | None, progress: Progress | None) -> None:
        # small arrays are resized in Python for the most part, where threads only wait for each other: two took twice as long as one
        small = source.array is not None and source.array[:1].nbytes <= SMALL_BYTES
        self.source, self.workers, self.progress = source, workers or (1 if small else cpu_count()), progress
        self.headers: list[Header | None] = [None] * len(source)  # None for unreadable files
        self.seen = 0  # headers and pixels read, of twice the number of files
        self.reasons: dict[int, str] = {}  # number of a file -> why it cannot be used
        self.transient = False  # whether some failures may not occur again
        self._open_files: dict[int, Image.Image] = {}  # small ones, between their headers and their pixels

    def tick(self, more: int) -> None:
        """Report that as many more headers or pictures are done."""
        self.seen += more
        if self.progress is not None:
            self.progress(self.seen, 2 * len(self.source))

    def skip(self, i: int, damage: Damaged) -> None:
        """Record that file i cannot be used."""
        self.reasons[i] = str(damage)
        if is_transient(damage):  # no |=, between whose read and write another thread may set it
            self.transient = True

    def read_headers(self) -> list[tuple[int, Header]]:
        """Return (number, header) of all readable files."""
        budget = [MAX_OPEN_BYTES]

        def read_header(i: int) -> None:
            try:
                image = self.source.open(i)
            except Damaged as damage:
                self.skip(i, damage)
                return
            self.headers[i] = header(image)
            file = getattr(image, "fp", None)
            if isinstance(file, io.BytesIO) and budget[0] > 0:
                budget[0] -= file.getbuffer().nbytes
                self._open_files[i] = image
            elif file is not None:
                image.close()

        parallel_for(read_header, len(self.source), self.workers, self.tick)
        return [(i, head) for i, head in enumerate(self.headers) if head is not None]

    def read_pixels(self, heads: Sequence[tuple[int, Header]], decode: Callable[[int, Image.Image], None]) -> None:
        """Call decode(row, opened image) for every row of `heads`, in threads. A file for which it raises Damaged is skipped."""

        def decode_row(row: int) -> None:
            i, _ = heads[row]
            try:
                image = self._open_files.pop(i, None) or self.source.open(i)
                try:
                    decode(row, image)
                finally:
                    if not isinstance(getattr(image, "fp", None), io.BytesIO):
                        image.close()
            except Damaged as damage:
                self.skip(i, damage)

        self.tick(len(self.source) - len(heads))
        parallel_for(decode_row, len(heads), self.workers, self.tick)

    def usable_rows(self, heads: Sequence[tuple[int, Header]]) -> list[int]:
        """Return the rows of `heads` that were decoded. Raises ValueError when there is none."""
        rows = [row for row, (i, _) in enumerate(heads) if i not in self.reasons]
        if not rows:
            source, bad = self.source, self.source.bad + self.bad
            raise ValueError(
                f"{source.origin[:1].upper()}{source.origin[1:]} holds no usable picture: {len(bad):,} cannot be read, such as "
                f"{bad[0][0]} ({bad[0][1]})."
            )
        return rows

    @property
    def bad(self) -> list[Rejected]:
        """The unusable files with the reasons, in order."""
        return [(self.source.names[i], self.reasons[i]) for i in sorted(self.reasons)]


def decode_all(
    source: Source, size: int | Sequence[int] | None, fit: str, channels: int | None, background: str,
    workers: int | None = None, progress: Progress | None = None,
) -> Decoded:
    """Decode the usable pictures of `source` to one size and number of channels (None: as many as the pictures need).

    Raises ValueError when none is usable.
    """
    fill = parse_color(background)
    if source.array is not None and (unchanged := _reuse_array(source.array, size, channels)):
        return unchanged
    reading = Reading(source, workers, progress)
    with suppress_warnings():
        heads = reading.read_headers()
        target = target_size(size, [(head.height, head.width) for _, head in heads])
        wide = channels or (4 if any(h.alpha for _, h in heads) else 3 if any(h.color for _, h in heads) else 1)
        pictures = allocate((len(heads), *target, wide))
        real = np.zeros(len(heads), bool)
        colored = [channels is not None]  # whether a colored pixel was found, or none needs to be searched for

        def decode(row: int, image: Image.Image) -> None:
            array, real[row] = decode_image(image, target, wide, fit, fill)
            pictures[row] = array
            if not colored[0] and array.shape[-1] >= 3:
                red = array[..., 0]
                colored[0] = bool((red != array[..., 1]).any() or (red != array[..., 2]).any())

        reading.read_pixels(heads, decode)
    rows = np.array(reading.usable_rows(heads))
    alpha = int(real[rows].sum())
    needed = channels or (4 if alpha else 3 if colored[0] else 1)
    used = [heads[row][1] for row in rows]
    return Decoded(
        select_rows(pictures, rows, needed), [heads[row][0] for row in rows], reading.bad,
        dict(Counter((h.height, h.width) for h in used).most_common()), dict(Counter(h.mode for h in used)),
        alpha, sum(max(scales((h.height, h.width), target, fit)) > 1 for h in used), transient=reading.transient,
    )


def select_rows(pictures: np.ndarray, rows: np.ndarray, channels: int) -> np.ndarray:
    """Return the given rows of [N,H,W,C] with the first `channels` only; the array itself if that is all of it."""
    if len(rows) == len(pictures) and channels == pictures.shape[-1]:
        return pictures
    chosen = allocate((len(rows), *pictures.shape[1:3], channels))
    for i in range(0, len(rows), 1024):
        chosen[i : i + 1024] = pictures[rows[i : i + 1024], ..., :channels]
    return chosen


def _reuse_array(array: np.ndarray, size: int | Sequence[int] | None, channels: int | None) -> Decoded | None:
    """Return an array of pictures that needs neither resizing nor another number of channels as Decoded, otherwise None."""
    n, h, w, c = array.shape
    target = target_size(size, [(h, w)])
    if (h, w) != target or (channels or c) != c or c == 4:  # with 4, the color of transparent pixels must be normalized
        return None
    if c == 3 and channels is None and not any(
        (array[i : i + 256, ..., :1] != array[i : i + 256, ..., 1:]).any() for i in range(0, n, 256)
    ):
        return None
    return Decoded(array, list(range(n)), [], {(h, w): n}, {{1: "L", 3: "RGB"}[c]: n})

"""Facts about a data set before training: counts, sizes, classes, damaged files, and thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from limner.core.images import ImageSpec, to_pil
from limner.core.text import counted
from limner.data.dataset import Dataset, prepare
from limner.data.decode import Progress
from limner.data.image import convert_channels, resized
from limner.data.labels import TEXT_NOTE, text_like
from limner.data.source import Rejected, Source

THUMBNAIL_SIDE = 64  # pixels
CROP = 128  # pixels a side of the crops that are counted


@dataclass(frozen=True)
class DataReport:
    """Facts about a data set, for inspection before training."""

    origin: str
    count: int                                  # usable pictures
    spec: ImageSpec                             # shape of the training pictures
    sizes: dict[tuple[int, int], int]           # upright (H,W) of the files -> count, most common first
    least: tuple[int, int]                      # smallest height, smallest width
    median: tuple[int, int]
    most: tuple[int, int]
    modes: dict[str, int]                       # Pillow mode of the files -> count
    classes: dict[str, int]                     # class -> count; empty without labels
    bad: list[Rejected]                         # (name, reason)
    others: dict[str, int]                      # suffix -> number of files that are not pictures
    duplicates: list[list[str]]                 # names, by group of equal pictures
    thumbnails: np.ndarray                      # uint8 [K,3,64,64], K <= 64, spread evenly over classes
    notes: list[str]
    attribution: str
    fingerprint: str


def scan(
    source: Source, progress: Progress | None = None, *, size: int | Sequence[int] | None = None, fit: str = "crop",
    channels: int | str = "auto", background: str = "white", workers: int | None = None, cache: bool = True,
) -> DataReport:
    """Return facts about all pictures of `source`, prepared with these options and cached for the training that follows.

    Raises ValueError as `prepare` does.
    """
    return build_report(source, prepare(
        source, size=size, fit=fit, channels=channels, background=background, workers=workers, progress=progress,
        cache=cache,
    ))


def build_report(source: Source, dataset: Dataset) -> DataReport:
    """Return the report on a Source and the Dataset that `prepare` made of it."""
    least, median, most = size_range(dataset.sizes)
    counts = {} if dataset.labels is None else {
        name: int(count)
        for name, count in zip(dataset.classes, dataset.labels.bincount(minlength=len(dataset.classes)), strict=True)
    }
    notes = list(dataset.notes)
    if counts and max(counts.values()) >= 10 * max(1, min(counts.values())):
        rare = min(counts, key=lambda name: counts[name])
        notes.append(f"Classes are imbalanced: {rare} has {counts[rare]:,}, the largest {max(counts.values()):,}.")
    if text_like(source.name, source.classes):
        notes.append(TEXT_NOTE)
    if note := too_few(len(dataset)):
        notes.append(note)
    if note := crops_note(dataset.sizes):
        notes.append(note)
    return DataReport(
        origin=dataset.origin, count=len(dataset), spec=dataset.spec, sizes=dataset.sizes, least=least, median=median,
        most=most, modes=dataset.modes, classes=counts, bad=dataset.bad, others=source.others,
        duplicates=dataset.duplicates, thumbnails=thumbnails(dataset), notes=notes, attribution=dataset.attribution,
        fingerprint=dataset.fingerprint,
    )


def too_few(count: int) -> str:
    """Return a warning about too few pictures for a generator, or "".

    Methods for few pictures were shown to work on about a hundred (Zhao et al. 2020, "100-shot"; Liu et al. 2021); below 500
    the generator of an ordinary recipe stays close to the training pictures.
    """
    if count < 100:
        return (
            f"{counted(count, 'picture is', 'pictures are')} too few for a generator, which will repeat them or fail: give at least a hundred, better some thousand."
        )
    return f"{count:,} pictures are few: expect a generator that stays close to them." if count < 500 else ""


def crops_note(sizes: dict[tuple[int, int], int]) -> str:
    """Return a note on the recipes that do not resize pictures, or "" where most are small. sizes: (H,W) -> count."""
    crops = sum((height // CROP) * (width // CROP) * count for (height, width), count in sizes.items())
    if crops < 2 * sum(sizes.values()):
        return ""
    return (
        f"Restorers and codecs (such as --recipe denoise, super-resolution, restore, codec) are trained on crops at the pictures' own "
        f"sizes: these hold {crops:,} separate ones of {CROP}x{CROP}."
    )


def size_range(sizes: dict[tuple[int, int], int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return (minimum, median, maximum) of heights and of widths, each as (H,W). sizes: (H,W) -> count."""
    counts = list(sizes.values())
    sides = [np.sort(np.repeat([size[axis] for size in sizes], counts)) for axis in (0, 1)]
    tall, wide = sides
    middle = len(tall) // 2
    return (int(tall[0]), int(wide[0])), (int(tall[middle]), int(wide[middle])), (int(tall[-1]), int(wide[-1]))


def evenly_spaced(labels: np.ndarray | None, total: int, count: int) -> list[int]:
    """Return up to `count` indices of `total` pictures, spread over the set, and over the classes if there are labels."""
    if labels is None:
        return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total)).round()})
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)][:count]
    share = -(-count // len(groups))
    chosen = [group[np.unique(np.linspace(0, len(group) - 1, min(share, len(group))).round().astype(int))]
              for group in groups]
    turns = [int(group[turn]) for turn in range(share) for group in chosen if turn < len(group)]
    return sorted(turns[:count], key=lambda i: (int(labels[i]), i))


def thumbnails(dataset: Dataset, count: int = 64, side: int = THUMBNAIL_SIDE) -> np.ndarray:
    """Return up to `count` pictures as uint8 [K,3,side,side], with transparency over a checkerboard."""
    labels = None if dataset.labels is None else dataset.labels.numpy()
    rows = evenly_spaced(labels, len(dataset), count)
    made = np.empty((len(rows), 3, side, side), np.uint8)
    for k, row in enumerate(rows):
        image = resized(to_pil(dataset.images[row]), (side, side), "pad")
        sheet = checkerboard(side) if image.mode == "RGBA" else Image.new("RGB", (side, side), "white")
        place = ((side - image.width) // 2, (side - image.height) // 2)
        sheet.paste(image if image.mode == "RGBA" else convert_channels(image, 3, (255, 255, 255)), place,
                    image if image.mode == "RGBA" else None)
        made[k] = np.asarray(sheet).transpose(2, 0, 1)
    return made


def checkerboard(side: int, cell: int = 8) -> Image.Image:
    """Return light gray and white squares that represent transparency, mode RGB."""
    ys, xs = np.indices((side, side)) // cell
    return Image.fromarray(np.where((ys + xs) % 2, 255, 224).astype(np.uint8)).convert("RGB")

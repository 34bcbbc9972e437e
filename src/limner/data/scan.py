"""What is in a set, told before anything is trained: counts, sizes, classes, what is broken, and some of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from limner.core.images import ImageSpec, to_pil
from limner.core.text import counted
from limner.data.dataset import Dataset, prepare
from limner.data.decode import Progress
from limner.data.image import in_channels, resized
from limner.data.source import Rejected, Source

SIDE = 64  # of a thumbnail


@dataclass(frozen=True)
class Report:
    """All that a person may want to know of a set before training on it."""

    origin: str
    count: int                                  # usable pictures
    spec: ImageSpec                             # what would be trained
    sizes: dict[tuple[int, int], int]           # upright (H,W) as stored -> how many, most common first
    least: tuple[int, int]                      # the smallest height, the smallest width
    median: tuple[int, int]
    most: tuple[int, int]
    modes: dict[str, int]                       # Pillow mode as stored -> how many
    classes: dict[str, int]                     # class -> how many; empty without labels
    bad: list[Rejected]                              # (name, reason)
    others: dict[str, int]                      # ending -> how many files are not pictures
    duplicates: list[list[str]]                 # names, by group of equal pictures
    thumbnails: np.ndarray                      # uint8 [K,3,64,64], K up to 64, evenly over classes
    notes: list[str]
    attribution: str
    fingerprint: str


def scan(
    source: Source, progress: Progress | None = None, *, size: int | Sequence[int] | None = None, fit: str = "crop",
    channels: int | str = "auto", background: str = "white", workers: int | None = None, cache: bool = True,
) -> Report:
    """Look at every picture of `source` as `prepare` does with these options, so training then starts at once.

    Raises ValueError in one sentence as `prepare` does.
    """
    return report_of(source, prepare(
        source, size=size, fit=fit, channels=channels, background=background, workers=workers, progress=progress,
        cache=cache,
    ))


def report_of(source: Source, dataset: Dataset) -> Report:
    """The Report on a Source from what `prepare` made of it."""
    least, median, most = spread(dataset.sizes)
    counts = {} if dataset.labels is None else {
        name: int(count)
        for name, count in zip(dataset.classes, dataset.labels.bincount(minlength=len(dataset.classes)), strict=True)
    }
    notes = list(dataset.notes)
    if counts and max(counts.values()) >= 10 * max(1, min(counts.values())):
        rare = min(counts, key=lambda name: counts[name])
        notes.append(f"Classes are uneven: {rare} has {counts[rare]:,}, the largest {max(counts.values()):,}.")
    if note := too_few(len(dataset)):
        notes.append(note)
    return Report(
        origin=dataset.origin, count=len(dataset), spec=dataset.spec, sizes=dataset.sizes, least=least, median=median,
        most=most, modes=dataset.modes, classes=counts, bad=dataset.bad, others=source.others,
        duplicates=dataset.duplicates, thumbnails=thumbnails(dataset), notes=notes, attribution=dataset.attribution,
        fingerprint=dataset.fingerprint,
    )


def too_few(count: int) -> str:
    """What a person should know of so few pictures for a generator; "" where there are enough.

    About a hundred is what the methods for few pictures were shown on (Zhao et al. 2020, "100-shot"; Liu et al. 2021);
    below 500 the generator of a plain recipe stays close to its pictures.
    """
    if count < 100:
        return (
            f"{counted(count, 'picture is', 'pictures are')} too few for a generator, which will repeat them or fail: give a hundred at least, better some thousand."
        )
    return f"{count:,} pictures are few: expect a generator that stays close to them." if count < 500 else ""


def spread(sizes: dict[tuple[int, int], int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(H,W) -> how many, as the (least, median, greatest) of heights and of widths, each a (H,W)."""
    counts = list(sizes.values())
    sides = [np.sort(np.repeat([size[axis] for size in sizes], counts)) for axis in (0, 1)]
    tall, wide = sides
    middle = len(tall) // 2
    return (int(tall[0]), int(wide[0])), (int(tall[middle]), int(wide[middle])), (int(tall[-1]), int(wide[-1]))


def evenly(labels: np.ndarray | None, total: int, count: int) -> list[int]:
    """Up to `count` of `total` pictures, spread over the set, and over the classes in turn where there are labels."""
    if labels is None:
        return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total)).round()})
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)][:count]
    share = -(-count // len(groups))
    chosen = [group[np.unique(np.linspace(0, len(group) - 1, min(share, len(group))).round().astype(int))]
              for group in groups]
    turns = [int(group[turn]) for turn in range(share) for group in chosen if turn < len(group)]
    return sorted(turns[:count], key=lambda i: (int(labels[i]), i))


def thumbnails(dataset: Dataset, count: int = 64, side: int = SIDE) -> np.ndarray:
    """Up to `count` pictures as uint8 [K,3,side,side]; transparency shows a checkerboard."""
    labels = None if dataset.labels is None else dataset.labels.numpy()
    rows = evenly(labels, len(dataset), count)
    made = np.empty((len(rows), 3, side, side), np.uint8)
    for k, row in enumerate(rows):
        image = resized(to_pil(dataset.images[row]), (side, side), "pad")
        sheet = checkerboard(side) if image.mode == "RGBA" else Image.new("RGB", (side, side), "white")
        place = ((side - image.width) // 2, (side - image.height) // 2)
        sheet.paste(image if image.mode == "RGBA" else in_channels(image, 3, (255, 255, 255)), place,
                    image if image.mode == "RGBA" else None)
        made[k] = np.asarray(sheet).transpose(2, 0, 1)
    return made


def checkerboard(side: int, cell: int = 8) -> Image.Image:
    """The light gray and white squares that stand for transparency, mode RGB."""
    ys, xs = np.indices((side, side)) // cell
    return Image.fromarray(np.where((ys + xs) % 2, 255, 224).astype(np.uint8)).convert("RGB")

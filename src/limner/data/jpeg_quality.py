"""The quality of JPEG files, from their headers: pictures that are to be the clean side of a restorer should have few artifacts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.data.image import Damaged
from limner.data.source import Source

SAMPLE = 200        # files whose headers are read
LOW_QUALITY = 80    # below, blocks and ringing are visible at full size
LOW_SHARE = 0.25    # of all files; fewer are not worth a note

# Luma quantization at quality 50: ITU-T T.81, table K.1, whose order does not matter here.
STANDARD = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112,
    100, 103, 99,
])  # fmt: skip


def _sums() -> np.ndarray:
    """Return the sum of libjpeg's luma table for quality 1 ... 100."""
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((STANDARD * percent[:, None] + 50) // 100, 1, 255).sum(1)


SUMS = _sums()


def estimate_quality(table: Sequence[int]) -> int:
    """Return the quality 1 ... 100 in libjpeg's units whose luma table has the sum nearest to that of `table` (64 numbers).

    Exact for files of libjpeg; for the tables of others (cameras, Photoshop) the quality of about the same coarseness.
    """
    return int(np.abs(SUMS - sum(table)).argmin()) + 1


def jpeg_qualities(source: Source, most: int = SAMPLE) -> tuple[list[int], int]:
    """Return (the qualities of the JPEGs among at most `most` files, spread evenly over the source; how many files were read)."""
    if source.array is not None or not len(source):
        return [], 0
    rows = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int))
    found = []
    for row in rows.tolist():
        try:
            image = source.open(row)
        except Damaged:
            continue
        with image:
            tables = getattr(image, "quantization", None) or {}
            if image.format in ("JPEG", "MPO") and tables:
                found.append(estimate_quality(tables[min(tables)]))
    return found, len(rows)


def low_quality_note(source: Source) -> str | None:
    """Return a note for people if the pictures of `source` are JPEGs of low quality; None if they are not.

    Reads the headers of at most 200 files.
    """
    found, read = jpeg_qualities(source)
    low = [quality for quality in found if quality < LOW_QUALITY]
    if not low or len(low) < LOW_SHARE * read:
        return None
    part = "" if read == len(source) else f" of a sample of {read} pictures"
    return (
        f"{len(low)} of {len(found)} JPEGs{part} have a quality of about {round(float(np.median(low)))}: a restorer learns to imitate "
        "their artifacts. Use better originals, or shrink the pictures to half their size first."
    )

"""Pictures with captions, in rows with a heading each: what a classifier predicted, and what to label next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from limner.apps.predictions import Predictions
from limner.core.images import WHITE, to_pil, write_png
from limner.core.lettering import drawable, fitted, font, write
from limner.core.text import counted
from limner.data.image import convert_channels

COLUMNS = 10         # pictures in a row
MAX_ROWS = 100       # classes on a sheet
LETTERS, GAP = 13, 6  # pixels
MIN_SIDE, MAX_SIDE = 72, 160  # pixels of a picture's longer side
Cell = tuple[np.ndarray, str]  # a picture uint8 [C,H,W] and its caption, of one line or more


def captioned(rows: Sequence[tuple[str, Sequence[Cell]]]) -> np.ndarray:
    """Return pictures in rows, each with its caption below and the row's heading at the left, as uint8 [3,H,W]."""
    _, h, w = rows[0][1][0][0].shape
    longer = max(h, w)
    scale = MAX_SIDE / longer if longer > MAX_SIDE else -(-MIN_SIDE // longer) if longer < MIN_SIDE else 1
    size = max(1, round(w * scale)), max(1, round(h * scale))
    lines = [line for _, cells in rows for _, caption in cells for line in caption.split("\n")]
    wide = max(size[0], int(min(max(map(font(LETTERS).getlength, lines)), MAX_SIDE)))
    high = max(caption.count("\n") + 1 for _, cells in rows for _, caption in cells) * (LETTERS + 3)
    across, down = wide + GAP, size[1] + high + 2 * GAP
    headings = [fitted(heading, 200, LETTERS) for heading, _ in rows]
    left = int(max(font(LETTERS).getlength(heading) for heading in headings)) + 2 * GAP
    columns = max(len(cells) for _, cells in rows)
    sheet = Image.new("RGB", (left + columns * across + GAP, len(rows) * down + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    for i, (heading, (_, cells)) in enumerate(zip(headings, rows, strict=True)):
        top = GAP + i * down
        write(draw, (left - GAP, top + size[1] / 2), heading, LETTERS, "rm")
        for j, (picture, caption) in enumerate(cells):
            x = left + j * across
            sheet.paste(convert_channels(to_pil(picture), 3, WHITE).resize(size, method), (x + (wide - size[0]) // 2, top))
            for k, line in enumerate(caption.split("\n")):
                write(draw, (x + wide / 2, top + size[1] + 2 + k * (LETTERS + 3)), fitted(line, wide + 2, LETTERS), LETTERS, "ma")
    return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def write_class_sheet(path: Path, found: Predictions) -> None:
    """Write a PNG with a row for each predicted class, the most frequent first: pictures from the surest to the least sure,
    evenly spaced, with the probability of the class."""
    rows = []
    counts = np.bincount(found.predicted, minlength=len(found.classes))
    for k in np.argsort(-counts, kind="stable")[:MAX_ROWS]:
        if not counts[k]:
            break
        members = np.flatnonzero(found.predicted == k)
        members = members[np.argsort(-found.confidence[members], kind="stable")]
        some = members[np.unique(np.linspace(0, len(members) - 1, min(COLUMNS, len(members))).round().astype(int))]
        cells = [(found.pictures[i], percent(found.confidence[i])) for i in some]
        rows.append((f"{drawable(found.classes[k], f'#{k}', LETTERS)} ({counts[k]:,})", cells))
    write_png(path, captioned(rows))


def write_suggestion_sheet(path: Path, found: Predictions, chosen: Sequence[int], columns: int = 5) -> None:
    """Write a PNG of the pictures to label next, numbered as in the table, with the predicted class and its probability."""
    cells = []
    for place, i in enumerate(chosen, 1):
        k = int(found.predicted[i])
        cells.append((found.pictures[i], f"{place}. {drawable(found.classes[k], f'#{k}', LETTERS)} {percent(found.confidence[i])}"))
    rows = [("", cells[start : start + columns]) for start in range(0, len(cells), columns)]
    rows[0] = (counted(len(cells), "picture"), rows[0][1])
    write_png(path, captioned(rows))


def percent(share: float) -> str:
    """Format a probability for a caption, to a tenth; never 100 %."""
    return f"{min(100 * share, 99.9):.1f} %"

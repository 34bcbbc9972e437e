"""A sheet of directions: each a row of pictures from one end to the other, with its name and what it was measured to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from limner.apps.editing.codes import codes_of, pictures
from limner.apps.editing.directions import Direction, Directions
from limner.apps.editing.latent import Latent
from limner.core.images import WHITE, to_pil
from limner.core.lettering import drawable, fitted, font, write
from limner.data.image import convert_channels

STEPS = 7
REACH = 3.0          # standard deviations at either end of a row
CLASS_REACH = 1.2    # of a class, which 1 reaches
LETTERS, GAP = 13, 6  # pixels
MIN_SIDE, MAX_SIDE = 64, 128
MAX_ROWS = 100


def amounts(direction: Direction, steps: int = STEPS) -> list[float]:
    """Return the moves of a row: from -3 to 3 standard deviations; to a class of the generator from 0 to 1.2."""
    if direction.label is not None:
        return np.linspace(0, CLASS_REACH, steps).tolist()
    return np.linspace(-REACH, REACH, steps).tolist()


def strip(model: Any, directions: Directions, name: str, latent: Latent, by: Sequence[float]) -> np.ndarray:
    """Return the pictures uint8 [T,C,H,W] of a latent moved along a direction by each amount."""
    codes = codes_of(model, [latent])
    return np.concatenate([pictures(model, directions.moved(model, codes, name, amount)).numpy() for amount in by])


def sheet(model: Any, directions: Directions, latent: Latent, steps: int = STEPS) -> np.ndarray:
    """Return the sheet uint8 [3,H,W] of all directions, at most MAX_ROWS, from one latent.

    Raises ValueError for fewer than 2 steps.
    """
    if steps < 2:
        raise ValueError("A row has at least 2 pictures: give --steps 2 or more.")
    shown = list(directions)[:MAX_ROWS]
    _, h, w = latent.size
    scale = max(1, -(-MIN_SIDE // max(h, w))) if max(h, w) < MIN_SIDE else min(1, MAX_SIDE / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    names = [fitted(drawable(d.name, f"#{i}", LETTERS), 200, LETTERS) for i, d in enumerate(shown)]
    left = int(max(font(LETTERS).getlength(name) for name in [*names, "closed form"])) + 3 * GAP
    across, down, head = size[0] + GAP, max(size[1], 3 * (LETTERS + 5)) + GAP, LETTERS + 2 * GAP
    columns = table_columns(shown)
    image = Image.new("RGB", (left + steps * across + sum(wide for _, wide in columns) + 2 * GAP, 1), WHITE)
    blocks = [head + down * sum(1 for d in shown if kind(d) == one) for one in (False, True) if any(kind(d) == one for d in shown)]
    image = image.resize((image.width, sum(blocks) + GAP))
    draw = ImageDraw.Draw(image)
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    y = 0
    for one in (False, True):
        rows = [(name, d) for name, d in zip(names, shown, strict=True) if kind(d) == one]
        if not rows:
            continue
        for j, amount in enumerate(amounts(rows[0][1], steps)):
            caption = f"{amount:.3g}" if one else f"{amount:+.3g} sd" if amount else "0"
            write(draw, (left + j * across + size[0] / 2, y + head / 2), caption, LETTERS, "mm", "#666")
        x = left + steps * across + GAP
        for title, wide in columns:
            write(draw, (x, y + head / 2), title, LETTERS, "lm", "#666")
            x += wide
        y += head
        for name, d in rows:
            write(draw, (left - GAP, y + size[1] / 2 - 9), name, LETTERS, "rm")
            write(draw, (left - GAP, y + size[1] / 2 + 9), d.method, LETTERS, "rm", "#666")
            for j, picture in enumerate(strip(model, directions, d.name, latent, amounts(d, steps))):
                cell = convert_channels(to_pil(picture), 3, WHITE).resize(size, method)
                image.paste(cell, (left + j * across, y))
            x = left + steps * across + GAP
            for (_, wide), text in zip(columns, cells(d, columns), strict=True):
                for k, line in enumerate(text.split("\n")):
                    write(draw, (x, y + size[1] / 2 + (k - text.count("\n") / 2) * (LETTERS + 3)), line, LETTERS, "lm")
                x += wide
            y += down
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def kind(direction: Direction) -> bool:
    """Return whether a direction is a class of the generator, whose row has amounts of its own."""
    return direction.label is not None


def table_columns(shown: Sequence[Direction]) -> list[tuple[str, int]]:
    """Return titles and widths in pixels of the table beside the rows."""
    effects = [d.effect for d in shown if d.effect is not None]
    found = [("changes (sd)", 160), ("identity", 70)]
    if any(e.changed is not None for e in effects):
        found.append(("other class", 90))
    if any(e.to_class is not None for e in effects):
        found.append(("reaches it", 80))
    return found


def cells(direction: Direction, columns: Sequence[tuple[str, int]]) -> list[str]:
    """Return the texts of a direction's row of the table."""
    e = direction.effect
    if e is None:
        return ["not measured", *("" for _ in columns[1:])]
    largest = sorted(e.attributes, key=lambda name: -abs(e.attributes[name]))[:3]
    texts = {"changes (sd)": "\n".join(f"{name} {e.attributes[name]:+.2f}" for name in largest), "identity": share(e.identity),
             "other class": share(e.changed), "reaches it": share(e.to_class)}  # fmt: skip
    return [texts[title] for title, _ in columns]


def share(value: float | None) -> str:
    """Format a share in percent; nothing for None."""
    return "" if value is None else f"{100 * value:.0f} %"

"""Small clips for tests: a bright square that goes around, in any format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def around(frames: int = 8, side: int = 16, color: tuple[int, int, int] = (255, 60, 0), start: float = 0.0) -> list[Image.Image]:
    """The frames of one loop: a square whose center goes around the middle of the picture once."""
    made = []
    for k in range(frames):
        angle = 2 * np.pi * (k / frames + start)
        row, column = (round(side / 2 + side / 4 * f(angle)) for f in (np.sin, np.cos))
        picture = np.zeros((side, side, 3), np.uint8)
        half = side // 8
        picture[row - half : row + half, column - half : column + half] = color
        made.append(Image.fromarray(picture))
    return made


def write(path: Path, frames: list[Image.Image], milliseconds: int | list[int] = 100) -> Path:
    """An animated picture by the suffix: .gif, .webp, .png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **more)
    return path


def folder(place: Path, count: int = 20, frames: int = 8, side: int = 16) -> Path:
    """A folder of looping GIFs."""
    for i in range(count):
        write(place / f"{i}.gif", around(frames, side, (255, 12 * i, 40), i / count))
    return place

"""Images: uint8 `[N,C,H,W]` in files and datasets, float in [-1,1] in networks; conversions, grids and files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.core.condition import NONE, Condition
from limner.core.files import write_whole

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> the Pillow mode that holds them
WHITE = (255, 255, 255)
IMAGES = frozenset({"image", "target", "a", "b", "other"})  # names under which a batch holds pictures; all else stays as it is


@dataclass(frozen=True)
class ImageSpec:
    """The properties of the data that determine a network: the shape of an image, and its condition.

    channels 1 (gray), 3 (RGB) or 4 (RGBA, straight alpha); height and width in pixels, any size from 1 up.
    """

    channels: int
    height: int
    width: int
    condition: Condition = NONE

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageSpec:
        """The spec of a `core.documents.Spec`, as `dataclasses.asdict` writes it."""
        condition = Condition(*(document["condition"][name] for name in ("kind", "size", "length")))
        return cls(document["channels"], document["height"], document["width"], condition)

    @property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        return self.condition.size if self.condition.kind == "classes" else 0

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def __str__(self) -> str:
        kind = {1: "gray", 3: "RGB", 4: "RGBA"}[self.channels]
        return f"{self.height}x{self.width} {kind}" + (f", {self.condition}" if self.condition else "")


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 [N,C,H,W] to float32 in [-1,1]."""
    assert images.dtype == torch.uint8, f"to_float takes uint8, not {images.dtype}"
    return images.float().mul_(1 / 127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Convert float [N,C,H,W], clamped to [-1,1], to uint8, rounded to nearest."""
    return images.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_pil(image: np.ndarray | Tensor) -> Image.Image:
    """Convert one uint8 picture [C,H,W] to a Pillow image of mode L, RGB or RGBA."""
    array = image.cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    assert array.ndim == 3 and array.dtype == np.uint8 and array.shape[0] in MODES, (array.shape, array.dtype)
    array = array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return Image.fromarray(array)


def grid_size(n: int, height: int, width: int, columns: int | None = None, gap: int = 2, scale: int | None = None) -> tuple[int, int]:
    """Return height and width of the picture that `grid` makes of n pictures of height x width."""
    columns = _columns(n, height, width, columns)
    scale = _scale(columns, width, gap) if scale is None else scale
    return -(-n // columns) * (height * scale + gap) - gap, columns * (width * scale + gap) - gap


def _columns(n: int, height: int, width: int, columns: int | None) -> int:
    return min(n, columns or max(1, round((n * height / width) ** 0.5)))


def _scale(columns: int, width: int, gap: int) -> int:
    return max(1, min(4, 1000 // (columns * (width + gap))))


def grid(
    images: np.ndarray | Tensor,
    columns: int | None = None,
    gap: int = 2,
    scale: int | None = None,
    rows: Sequence[int] | None = None,
) -> np.ndarray:
    """uint8 [N,C,H,W] -> one picture uint8 [C,H',W'] with the images row by row on white (clear where C is 4).

    columns: None makes the sheet about square. gap: pixels between pictures. scale: whole-number enlargement by
    nearest neighbor; None enlarges small pictures so that a person sees them (the sheet at most about 1,000 px wide).
    rows: images in each row, N in all, in place of columns; what a shorter row leaves is empty.
    """
    array = images.cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    n, c, h, w = array.shape
    if rows is None:
        columns = _columns(n, h, w, columns)
        rows = [min(columns, n - first) for first in range(0, n, columns)]
    assert sum(rows) == n, (sum(rows), n)
    columns = max(rows)
    if scale is None:
        scale = _scale(columns, w, gap)
    array = array.repeat(scale, axis=2).repeat(scale, axis=3)
    h, w = h * scale, w * scale
    sheet = np.full((c, len(rows) * (h + gap) - gap, columns * (w + gap) - gap), 255, np.uint8)
    if c == 4:
        sheet[3] = 0
    places = [(row, column) for row, count in enumerate(rows) for column in range(count)]
    for image, (row, column) in zip(array, places, strict=True):
        top, left = row * (h + gap), column * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    return sheet


def png(path: Path) -> Path:
    """Return `path`. Raises ValueError unless it ends in .png."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"A sheet is written as a .png, not as {path.name!r}.")
    return path


def encode_png(image: np.ndarray | Tensor) -> bytes:
    """Return one uint8 picture [C,H,W] as PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG", compress_level=4)  # two thirds of the time of the default, and sheets are as small
    return buffer.getvalue()


def write_png(path: Path, image: np.ndarray | Tensor) -> None:
    """Write one uint8 picture [C,H,W] as PNG, atomically. Raises ValueError for another file extension."""
    write_whole(png(path), encode_png(image))


def write_animation(path: Path, frames: Sequence[np.ndarray], milliseconds: int | Sequence[int] = 120, hold: int = 2000) -> None:
    """Write uint8 frames [C,H,W] as .gif or .webp, by the file extension. milliseconds, hold: as of `encode_animation`."""
    write_whole(path, encode_animation(frames, path.suffix, milliseconds, hold))


def encode_animation(frames: Sequence[np.ndarray], ending: str, milliseconds: int | Sequence[int] = 120, hold: int = 2000) -> bytes:
    """Encode uint8 frames [C,H,W] as the bytes of a `.gif` or `.webp` file.

    milliseconds: of each frame, or one number for all but the last, which is shown for `hold`.
    """
    pictures = [to_pil(frame) for frame in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [hold] if isinstance(milliseconds, int) else list(milliseconds)
    options: dict[str, Any] = {"lossless": True, "method": 2} if ending.lower() == ".webp" else {"disposal": 2}
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        ending[1:].upper(),
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        **options,
    )
    return buffer.getvalue()

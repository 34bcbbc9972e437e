"""Missing parts of a picture, for inpainting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from limner.data.degradations.protocol import Range, draw, within

FILL = 128              # value of all channels in a hole
SHAPES = ("rectangles", "brush")
RECTANGLE_SIDE = (0.125, 0.5)       # side of a rectangle as a fraction of the picture's
BRUSH_VERTICES = (4, 12)            # of one stroke, both included
BRUSH_ANGLE = (math.pi * 4 / 15, math.pi * 8 / 15)  # between two segments of a stroke: 2/5 pi plus or minus 2/15 pi
BRUSH_WIDTH = (12 / 256, 40 / 256)  # as a fraction of the shorter side
BRUSH_LENGTH = 1 / 16               # mean length of a segment, as a fraction of the diagonal
MAX_STROKES = 1000


@dataclass(frozen=True)
class Holes:
    """Holes filled with mid gray (128, in all channels and alpha), with a mask of them.

    fraction: covered part of the picture, or a range drawn from for each picture.
    shapes: "rectangles", of random sides from an eighth to half the picture's; the last is shortened, so that the covered part
    exceeds the fraction by less than one row. "brush": free-form strokes as in Yu et al. 2019 ("Free-form image inpainting
    with gated convolution"), supplement, algorithm 1, until the fraction is covered; it is exceeded by at most a segment. Several:
    one is drawn for each picture.
    Raises ValueError for an unknown shape and for a fraction outside 0 ... 0.95.
    """

    fraction: Range = (0.1, 0.4)
    shapes: str | Sequence[str] = SHAPES

    scale = 1
    masks = True

    def __post_init__(self) -> None:
        if not within(self.fraction, 0, 0.95):
            raise ValueError(f"fraction {self.fraction!r} of holes is invalid: give a number from 0 to 0.95, or a range of two.")
        if not self._shapes or not set(self._shapes) <= set(SHAPES):
            raise ValueError(f"shapes {self.shapes!r} of holes are unknown: choose {', '.join(SHAPES)}.")

    @property
    def _shapes(self) -> tuple[str, ...]:
        return (self.shapes,) if isinstance(self.shapes, str) else tuple(self.shapes)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.with_mask(image, rng)[0]

    def with_mask(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (image with holes, mask uint8 [H,W]: 1 in a hole)."""
        fraction, shape = draw(self.fraction, rng), self._shapes[int(rng.integers(len(self._shapes)))]
        mask = (rectangles if shape == "rectangles" else strokes)(image.shape[0], image.shape[1], fraction, rng)
        return np.where(mask[..., None] != 0, np.asarray(FILL, image.dtype), image), mask


def rectangles(height: int, width: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask uint8 [H,W] of rectangles that may overlap, covering `fraction` or less than one row more."""
    mask, wanted = np.zeros((height, width), np.uint8), math.ceil(fraction * height * width)
    while (missing := wanted - int(mask.sum())) > 0:
        h, w = (max(1, round(side * rng.uniform(*RECTANGLE_SIDE))) for side in (height, width))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        window = mask[top : top + h, left : left + w]
        added = (window == 0).sum(1).cumsum()
        window[: int(np.searchsorted(added, missing)) + 1] = 1
    return mask


def strokes(height: int, width: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask uint8 [H,W] of brush strokes covering `fraction` or at most one segment more."""
    canvas, clear = Image.new("L", (width, height)), (1 - fraction) * height * width  # pixels that may stay clear
    pen, shorter = ImageDraw.Draw(canvas), min(height, width)
    mean = BRUSH_LENGTH * math.hypot(height, width)
    for _ in range(MAX_STROKES):
        brush = max(1, round(shorter * rng.uniform(*BRUSH_WIDTH)))
        x, y, turned = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
        for vertex in range(int(rng.integers(BRUSH_VERTICES[0], BRUSH_VERTICES[1] + 1))):
            if canvas.histogram()[0] <= clear:
                return np.array(canvas)
            angle = turned + (rng.uniform(*BRUSH_ANGLE) if vertex % 2 else 2 * math.pi - rng.uniform(*BRUSH_ANGLE))
            length = min(max(rng.normal(mean, mean / 2), 0), 2 * mean)
            end = (min(max(x + length * math.sin(angle), 0), width), min(max(y + length * math.cos(angle), 0), height))
            pen.line([(x, y), end], 1, brush)
            for center in ((x, y), end):
                pen.ellipse([center[0] - brush / 2, center[1] - brush / 2, center[0] + brush / 2, center[1] + brush / 2], 1)
            x, y = end
    return np.array(canvas)

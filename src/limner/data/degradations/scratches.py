"""Scratches and dust of scanned old photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from limner.data.degradations.protocol import Range, draw, in_dtype, within

DETAIL = 3                  # subpixels a side, so that thin lines are smooth
LENGTH = (10.0, 150.0)      # of a scratch, in pixels
SEGMENT = 3.0               # pixels between two points of a scratch
WIDTH = (0.3, 1.7)          # of a scratch
RADIUS = (0.5, 2.0)         # of a speck of dust
OPACITY = (0.35, 1.0)
BRIGHT, DARK = (200.0, 255.0), (0.0, 50.0)
BRIGHT_SHARE = 0.7          # of scratches and specks: damage to a print bares the paper
UPRIGHT_SHARE = 0.5         # of scratches that run within 10 degrees of the vertical, as from transport of a film
SPECK_SHARE = 0.75          # of dust; the others are fibers


@dataclass(frozen=True)
class Scratches:
    """Thin bright and dark scratches, specks of dust and fibers, as on scanned old photographs.

    The idea of training on synthetic scratches is that of Wan et al. 2020 ("Bringing old photos back to life"), who blend
    scanned textures of paper and scratches; here they are drawn: lines whose direction wanders and whose ends taper, ellipses
    and arcs, smoothed at their edges and of varying opacity.
    scratches, dust: how many per 100x100 pixels on average, or a range drawn from for each picture. Alpha is unchanged.
    Raises ValueError for a negative density and one above 100.
    """

    scratches: Range = (0.5, 4.0)
    dust: Range = (1.0, 8.0)

    scale = 1

    def __post_init__(self) -> None:
        for name in ("scratches", "dust"):
            if not within(getattr(self, name), 0, 100):
                raise ValueError(f"{name} {getattr(self, name)!r} is no density: give a number per 100x100 pixels from 0 to 100.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        area = height * width / 1e4
        lines, specks = (int(rng.poisson(draw(density, rng) * area)) for density in (self.scratches, self.dust))
        layers = [Image.new("L", (width * DETAIL, height * DETAIL)) for _ in range(2)]
        pens = [ImageDraw.Draw(layer) for layer in layers]
        for _ in range(lines):
            _scratch(pens[int(rng.random() < BRIGHT_SHARE)], height, width, rng)
        for _ in range(specks):
            _speck(pens[int(rng.random() < BRIGHT_SHARE)], height, width, rng)
        made = image.astype(np.float32)
        for layer, shade in zip(layers, (DARK, BRIGHT), strict=True):
            value = np.float32(rng.uniform(*shade))
            cover = np.asarray(layer.reduce(DETAIL), np.float32)[..., None] / 255
            made[..., :3] += (value - made[..., :3]) * cover
        return in_dtype(made, image.dtype)


def _scratch(pen: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.Generator) -> None:
    """Draw a line whose middle lies anywhere in the picture: its heading wanders, its ends taper, its opacity varies."""
    length, thickness, opacity = rng.uniform(*LENGTH), rng.uniform(*WIDTH) * DETAIL, rng.uniform(*OPACITY)
    upright = rng.random() < UPRIGHT_SHARE
    count = math.ceil(length / SEGMENT)
    start = math.pi / 2 + rng.uniform(-1, 1) * math.pi / 18 if upright else rng.uniform(0, math.pi)
    headings = start + np.cumsum(rng.normal(0, 0.02 if upright else 0.1, count))
    steps = SEGMENT * np.stack([np.cos(headings), np.sin(headings)], 1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    middle = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    path = (path + middle - path[count // 2]) * DETAIL
    taper = np.sqrt(np.sin(math.pi * (np.arange(count) + 0.5) / count))
    wear = np.clip(1 + np.cumsum(rng.normal(0, 0.08, count)), 0.4, 1)
    ink, widths = np.rint(255 * opacity * wear).astype(int).tolist(), np.maximum(1, np.rint(thickness * taper)).astype(int).tolist()
    points = [(x, y) for x, y in path.tolist()]
    for i in range(count):
        pen.line(points[i : i + 2], ink[i], widths[i])


def _speck(pen: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.Generator) -> None:
    """Draw an ellipse, or an arc as thin as a fiber."""
    x, y, opacity = rng.uniform(0, width) * DETAIL, rng.uniform(0, height) * DETAIL, round(255 * rng.uniform(*OPACITY))
    if rng.random() < SPECK_SHARE:
        a, b = rng.uniform(*RADIUS, 2) * DETAIL
        pen.ellipse([x - a, y - b, x + a, y + b], opacity)
    else:
        radius, first = rng.uniform(3, 10) * DETAIL, rng.uniform(0, 360)
        pen.arc([x - radius, y - radius, x + radius, y + radius], first, first + rng.uniform(40, 160), opacity, DETAIL)

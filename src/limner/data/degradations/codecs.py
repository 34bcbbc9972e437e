"""Artifacts of lossy files, made by the real encoders: libjpeg and libwebp through Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from limner.data.degradations.protocol import Range, bounds, in_dtype, within

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class Jpeg:
    """A picture written as JPEG by libjpeg and read again.

    quality: 1 ... 100 in libjpeg's units, or a range of integers. subsampling: of chroma, "4:4:4", "4:2:2" or "4:2:0" (as most
    files), or several, of which one is drawn for each picture. The colors are rounded to 8 bit; alpha is unchanged.
    Raises ValueError for an invalid option.
    """

    quality: Range = (10, 95)
    subsampling: str | Sequence[str] = "4:2:0"

    scale = 1

    def __post_init__(self) -> None:
        check_quality("JPEG", self.quality, 1)
        choices = _choices(self.subsampling)
        if not choices or not set(choices) <= set(SUBSAMPLINGS):
            raise ValueError(f"subsampling {self.subsampling!r} is unknown: choose {', '.join(SUBSAMPLINGS)}.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        choices = _choices(self.subsampling)
        quality, choice = integer(self.quality, rng), choices[int(rng.integers(len(choices)))]
        options = {} if image.shape[-1] == 1 else {"subsampling": choice}
        return recoded(image, "JPEG", quality=quality, **options)


@dataclass(frozen=True)
class Webp:
    """A picture written as lossy WebP by libwebp and read again.

    quality: 0 ... 100 in libwebp's units, or a range of integers. The colors are rounded to 8 bit; alpha is unchanged.
    Raises ValueError for an invalid quality.
    """

    quality: Range = (10, 95)

    scale = 1

    def __post_init__(self) -> None:
        check_quality("WebP", self.quality, 0)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return recoded(image, "WEBP", quality=integer(self.quality, rng), method=2)


def _choices(subsampling: str | Sequence[str]) -> tuple[str, ...]:
    return (subsampling,) if isinstance(subsampling, str) else tuple(subsampling)


def check_quality(format: str, quality: Any, least: int) -> None:
    """Raise ValueError for a quality outside the range of the encoder."""
    if not within(quality, least, 100) or any(limit % 1 for limit in bounds(quality)):
        raise ValueError(f"The {format} quality {quality!r} is invalid: give a whole number from {least} to 100, or a range of two.")


def integer(value: Range, rng: np.random.Generator) -> int:
    """Draw an integer from a Range, both limits included."""
    low, high = bounds(value)
    return int(rng.integers(int(low), int(high) + 1))


def recoded(image: np.ndarray, format: str, **options: Any) -> np.ndarray:
    """Encode the colors of [H,W,C] by Pillow, decode them, and return them in the dtype of `image`."""
    plain = in_dtype(image[..., :3], np.dtype(np.uint8)) if image.dtype != np.uint8 else image[..., :3]
    with io.BytesIO() as file:
        Image.fromarray(plain[..., 0] if plain.shape[-1] == 1 else np.ascontiguousarray(plain)).save(file, format, **options)
        with Image.open(file) as decoded:
            colors = np.array(decoded.convert("L" if plain.shape[-1] == 1 else "RGB")).reshape(plain.shape)
    made = image.copy()
    made[..., :3] = colors
    return made

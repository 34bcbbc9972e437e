"""What a degradation is, and what all of them share: ranges of strength, rounding, and filters that respect transparency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Range = float | tuple[float, float]  # a fixed strength, or (minimum, maximum) of a uniform distribution


class Degradation(Protocol):
    """Degrades one picture; a pure function of (picture, random generator).

    A degradation to one channel also has `channels = 1`; one whose damaged area is known has `masks = True` and the method
    `with_mask` (`Masking`). Both are optional: see `output_channels` and `makes_masks`.
    """

    @property
    def scale(self) -> int:
        """Downscaling factor of each side; 1 keeps the size."""
        ...

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrade [H,W,C] to [H/scale,W/scale,C'] of the same dtype, in 8-bit units. The input is not changed.

        uint8 is rounded to nearest and clipped, as in a file; float32 is neither, so that a chain of degradations rounds
        once (a codec such as JPEG always rounds). C is 1, 3 or 4, the fourth being straight alpha; C' is C, or `channels`.
        """
        ...


@runtime_checkable
class Masking(Protocol):
    """A degradation that can also return where it damaged the picture."""

    masks: bool

    def with_mask(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (the result of a call, mask uint8 [H/scale,W/scale]: 1 in a hole). Only if `masks`."""
        ...


def makes_masks(degradation: Degradation) -> bool:
    """Return whether a degradation returns a mask from `with_mask`."""
    return isinstance(degradation, Masking) and degradation.masks


def output_channels(degradation: Degradation, channels: int) -> int:
    """Return the number of channels that a degradation makes of a picture of `channels`."""
    own: int | None = getattr(degradation, "channels", None)
    return own or channels


def bounds(value: Any) -> tuple[float, float]:
    """Return (minimum, maximum) of a Range."""
    low, high = value if isinstance(value, Sequence) else (value, value)
    return float(low), float(high)


def within(value: Any, least: float, most: float) -> bool:
    """Return whether `value` is a Range between `least` and `most`, finite and not reversed."""
    if isinstance(value, str):
        return False
    try:
        low, high = bounds(value)
    except (TypeError, ValueError):
        return False
    return least <= low <= high <= most and math.isfinite(high)


def draw(value: Range, rng: np.random.Generator) -> float:
    """Draw from a Range; one random number is always consumed."""
    low, high = bounds(value)
    return low + (high - low) * rng.random()


def chance(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value!r} is not a probability: give a number from 0 to 1.")


def in_dtype(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float32 [H,W,C] in 8-bit units as it is, or as uint8, rounded to nearest (ties to even) and clipped to 0 ... 255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8) if dtype == np.uint8 else image


def filtered(image: np.ndarray, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a linear filter to float32 [H,W,C].

    Colors of a picture with alpha are weighted by it (filtered premultiplied), so that the invisible color of transparent
    pixels does not bleed into visible ones. They are clipped to 0 ... 255; where the result is transparent they are those of
    the unweighted filter.
    """
    if image.shape[-1] != 4 or (image[..., 3] == 255).all():
        return apply(image)
    colors, alpha = image[..., :3], image[..., 3:]
    result = apply(np.concatenate([colors * (alpha / 255), alpha, colors], -1))
    weight = result[..., 3:4] / 255
    visible = np.clip(result[..., :3] / np.maximum(weight, 1 / 255), 0, 255)
    return np.concatenate([np.where(weight > 1 / 255, visible, result[..., 4:]), result[..., 3:4]], -1)


def luma(image: np.ndarray) -> np.ndarray:
    """Return the BT.601 luma of float32 [H,W,3 or 4] as [H,W,1]; one channel is returned as it is."""
    return image if image.shape[-1] == 1 else image[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)[:, None]

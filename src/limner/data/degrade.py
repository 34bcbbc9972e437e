"""Degradations during training: pairs of a degraded and a clean picture, made from clean pictures alone.

A degradation is a function of one picture and a random generator. `DEGRADATIONS` lists them; a new one is a class and an entry
there. `Degraded` applies it anew at every position of the order: a picture is never degraded twice in the same way, yet the
result is a pure function of (seed, position).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from limner.core.images import ImageSpec
from limner.data.batches import Splittable, generator_at


class Degradation(Protocol):
    """Degrades one picture."""

    @property
    def scale(self) -> int:
        """Downscaling factor of each side; 1 keeps the size."""
        ...

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrade [H,W,C] to [H/scale,W/scale,C] of the same dtype, in 8-bit units. The input is not changed.

        uint8 is rounded to nearest and clipped, as in a file; float32 is neither, so that a chain of degradations rounds
        once. C is 1, 3 or 4, the fourth being alpha.
        """
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise, independent for each pixel and color, as in Zhang et al. 2017 (DnCNN), section III.

    sigma: standard deviation in 8-bit units, or a range (minimum, maximum) from which it is drawn uniformly for each picture.
    Rounding to uint8 adds a variance of 1/12; clipping reduces it near black and white. Alpha is unchanged.
    Raises ValueError for a negative or non-finite sigma, and for a reversed range.
    """

    sigma: float | tuple[float, float] = 25.0

    scale = 1

    def __post_init__(self) -> None:
        low, high = self._range
        if not (0 <= low <= high and math.isfinite(high)):
            raise ValueError(f"sigma {self.sigma!r} is not a noise level: give a number from 0, or a range such as (5, 50).")

    @property
    def _range(self) -> tuple[float, float]:
        return self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low, high = self._range
        sigma = low + (high - low) * rng.random()
        noisy = image.astype(np.float32)
        colors = noisy[..., :3]
        colors += np.float32(sigma) * rng.standard_normal(colors.shape, np.float32)
        return in_dtype(noisy, image.dtype)


def in_dtype(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float32 [H,W,C] in 8-bit units as it is, or as uint8, rounded to nearest (ties to even) and clipped to 0 ... 255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8) if dtype == np.uint8 else image


DEGRADATIONS: Mapping[str, Callable[..., Degradation]] = {"noise": GaussianNoise}


def degradation(name: str, **options: Any) -> Degradation:
    """Return the degradation of a name. Raises ValueError for an unknown name and for invalid options."""
    if name not in DEGRADATIONS:
        raise ValueError(f"The degradation {name!r} is unknown: choose {', '.join(DEGRADATIONS)}.")
    return DEGRADATIONS[name](**options)


class Degraded:
    """Pairs for a restorer, with the protocol of `data.batches`: `target` is the clean picture, `image` the degraded one."""

    def __init__(self, clean: Splittable, degradation: Degradation) -> None:
        """clean: a Dataset, Subset or Crops. Raises ValueError for a size that is not a multiple of `scale`."""
        height, width = clean.spec.size
        if height % degradation.scale or width % degradation.scale:
            raise ValueError(
                f"Pictures of {height}x{width} cannot be made {degradation.scale} times smaller: choose a size that is a "
                f"multiple of {degradation.scale}."
            )
        self.clean, self.degradation = clean, degradation

    @property
    def spec(self) -> ImageSpec:
        """Shape of the targets; an image is `degradation.scale` times smaller."""
        return self.clean.spec

    @property
    def names(self) -> Sequence[str]:
        return self.clean.names

    @property
    def labels(self) -> Tensor | None:
        return self.clean.labels

    @property
    def duplicates(self) -> Sequence[Sequence[str]]:
        return self.clean.duplicates

    def __len__(self) -> int:
        return len(self.clean)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pairs first ... first + count - 1 of the order of `seed`, which is that of the clean pictures.

        Returns image: uint8 [count,C,H/scale,W/scale], target: uint8 [count,C,H,W], both channels_last, and the other
        tensors of the clean batch.
        """
        batch = self.clean.batch(first, count, seed)
        target = batch.pop("image")
        (height, width), scale, channels = self.spec.size, self.degradation.scale, self.spec.channels
        made = np.empty((count, height // scale, width // scale, channels), np.uint8)
        for i, picture in enumerate(target.permute(0, 2, 3, 1).numpy()):
            made[i] = self.degradation(picture, generator_at(seed, first + i, "degradation"))
        return {"image": torch.from_numpy(made).permute(0, 3, 1, 2), "target": target, **batch}

    def subset(self, rows: np.ndarray) -> Degraded:
        """Return pairs of the clean pictures of rows int64 [n], as a view."""
        return Degraded(self.clean.subset(rows), self.degradation)

    def own_validation(self) -> Degraded | None:
        """Return pairs from the validation split that the clean data contains, degraded in the same way."""
        held = self.clean.own_validation()
        return None if held is None else Degraded(held, self.degradation)

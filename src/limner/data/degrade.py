"""Degradations made while training: pairs of a degraded and a clean picture, made of clean pictures alone.

A degradation is a function of one picture and a random generator. `DEGRADATIONS` names them all; another is added as one
class and one entry there. `Degraded` makes pairs with it, anew at every position of the order: the same picture is never
degraded twice in the same way, and yet all of it is a pure function of (seed, position).
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
    """What a picture suffers."""

    @property
    def scale(self) -> int:
        """How many times smaller, at each side, the degraded picture is; 1 keeps the size."""
        ...

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[H,W,C] -> [H/scale,W/scale,C] of the same dtype, in 8-bit units.

        uint8 is rounded to nearest and clipped, as a file would hold it; float32 is neither, so that several degradations
        in a row round once. C is 1, 3 or 4, where the fourth is transparency. The input is not changed.
        """
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise, independent for each pixel and color, as in Zhang et al. 2017 (DnCNN), section III.

    sigma: its standard deviation in 8-bit units, or a range (least, greatest) from which every picture draws its own
    uniformly. Rounding to uint8 adds a variance of 1/12; clipping takes some away near black and white. Transparency stays.
    Raises ValueError in one sentence for a sigma that is negative, no number, or a range that runs backwards.
    """

    sigma: float | tuple[float, float] = 25.0

    scale = 1

    def __post_init__(self) -> None:
        low, high = self._range
        if not (0 <= low <= high and math.isfinite(high)):
            raise ValueError(f"sigma {self.sigma!r} is no strength of noise: give a number from 0, or a range such as (5, 50).")

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
    """float32 [H,W,C] in 8-bit units -> the same, or uint8 rounded to nearest (ties to even) and clipped to 0 ... 255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8) if dtype == np.uint8 else image


DEGRADATIONS: Mapping[str, Callable[..., Degradation]] = {"noise": GaussianNoise}


def degradation(name: str, **options: Any) -> Degradation:
    """The degradation of a name. Raises ValueError in one sentence for an unknown name, or for options that it refuses."""
    if name not in DEGRADATIONS:
        raise ValueError(f"The degradation {name!r} is not known: choose {', '.join(DEGRADATIONS)}.")
    return DEGRADATIONS[name](**options)


class Degraded:
    """Pairs for a restorer, by the contract of `data.batches`: `target` is the clean picture, `image` what is left of it."""

    def __init__(self, clean: Splittable, degradation: Degradation) -> None:
        """clean: pictures (a Dataset, a subset of one, or Crops). Raises ValueError for a size that `scale` does not divide."""
        height, width = clean.spec.size
        if height % degradation.scale or width % degradation.scale:
            raise ValueError(
                f"Pictures of {height}x{width} cannot be made {degradation.scale} times smaller: choose a size that is a "
                f"multiple of {degradation.scale}."
            )
        self.clean, self.degradation = clean, degradation

    @property
    def spec(self) -> ImageSpec:
        """The shape of the targets; an image is `degradation.scale` times smaller."""
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
        """Pairs number first ... first + count - 1 of the order of `seed`, which is that of the clean pictures.

        Returns image: uint8 [count,C,H/scale,W/scale], target: uint8 [count,C,H,W], both channels_last, and what else the
        clean pictures come with.
        """
        batch = self.clean.batch(first, count, seed)
        target = batch.pop("image")
        (height, width), scale, channels = self.spec.size, self.degradation.scale, self.spec.channels
        made = np.empty((count, height // scale, width // scale, channels), np.uint8)
        for i, picture in enumerate(target.permute(0, 2, 3, 1).numpy()):
            made[i] = self.degradation(picture, generator_at(seed, first + i, "degradation"))
        return {"image": torch.from_numpy(made).permute(0, 3, 1, 2), "target": target, **batch}

    def subset(self, rows: np.ndarray) -> Degraded:
        """Pairs of some of the clean pictures, rows int64 [n]."""
        return Degraded(self.clean.subset(rows), self.degradation)

    def own_validation(self) -> Degraded | None:
        """Pairs of the clean pictures' own validation split, degraded in the same way."""
        held = self.clean.own_validation()
        return None if held is None else Degraded(held, self.degradation)

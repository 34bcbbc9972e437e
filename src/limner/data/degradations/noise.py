"""Noise of a sensor: Gaussian, Poisson, and both in a picture taken in low light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.data.degradations.protocol import Range, chance, draw, in_dtype, luma, within

POISSON_LEVELS = 256  # counts at white when `PoissonNoise.strength` is 1


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise, independent for each pixel and color, as in Zhang et al. 2017 (DnCNN), section III.

    sigma: standard deviation in 8-bit units, or a range (minimum, maximum) from which it is drawn uniformly for each picture.
    gray: probability that the same noise is added to all colors of a picture.
    Rounding to uint8 adds a variance of 1/12; clipping reduces it near black and white. Alpha is unchanged.
    Raises ValueError for a negative or non-finite sigma, and for a reversed range.
    """

    sigma: Range = 25.0
    gray: float = 0.0

    scale = 1

    def __post_init__(self) -> None:
        if not within(self.sigma, 0, np.inf):
            raise ValueError(f"sigma {self.sigma!r} is not a noise level: give a number from 0, or a range such as (5, 50).")
        chance("gray", self.gray)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sigma, gray = draw(self.sigma, rng), self.gray > 0 and rng.random() < self.gray
        noisy = image.astype(np.float32)
        colors = noisy[..., :3]
        shape = (*colors.shape[:2], 1) if gray else colors.shape
        colors += np.float32(sigma) * rng.standard_normal(shape, np.float32)
        return in_dtype(noisy, image.dtype)


@dataclass(frozen=True)
class PoissonNoise:
    """Poisson (shot) noise, as in Wang et al. 2021 (Real-ESRGAN), section 3.1: x + strength (Poisson(256 x) / 256 - x) for x in 0 ... 1.

    The standard deviation is 15.9 strength sqrt(x) in 8-bit units. strength: a number, or a range drawn from for each picture.
    gray: probability that the noise of the luma is added to all colors of a picture. Alpha is unchanged.
    Raises ValueError for a negative or non-finite strength, and for a reversed range.
    """

    strength: Range = 1.0
    gray: float = 0.0

    scale = 1

    def __post_init__(self) -> None:
        if not within(self.strength, 0, np.inf):
            raise ValueError(f"strength {self.strength!r} is not one: give a number from 0, or a range such as (0.05, 3).")
        chance("gray", self.gray)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        strength, gray = draw(self.strength, rng), self.gray > 0 and rng.random() < self.gray
        noisy = image.astype(np.float32)
        colors = noisy[..., :3]
        counts = np.clip(luma(colors) if gray else colors, 0, 255) * np.float32(POISSON_LEVELS / 255)
        noise = rng.poisson(counts).astype(np.float32) - counts
        colors += np.float32(strength * 255 / POISSON_LEVELS) * noise
        return in_dtype(noisy, image.dtype)


@dataclass(frozen=True)
class LowLight:
    """A picture taken in low light: beta (alpha x)^gamma for x in 0 ... 1, with noise.

    The curve and its default ranges are those of Lv, Li and Lu 2021 ("Attention guided low-light image enhancement with a
    large scale low-light simulation dataset"): alpha and beta darken linearly, gamma by a power. To it comes Poisson-Gaussian noise (Foi et al. 2008, eq. 3) of
    variance shot y + read^2 for a dark value y, both in 8-bit units; these two ranges are ours. The noise is normal, as Foi
    et al. approximate it. Alpha of a picture is unchanged.
    Raises ValueError for invalid ranges.
    """

    alpha: Range = (0.9, 1.0)
    beta: Range = (0.5, 1.0)
    gamma: Range = (1.5, 5.0)
    shot: Range = (0.0, 0.4)
    read: Range = (0.0, 3.0)

    scale = 1

    def __post_init__(self) -> None:
        for name, most in {"alpha": 1.0, "beta": 1.0, "gamma": 10.0, "shot": np.inf, "read": np.inf}.items():
            value = getattr(self, name)
            if not within(value, 0, most):
                limit = f"from 0 to {most:g}" if most < np.inf else "from 0"
                raise ValueError(f"{name} {value!r} of low light is invalid: give a number {limit}, or a range of two.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        alpha, beta, gamma = (draw(value, rng) for value in (self.alpha, self.beta, self.gamma))
        shot, read = draw(self.shot, rng), draw(self.read, rng)
        dark = image.astype(np.float32)
        colors = dark[..., :3]
        clean = np.clip(colors, 0, None) * np.float32(alpha / 255)
        clean = np.float32(255 * beta) * clean ** np.float32(gamma)
        colors[:] = clean + np.sqrt(np.float32(shot) * clean + np.float32(read**2)) * rng.standard_normal(clean.shape, np.float32)
        return in_dtype(dark, image.dtype)

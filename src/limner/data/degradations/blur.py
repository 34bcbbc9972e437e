"""Blur: the kernels of Real-ESRGAN's degradation model, and motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from limner.data.degradations.protocol import Range, chance, draw, filtered, in_dtype, within

KERNELS = {  # kind -> its probability in Real-ESRGAN's x4plus model
    "isotropic": 0.45, "anisotropic": 0.25, "generalized-isotropic": 0.12, "generalized-anisotropic": 0.03,
    "plateau-isotropic": 0.12, "plateau-anisotropic": 0.03,
}  # fmt: skip
MAX_SIDE = 21           # pixels of a kernel; the side is odd
MIN_SIDE = 7
GENERALIZED_BETA = (0.5, 4.0)
PLATEAU_BETA = (1.0, 2.0)


def gaussian_kernel(side: int, sigma: tuple[float, float], angle: float, kind: str = "gaussian", beta: float = 1.0) -> np.ndarray:
    """Return a kernel float64 [side,side] that sums to 1, of q = x^T S^-1 x with S of deviations `sigma` along the turned axes.

    kind: "gaussian" exp(-q / 2), "generalized" exp(-q^beta / 2), or "plateau" 1 / (1 + q^beta). Wang et al. 2021, section 3.1.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    q = (u / sigma[0]) ** 2 + (v / sigma[1]) ** 2
    if kind == "plateau":
        kernel = 1 / (1 + q**beta)
    else:
        kernel = np.exp(-0.5 * (q**beta if kind == "generalized" else q))
    return kernel / kernel.sum()


def sinc_kernel(side: int, cutoff: float) -> np.ndarray:
    """Return the circular low-pass filter of `cutoff` in radians a pixel, float64 [side,side], that sums to 1.

    cutoff J1(cutoff r) / (2 pi r) with the Bessel function J1: Wang et al. 2021, equation 5. It rings at edges.
    """
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    r = np.hypot(x, y)
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * r)).numpy()
    kernel = np.where(r > 0, cutoff * bessel / (2 * math.pi * np.maximum(r, 1e-9)), cutoff**2 / (4 * math.pi))
    return kernel / kernel.sum()


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """Return the kernel of a uniform motion along a segment, float64 [side,side], that sums to 1.

    The segment of `length` pixels is centered; points spread evenly along it are shared by their four nearest pixels.
    """
    reach = math.ceil(length / 2)
    side, count = 2 * reach + 3, 8 * reach + 1
    t = np.linspace(-length / 2, length / 2, count)
    kernel = np.zeros((side, side))
    x, y = reach + 1 + t * math.cos(angle), reach + 1 + t * math.sin(angle)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        np.add.at(kernel, (top + dy, left + dx), (1 - abs(y - top - dy)) * (1 - abs(x - left - dx)))
    return kernel / kernel.sum()


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve float32 [H,W,C] with a kernel of odd sides; the picture is mirrored at its border.

    Through the Fourier transform of NumPy, whose result does not depend on the number of threads.
    """
    height, width = image.shape[:2]
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(image, ((up, up), (left, left), (0, 0)), "reflect").transpose(2, 0, 1)
    shape = tuple(-(-side // 16) * 16 for side in padded.shape[1:])  # a length whose transform is fast
    spectrum = np.fft.rfft2(padded, shape) * np.fft.rfft2(kernel.astype(np.float32), shape)
    made = np.fft.irfft2(spectrum, shape)[:, 2 * up : 2 * up + height, 2 * left : 2 * left + width]
    return np.ascontiguousarray(made.transpose(1, 2, 0), np.float32)


def blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return [H,W,C] blurred, of the same dtype; colors are weighted by alpha."""
    return in_dtype(filtered(image.astype(np.float32), lambda planes: convolve(planes, kernel)), image.dtype)


def random_side(rng: np.random.Generator) -> int:
    """Draw the side of a kernel: 7, 9 ... 21 pixels."""
    return int(2 * rng.integers(MIN_SIDE // 2, MAX_SIDE // 2 + 1) + 1)


def random_beta(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a shape: below 1 or above 1 with equal probability, as Real-ESRGAN does."""
    return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)


def random_sinc(rng: np.random.Generator, side: int | None = None, least: float | None = None) -> np.ndarray:
    """Draw a sinc kernel: cutoff from pi/3 (pi/5 for 13 pixels and more, unless `least` is given) to pi."""
    side = random_side(rng) if side is None else side
    low = least or (math.pi / 3 if side < 13 else math.pi / 5)
    return sinc_kernel(side, rng.uniform(low, math.pi))


@dataclass(frozen=True)
class Blur:
    """Blur by a random kernel of Wang et al. 2021 (Real-ESRGAN), section 3 and supplement, with the ranges of its x4plus model.

    sigma: deviations in pixels, or a range; an anisotropic kernel draws two, and its angle. kinds: the kernels to draw from,
    with the probabilities of x4plus (`KERNELS`). sinc: probability of a sinc filter, which rings, in their place.
    The kernel has 7 to 21 pixels. Colors are weighted by alpha; alpha is blurred too.
    Raises ValueError for an invalid option.
    """

    sigma: Range = (0.2, 3.0)
    kinds: Sequence[str] = tuple(KERNELS)
    sinc: float = 0.1

    scale = 1

    def __post_init__(self) -> None:
        if not within(self.sigma, 0.05, 10):
            raise ValueError(f"sigma {self.sigma!r} of a blur is invalid: give a number of pixels from 0.05 to 10, or a range of two.")
        if not self.kinds or not set(self.kinds) <= set(KERNELS):
            raise ValueError(f"kinds {self.kinds!r} of blur are unknown: choose from {', '.join(KERNELS)}.")
        chance("sinc", self.sinc)

    def kernel(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel float64 [side,side] that sums to 1."""
        side = random_side(rng)
        if rng.random() < self.sinc:
            return random_sinc(rng, side)
        weights = np.array([KERNELS[kind] for kind in self.kinds])
        kind = self.kinds[int(rng.choice(len(weights), p=weights / weights.sum()))]
        first, second, angle = draw(self.sigma, rng), draw(self.sigma, rng), rng.uniform(-math.pi, math.pi)
        shape = "generalized" if kind.startswith("generalized") else "plateau" if kind.startswith("plateau") else "gaussian"
        beta = random_beta(*(PLATEAU_BETA if shape == "plateau" else GENERALIZED_BETA), rng)
        return gaussian_kernel(side, (first, first if kind.endswith("isotropic") and "aniso" not in kind else second), angle, shape, beta)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return blurred(image, self.kernel(rng))


@dataclass(frozen=True)
class MotionBlur:
    """Blur by a uniform motion along a straight segment, in a random direction.

    length: of the segment in pixels, or a range drawn from for each picture. Colors are weighted by alpha; alpha is blurred too.
    Raises ValueError for an invalid length.
    """

    length: Range = (3.0, 15.0)

    scale = 1

    def __post_init__(self) -> None:
        if not within(self.length, 1, 100):
            raise ValueError(f"length {self.length!r} of a motion is invalid: give a number of pixels from 1 to 100, or a range of two.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return blurred(image, motion_kernel(draw(self.length, rng), rng.uniform(0, math.pi)))

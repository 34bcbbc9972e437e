"""The second-order degradation of Real-ESRGAN: what happens to a picture on its way through cameras, editors and the internet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from limner.data.degradations.blur import Blur, blurred, random_sinc
from limner.data.degradations.codecs import Jpeg
from limner.data.degradations.noise import GaussianNoise, PoissonNoise
from limner.data.degradations.protocol import Degradation, filtered, in_dtype
from limner.data.degradations.resize import Scaled, resize

FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
SECOND_BLUR = 0.8   # probability
FINAL_SINC = 0.8    # probability


@dataclass(frozen=True)
class _Pass:
    """Blur, resizing, noise and JPEG of one of the two passes."""

    blur: Blur
    resize: tuple[float, float]                 # range of the factor
    directions: tuple[float, float, float]      # probabilities of enlarging, shrinking and keeping the size
    gaussian: GaussianNoise
    poisson: PoissonNoise
    jpeg: Jpeg

    def factor(self, rng: np.random.Generator) -> float:
        """Draw the factor of the size."""
        direction, least, most = rng.random(), *self.resize
        up, down, _ = self.directions
        return rng.uniform(1, most) if direction < up else rng.uniform(least, 1) if direction < up + down else 1.0

    def noise(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add Gaussian or Poisson noise with equal probability; clipped to 0 ... 255."""
        kind: Degradation = self.gaussian if rng.random() < 0.5 else self.poisson
        return np.clip(kind(image, rng), 0, 255)


FIRST = _Pass(Blur((0.2, 3.0)), (0.15, 1.5), (0.2, 0.7, 0.1), GaussianNoise((1, 30), 0.4), PoissonNoise((0.05, 3.0), 0.4), Jpeg((30, 95)))
SECOND = _Pass(Blur((0.2, 1.5)), (0.3, 1.2), (0.3, 0.4, 0.3), GaussianNoise((1, 25), 0.4), PoissonNoise((0.05, 2.5), 0.4), Jpeg((30, 95)))


@dataclass(frozen=True)
class SecondOrder(Scaled):
    """The degradation model of Wang et al. 2021 (Real-ESRGAN), figure 2, with the ranges of its x4plus model.

    Twice blur, resizing, noise and JPEG; in the second pass the blur has a probability of 0.8, and the result is resized to
    H/scale x W/scale with a sinc filter (probability 0.8) before or after JPEG, with equal probability. Sizes in the first pass
    are relative to the clean picture and in the second to the result, for every scale: at scale 1, too, the
    details of a picture 6 times smaller may be all that is left.
    JPEG qualities are whole numbers. Resizing by area, bilinear or bicubic interpolation, the last two without antialiasing as
    in the authors' experiments. Blur and resizing weight colors by alpha; the rest leaves alpha unchanged.
    """

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[0] // self.factor, image.shape[1] // self.factor
        made = blurred(image.astype(np.float32), FIRST.blur.kernel(rng))
        factor = FIRST.factor(rng)
        made = _resized(made, [side * factor for side in image.shape[:2]], rng)
        made = FIRST.jpeg(FIRST.noise(made, rng), rng)
        if rng.random() < SECOND_BLUR:
            made = blurred(made, SECOND.blur.kernel(rng))
        factor = SECOND.factor(rng)
        made = SECOND.noise(_resized(made, [height * factor, width * factor], rng), rng)
        if rng.random() < 0.5:
            made = SECOND.jpeg(_finished(made, height, width, rng), rng)
        else:
            made = _finished(SECOND.jpeg(made, rng), height, width, rng)
        return in_dtype(made, image.dtype)


def _resized(image: np.ndarray, size: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Resize float32 [H,W,C] to the rounded size by one of three filters, drawn with equal probability."""
    height, width = (max(1, round(side)) for side in size)
    filter = FILTERS[int(rng.integers(len(FILTERS)))]
    if (height, width) == image.shape[:2]:
        return image
    return filtered(image, lambda planes: resize(planes, (height, width), filter, antialias=filter == Image.Resampling.BOX))


def _finished(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Resize to the final size, and apply the final sinc filter."""
    made = _resized(image, (height, width), rng)
    return blurred(made, random_sinc(rng, least=math.pi / 3)) if rng.random() < FINAL_SINC else made

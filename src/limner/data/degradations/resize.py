"""Smaller pictures, and fewer channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from limner.data.degradations.protocol import filtered, in_dtype, luma

SCALES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Scaled:
    """A degradation that makes each side `factor` times smaller: 1, 2, 3 or 4. Raises ValueError for another factor."""

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor not in SCALES:
            raise ValueError(f"Pictures cannot be made {self.factor!r} times smaller: choose a scale of 1, 2, 3 or 4.")

    @property
    def scale(self) -> int:
        return self.factor


@dataclass(frozen=True)
class Downscale(Scaled):
    """Bicubic downscaling with antialiasing, as Pillow computes it.

    Its kernel is that of Keys 1981 (a = -0.5) stretched by the factor, as in MATLAB's imresize: the two agree to within rounding
    except within two result pixels of the border, where Pillow leaves out what is missing and MATLAB mirrors. 8-bit
    pictures of 1 or 3 channels are those that `Image.resize` returns. Colors are weighted by alpha.
    A factor of 1 does nothing.
    """

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[0] // self.factor, image.shape[1] // self.factor
        if image.dtype == np.uint8 and image.shape[-1] != 4:
            small = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).resize((width, height), Image.Resampling.BICUBIC)
            return np.array(small).reshape(height, width, -1)
        size = (height, width)
        made = filtered(image.astype(np.float32), lambda planes: resize(planes, size, Image.Resampling.BICUBIC))
        return in_dtype(made, image.dtype)


def resize(planes: np.ndarray, size: tuple[int, int], filter: Image.Resampling, antialias: bool = True) -> np.ndarray:
    """Resize float32 [H,W,C] to size (H',W') by a filter of Pillow; without antialias the filter keeps its width in source pixels."""
    height, width = size
    pixels: list[Any] = [Image.fromarray(np.ascontiguousarray(planes[..., c])) for c in range(planes.shape[-1])]
    if antialias:
        made = [plane.resize((width, height), filter) for plane in pixels]
    else:
        steps = (planes.shape[1] / width, 0, 0, 0, planes.shape[0] / height, 0)
        made = [plane.transform((width, height), Image.Transform.AFFINE, steps, filter) for plane in pixels]
    return np.stack([np.asarray(plane) for plane in made], -1)


@dataclass(frozen=True)
class Gray:
    """Color to BT.601 luma, as Pillow's mode L: the image has one channel. The alpha of a picture with one is dropped."""

    scale = 1
    channels = 1

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if image.shape[-1] == 1:
            return image.copy()
        if image.dtype == np.uint8:
            return np.array(Image.fromarray(np.ascontiguousarray(image[..., :3])).convert("L"))[..., None]
        return luma(image)

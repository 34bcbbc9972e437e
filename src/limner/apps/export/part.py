"""A part of a trained model as a function of named tensors.

Pictures are float32 [N,C,H,W] in [0,1], as most programs beside PyTorch take and give them; latents are standard normal whatever
distribution the network was trained on. So `rng.standard_normal` in and `* 255` out is all that a caller needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

Axes = tuple[str | int, ...]  # a number is the size of an axis; a name is that of an axis of any size
Draw = Callable[[int, int, tuple[int, int]], tuple[Tensor, ...]]  # (n, seed, (H,W)) -> n rows of inputs
LATENTS_CHECKED = 1000
PIXELS_CHECKED = 1_000_000  # pixels of the pictures that a part of pictures is compared on, of at least 64 and at most 1,000
COLUMNS = ("batch", "channels", "height", "width")


@dataclass(frozen=True)
class Part:
    """A function of a trained model.

    module: it, on the CPU in evaluation mode. inputs and outputs: axes by name. size: height and width of its pictures; sizes: others
    that it is compared at, where it takes any. defaults: inputs that may be left out, with the value they then have. left_out: what the
    model object does beside this function, in sentences. meaning: the vectors of codes, if the output is codes.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    draw: Draw
    size: tuple[int, int]
    sizes: tuple[tuple[int, int], ...] = ()
    rows: int = LATENTS_CHECKED
    defaults: Mapping[str, Tensor] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    meaning: Callable[[Tensor], Tensor] | None = None

    def examples(self, n: int, seed: int) -> tuple[Tensor, ...]:
        """n rows of example inputs, at `size`, without the defaults."""
        return self.draw(n, seed, self.size)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs in PyTorch; the defaults may be left out."""
        with torch.no_grad():
            made = self.module(*inputs, *(self.defaults[name] for name in list(self.inputs)[len(inputs) :]))
        return (made,) if isinstance(made, Tensor) else tuple(made)


def picture_rows(size: tuple[int, int]) -> int:
    """How many pictures of a size a part is compared on."""
    return max(64, min(LATENTS_CHECKED, PIXELS_CHECKED // (size[0] * size[1])))


def random_pictures(rng: np.random.Generator, n: int, channels: int, size: tuple[int, int]) -> Tensor:
    """Random smooth pictures with some noise, float32 [n,channels,*size] in [0,1]: flat and busy, dark and bright ones."""
    coarse = torch.from_numpy(rng.random((n, channels, 4, 4), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    noise = torch.from_numpy(rng.standard_normal((n, channels, *size), np.float32))
    strength = torch.from_numpy(rng.random((n, 1, 1, 1), np.float32)) * 0.1
    return (smooth + strength * noise).clamp(0, 1)

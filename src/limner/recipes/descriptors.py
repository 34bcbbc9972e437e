"""Descriptors of pictures that need no training and are the same on every machine: gradients and colors.

Histograms of oriented gradients (Dalal & Triggs 2005, "Histograms of oriented gradients for human detection") for what is where,
and colors, reduced to principal components. Groups of similar pictures (`recipes.groups`) and the propagation of labels
(`recipes.classify`) compare pictures by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core.components import principal_axes, project
from limner.core.images import to_float

SIDE = 32  # pixels; larger pictures are reduced to it
COLOR = 0.5  # weight of colors; that of gradients is 1
FITTED = 20_000  # pictures, evenly spaced, that principal components are computed from
BATCH_NUMBERS = 1 << 24  # of the pictures that are described at once


@dataclass(frozen=True)
class Detail:
    """How finely pictures are described."""

    cells: int  # a side of the grid over which gradients and colors are averaged
    orientations: int  # of gradients, in half a turn
    components: int  # principal components that are kept


def batches(images: Tensor) -> Sequence[Tensor]:
    """Split pictures uint8 [N,C,H,W] into parts that are described at once."""
    return images.split(max(1, BATCH_NUMBERS // images[0].numel()))


def descriptors(images: Tensor, detail: Detail) -> Tensor:
    """Return the gradients and colors of pictures uint8 [n,C,H,W], float32 [n, cells^2 * (orientations + C)].

    Gradients are those of the gray picture, on white where it is transparent: their strength near each orientation, averaged over a
    cell; the square root keeps strong edges from outweighing all others.
    """
    x = to_float(images).contiguous()
    x = F.adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    if x.shape[1] == 4:
        alpha = (x[:, 3:] + 1) / 2
        x = torch.cat([x[:, :3] * alpha + (1 - alpha), x[:, 3:]], 1)
    gray = x[:, :3].mean(1, keepdim=True)
    smooth = F.avg_pool2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, 1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    across, down = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength = torch.hypot(across, down)
    angles = [k * pi / detail.orientations for k in range(detail.orientations)]
    near = [
        ((cos(a) * across + sin(a) * down) / strength.clamp_min(1e-6)).square().square() * strength for a in angles
    ]  # strength * cos^4
    gradients = F.adaptive_avg_pool2d(torch.cat(near, 1), detail.cells).sqrt().flatten(1)
    return torch.cat([gradients, COLOR * F.adaptive_avg_pool2d(x, detail.cells).flatten(1)], 1)


def components(images: Callable[[np.ndarray], Tensor], count: int, detail: Detail) -> Tensor:
    """Return the principal components of the descriptors of pictures, of unit length, float32 [count,k].

    images: returns the pictures of some of the rows 0 ... count - 1, uint8 [n,C,H,W], so that not all are copied at once.
    """
    numbers = images(np.arange(1)).numel()

    def described(rows: np.ndarray) -> Iterator[Tensor]:
        for part in np.array_split(rows, -(-len(rows) * numbers // BATCH_NUMBERS)):
            yield descriptors(images(part), detail).double()

    some = torch.cat(list(described(np.arange(0, count, -(-count // FITTED)))))
    mean, axes = principal_axes(some, detail.components)
    return torch.cat([project(part, mean, axes).float() for part in described(np.arange(count))])

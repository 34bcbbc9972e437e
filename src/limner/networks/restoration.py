"""What restorers share: bicubic enlargement, self-ensembles, and how a mask goes in and a filled hole comes out."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core.device import full_precision
from limner.networks.padding import crop_to, pad_to

ENSEMBLES = (1, 2, 4, 8)  # how many of the square's symmetries a self-ensemble uses
TAPS = 2  # radius of bicubic interpolation, in input pixels


@cache
def _cubic_taps(scale: int) -> list[list[float]]:
    """The weights [s*s][25] of the 5x5 input pixels around the pixel of each output, by rows."""

    def keys(t: float) -> float:
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    places = [(i + 0.5) / scale - 0.5 for i in range(scale)]  # of the outputs of an input pixel, from its center
    axis = [[keys(abs(place - tap)) for tap in range(-TAPS, TAPS + 1)] for place in places]
    return [[a * b for a in row for b in column] for row in axis for column in axis]


def bicubic(x: Tensor, scale: int) -> Tensor:
    """Enlarge by a whole factor with Keys's cubic kernel, a = -1/2 (Keys 1981, eq. 15): [N,C,H,W] -> float32 [N,C,sH,sW].

    Each of the s^2 output pixels of an input pixel is a fixed weighting of its 5x5 neighborhood, with the border repeated, so
    that tiles with a margin of 2 equal the whole. It equals Pillow's BICUBIC except near the border, where Pillow truncates the kernel.
    """
    n, c, h, w = x.shape
    kernels = torch.tensor(_cubic_taps(scale), device=x.device).view(-1, 1, 2 * TAPS + 1, 2 * TAPS + 1)
    flat = F.pad(x.float().reshape(n * c, 1, h, w), (TAPS,) * 4, mode="replicate")
    with full_precision(x.device):
        made = F.pixel_shuffle(F.conv2d(flat, kernels), scale)
    return made.reshape(n, c, h * scale, w * scale)


def network_input(restorer: Any, image: Tensor, mask: Tensor | None) -> Tensor:
    """Return the input of a restorer: a degraded picture [N,C,H,W] with its mask [N,1,H,W] if it has one, or its first channels."""
    if mask is not None:
        return torch.cat([image, mask.to(image.dtype)], 1)
    return image[:, : restorer.inputs]


def ensembled(restorer: Any, x: Tensor, count: int) -> Tensor:
    """Return the mean output [N,C,sH,sW] over `count` symmetries of the input [N,I,H,W], each undone: the geometric self-ensemble
    of Timofte et al. 2016, "Seven ways to improve example-based single image super resolution", section 3.7.

    1: the network alone, 2: the picture and its mirror image, 4: both upside down too, 8: all of them also transposed. The input
    is padded to the network's multiple first, so that its grid lies alike in a tile and in the whole picture.
    """
    assert count in ENSEMBLES, count
    if count == 1:
        alone: Tensor = restorer(x)
        return alone
    h, w = x.shape[-2:]
    padded = pad_to(x, int(restorer.multiple))
    total = torch.zeros(())
    for symmetry in range(count):
        axes = [axis for bit, axis in ((1, 3), (2, 2)) if symmetry & bit]
        turned = padded.flip(axes)
        turned = turned.transpose(2, 3) if symmetry & 4 else turned
        made = restorer(turned.contiguous(memory_format=torch.channels_last)).float()
        made = made.transpose(2, 3) if symmetry & 4 else made
        made = made.flip(axes)
        total = total + made if symmetry else made
    return crop_to(total / count, (h * int(restorer.scale), w * int(restorer.scale)))


def composed(image: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    """Return the output [N,C,H,W] inside the hole (mask 1) and the picture elsewhere."""
    return torch.where(mask.bool(), made, image.to(made.dtype))

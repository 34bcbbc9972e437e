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
HALVINGS = 4  # of the resolution, from which holes are filled
COARSE_ROUNDS, ROUNDS = 32, 4  # of smoothing a filled hole, at the lowest resolution and at each other
LEAST = 1e-6  # known share of a coarse pixel
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


def filled(picture: Tensor, mask: Tensor, halvings: int = HALVINGS) -> Tensor:
    """Fill a hole smoothly from its border: float32 [N,C,H,W], mask [N,1,H,W] (1 in the hole) -> [N,C,H,W], elsewhere unchanged.

    Nearly the solution of Laplace's equation, found from coarse to fine: means of the known pixels at half the resolution, and so on
    (Gortler et al. 1996, "The lumigraph", section 3.4), a few means of 3x3 pixels in what is still unknown, and then the same at each finer
    resolution. A picture that is all hole becomes 0.
    """
    size = (picture.shape[-2], picture.shape[-1])
    picture, mask = pad_to(picture, 2**halvings), pad_to(mask, 2**halvings)
    sums, known = [picture * (1 - mask)], [1 - mask]
    for _ in range(halvings):
        sums.append(F.avg_pool2d(sums[-1], 2))
        known.append(F.avg_pool2d(known[-1], 2))
    made = sums[-1].sum((2, 3), keepdim=True) / known[-1].sum((2, 3), keepdim=True).clamp_min(LEAST)
    made = made.expand_as(sums[-1])
    for level in range(halvings, -1, -1):
        unknown = known[level] < LEAST
        means = sums[level] / known[level].clamp_min(LEAST)
        made = torch.where(unknown, made, means)
        for _ in range(COARSE_ROUNDS if level == halvings else ROUNDS):
            made = torch.where(unknown, F.avg_pool2d(made, 3, 1, 1, count_include_pad=False), means)
        if level:
            made = F.interpolate(made, scale_factor=2, mode="bilinear", align_corners=False)
    return crop_to(made, size)

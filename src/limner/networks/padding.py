"""Padding of images to a multiple of a network's stride, and cropping back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """[N,C,H,W] -> the same with H and W rounded up to `multiple`, the last row and column repeated below and right."""
    h, w = x.shape[-2:]
    if not (isinstance(h, int) and isinstance(w, int)):  # symbols of an exporter, on which no branch can depend
        # no negative numbers: ONNX divides toward zero
        padded = [(side + multiple - 1) // multiple * multiple for side in (h, w)]
        rows, columns = (torch.arange(n, device=x.device).clamp(max=side - 1) for n, side in zip(padded, (h, w), strict=True))
        return x.index_select(2, rows).index_select(3, columns)
    below, right = -h % multiple, -w % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def crop_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The upper left [N,C,*size] of x: undoes `pad_to`."""
    return x[..., : size[0], : size[1]]

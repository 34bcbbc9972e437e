"""Restorers without training, and pictures for them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from limner.apps.restore import Restorer
from limner.core.images import ImageSpec
from limner.networks import plain, restoration_unet

DEEP = Image.fromarray((np.arange(40 * 30, dtype=np.uint16) * 54).reshape(30, 40))
CPU = torch.device("cpu")


def network(channels: int, scale: int = 1, **config: Any) -> nn.Module:
    """Plain convolutions with random weights that change a picture visibly."""
    torch.manual_seed(0)
    net = plain.Restorer(ImageSpec(channels, 32, 32), plain.Config(**{"width": 16, "depth": 2} | config), scale)
    with torch.no_grad():
        net.last.weight.normal_(std=0.1)
    return net


def restorer(channels: int = 3, scale: int = 1, task: str = "low-light", net: nn.Module | None = None, **config: Any) -> Restorer:
    """A restorer without training; the default task keeps no color, so that its output is the network's."""
    net = net or network(channels, scale, **config)
    return Restorer(net, ImageSpec(channels, 32, 32), {"network": {"task": task}}, CPU, Path())


def context(channels: int = 3, inputs: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    net = restoration_unet.Restorer(ImageSpec(channels, 32, 32), restoration_unet.TINY, inputs)
    with torch.no_grad():
        net.last.weight.normal_(std=0.1)
    return net


class Same(nn.Module):
    """The input unchanged, plus a constant."""

    least, multiple, radius, scale = 1, 1, 1, 1

    def __init__(self, inputs: int = 3, offset: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.offset, self.calls = inputs, offset, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.offset

    def fused(self) -> Same:
        return self


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(width: int, height: int) -> Image.Image:
    """A smooth color picture with some noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 60 * np.sin(x / 17), 128 + 60 * np.cos(y / 23), 100 + 50 * np.sin((x + y) / 31)], -1)
    return Image.fromarray((smooth + np.random.default_rng(0).normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8))


def filler(channels: int = 3) -> Restorer:
    return restorer(channels, task="inpaint", net=context(channels, channels + 1))


def deep_color_png() -> bytes:
    """A PNG of 4x4 pixels with 16 bits for each of three colors, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(24)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

"""Features without training: the pixels' principal components, means of pixels at low resolution, and fixed random convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from limner.core.images import to_float
from limner.evaluation.features.extractor import digest, resized, with_channels
from limner.evaluation.inputs import ImageSet


class Pixels:
    """Pixels in [-1,1], projected on the principal components of the reference (up to 256): float32 [N,F].

    Sensitive to color, position and sharpness, not to content. Larger pictures are resized to 32 on the longer side.
    """

    name = "pixels"

    def __init__(self, reference: ImageSet, width: int = 256) -> None:
        spec = reference.spec
        factor = min(1.0, 32 / max(spec.size))
        self.channels, self.size = spec.channels, (max(1, round(spec.height * factor)), max(1, round(spec.width * factor)))
        rows = self._flat(reference.some(10_000).images).double()
        self.mean = rows.mean(0)
        rows -= self.mean
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        # The sign of an eigenvector is arbitrary: make the largest entry positive, so that rows can be compared across runs.
        basis = vectors.flip(1)[:, : min(width, len(rows) - 1, rows.shape[1]) or 1]
        signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        self.basis = basis * signs
        self.width = self.basis.shape[1]
        self.resize = f"bilinear, antialiased, to {self.size[0]}x{self.size[1]}"
        self.identity = digest("pixels", reference.fingerprint, self.size, self.width)

    def __call__(self, images: Tensor) -> Tensor:
        return ((self._flat(images).double() - self.mean) @ self.basis).float()

    def _flat(self, images: Tensor) -> Tensor:
        parts = [resized(with_channels(part, self.channels), self.size) for part in images.split(1024)]
        return to_float(torch.cat(parts)).flatten(1)  # [N,C·H·W]


class LowPass:
    """The luma in [0,1] at a resolution of 16 on the longer side, by area: float32 [N,F], F at most 256.

    Sensitive to shape and position, not to color, texture and sharpness. Equal for all sets of a size.
    """

    name = "lowpass"

    def __init__(self, size: tuple[int, int]) -> None:
        factor = min(1.0, 16 / max(size))
        self.size = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        self.width = self.size[0] * self.size[1]
        self.resize = f"means of areas, to {self.size[0]}x{self.size[1]}"
        self.identity = digest("lowpass", self.size)

    def __call__(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(with_channels(images, 1).float() / 255, self.size).flatten(1)  # [N,1,h,w] -> [N,F]


class Convolutions:
    """Three random convolutions of stride 2 with a fixed seed; mean and standard deviation of the last maps: float32 [N,128].

    They are the same for every data set of a size and number of channels, so that values can be compared between sets; they
    detect less than trained features.
    """

    name = "convolutions"
    width = 128

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        factor = min(1.0, 64 / max(size))
        self.channels, self.size = channels, (max(8, round(size[0] * factor)), max(8, round(size[1] * factor)))
        random = torch.Generator().manual_seed(0)
        widths = [channels, 16, 32, 64]
        self.kernels = [
            torch.randn(after, before, 4, 4, generator=random) * (2 / (16 * before)) ** 0.5
            for before, after in zip(widths, widths[1:], strict=False)
        ]
        self.resize = f"bilinear, antialiased, to {self.size[0]}x{self.size[1]}"
        self.identity = digest("convolutions", channels, self.size)

    def __call__(self, images: Tensor) -> Tensor:
        x = to_float(resized(with_channels(images, self.channels), self.size))
        for kernel in self.kernels:
            x = F.leaky_relu(F.conv2d(x, kernel, stride=2, padding=1), 0.2)
        return torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1)  # [N,64,h,w] -> [N,128]

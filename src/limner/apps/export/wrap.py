"""Networks as the functions that are exported: standard normal latents in, pixels in [0,1] out."""

from __future__ import annotations

from math import erf, sqrt

import torch
from torch import Tensor, nn

from limner.core.latents import TRUNCATION
from limner.networks.contracts import StyleBased

# The central branch of a polynomial in -log(1 - x^2) - 2.5 for erfinv(x)/x in single precision, highest power first
# (Giles 2012, "Approximating the erfinv function", table 5). It holds up to |x| = 0.9966; truncation at 2 needs 0.9545.
ERFINV = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727,
    1.50140941,
)  # fmt: skip


def erfinv(x: Tensor) -> Tensor:
    """The inverse error function for |x| < 0.9966, in operations that ONNX has."""
    w = -torch.log1p(-x * x) - 2.5
    p = torch.full_like(w, ERFINV[0])
    for coefficient in ERFINV[1:]:
        p = p * w + coefficient
    return p * x


def transformed(z: Tensor, distribution: str) -> Tensor:
    """Map standard normal numbers to a latent distribution, as `core.latents.transform` does, in operations that ONNX has."""
    if distribution == "normal":
        return z
    uniform = torch.erf(z / sqrt(2))
    return uniform if distribution == "uniform" else erfinv(uniform * erf(TRUNCATION / sqrt(2))) * sqrt(2)


def to_pixels(x: Tensor) -> Tensor:
    """[-1,1] -> [0,1], clamped"""
    return (x.float() * 0.5 + 0.5).clamp(0, 1)


def to_network(pixels: Tensor) -> Tensor:
    """[0,1] -> [-1,1]"""
    return pixels * 2 - 1


class GeneratorGraph(nn.Module):
    """(z [N,Z] standard normal, condition or none) -> pixels [N,C,H,W] in [0,1]"""

    def __init__(self, network: nn.Module, distribution: str) -> None:
        super().__init__()
        self.network, self.distribution = network, distribution

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return to_pixels(self.network(transformed(z, self.distribution), c))


class StyleGraph(nn.Module):
    """(z [N,Z], label [N] if there are classes, truncation [1]) -> pixels [N,C,H,W] in [0,1]; see `apps.truncation`

    means: the mean style [K,W] of each class, or [1,W].
    """

    means: Tensor

    def __init__(self, network: nn.Module, distribution: str, means: Tensor) -> None:
        super().__init__()
        self.network, self.distribution = network, distribution
        self.register_buffer("means", means)

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        label, truncation = (others[0], others[1]) if len(others) == 2 else (None, others[0])
        network = self.network
        assert isinstance(network, StyleBased)
        w = network.mapping(transformed(z, self.distribution), label).float()  # [N,W]
        mean = self.means if label is None else self.means[label]
        w = w - (w - mean) * (1 - truncation)  # exactly w at 1
        return to_pixels(network.synthesis(w[:, None].expand(-1, network.layers, -1)))

"""Networks as the functions that are exported: standard normal latents in, pictures in [0,1] in and out."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.latents import TRUNCATION
from limner.networks.contracts import StyleBased
from limner.networks.restoration import composed

GRAY = 128 / 255  # fills holes, as in training

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
    """(z [N,Z], truncation [1]) -> pixels [N,C,H,W] in [0,1]; see `apps.truncation`

    means: the mean style [K,W] of each class, or [1,W].
    """

    means: Tensor

    def __init__(self, network: nn.Module, distribution: str, means: Tensor) -> None:
        super().__init__()
        self.network, self.distribution = network, distribution
        self.register_buffer("means", means)

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        return self.truncated(z, None, self.means, truncation)

    def truncated(self, z: Tensor, label: Tensor | None, mean: Tensor, truncation: Tensor) -> Tensor:
        network = self.network
        assert isinstance(network, StyleBased)
        w = network.mapping(transformed(z, self.distribution), label).float()  # [N,W]
        w = w - (w - mean) * (1 - truncation)  # exactly w at 1
        return to_pixels(network.synthesis(w[:, None].expand(-1, network.layers, -1)))


class ClassStyleGraph(StyleGraph):
    """(z [N,Z], label [N], truncation [1]) -> pixels [N,C,H,W] in [0,1]"""

    def forward(self, z: Tensor, label: Tensor, truncation: Tensor) -> Tensor:  # type: ignore[override]
        return self.truncated(z, label, self.means[label], truncation)


class PictureGraph(nn.Module):
    """pixels [N,C,H,W] in [0,1] -> pixels in [0,1]: a translator, a restorer or an autoencoder's reconstruction"""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return to_pixels(self.network(to_network(pixels)))


class FillGraph(nn.Module):
    """pixels [N,C,H,W] in [0,1], mask [N,1,H,W] (1 in the hole, 0 elsewhere) -> pixels, unchanged outside the hole"""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, mask: Tensor) -> Tensor:
        hole = (mask > 0.5).float()
        x = torch.where(hole > 0, torch.full_like(pixels, GRAY), pixels)
        made = to_pixels(self.network(torch.cat([to_network(x), hole], 1)))
        return composed(pixels, made, hole)


class ClassifierGraph(nn.Module):
    """pixels [N,C,H,W] in [0,1] -> logits [N,K] divided by the temperature, features [N,F]"""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(to_network(pixels))
        return self.network.classify(features) / self.network.temperature, features


class EncoderGraph(nn.Module):
    """pixels [N,C,H,W] in [0,1] -> features or latents [N,...]

    network: what `work` computes with; work: (network, x in [-1,1]) -> features.
    """

    def __init__(self, network: nn.Module, work: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.work = network, work

    def forward(self, pixels: Tensor) -> Tensor:
        return self.work(self.network, to_network(pixels))


class DecoderGraph(nn.Module):
    """latents [N,Z], or codes int64 [N,h,w] -> pixels [N,C,H,W] in [0,1]"""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor) -> Tensor:
        return to_pixels(self.network.decode(latents))


@torch.no_grad()
def mixture_tables(prior: Any) -> tuple[Tensor, Tensor]:
    """Return what a `networks.mixture.Mixture` is drawn by: the ends of its components in [0,1), [1 or K,M], the last one above, and the
    factors [M,Z,Z] that standard normal numbers are multiplied with, before the component's mean is added."""
    ends = prior.weights.detach().cpu().double().softmax(1).cumsum(1)
    ends[:, -1] = 2  # above every chance
    triangles = prior._triangles().cpu().double()
    unit = torch.eye(triangles.shape[1], dtype=torch.float64).expand_as(triangles)
    return ends.float(), torch.linalg.solve_triangular(triangles, unit, upper=False).float()


class PriorGraph(nn.Module):
    """z [N,Z] standard normal, chance [N] uniform in [0,1), label [N] if there are classes -> pixels: samples of an autoencoder

    A latent of the mixture prior, whose component `chance` chooses, is decoded: `networks.mixture.Mixture.draw` in operations that
    ONNX has. The triangular matrices are inverted once.
    """

    ends: Tensor
    inverses: Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, prior = network, network.prior
        ends, inverses = mixture_tables(prior)
        self.register_buffer("ends", ends)  # [1 or K,M]
        self.register_buffer("inverses", inverses)  # [M,Z,Z]

    def forward(self, z: Tensor, chance: Tensor, label: Tensor | None = None) -> Tensor:
        means = self.network.prior.means  # [M,Z], or [K,M,Z] with classes
        ends = self.ends if label is None else self.ends[label]
        k = (chance[:, None] >= ends).sum(1)  # [N]
        mean = means.reshape(-1, *means.shape[-2:])[0][k] if label is None else means[label, k]
        away = (self.inverses[k] @ z[:, :, None]).squeeze(2)
        return to_pixels(self.network.decode(mean + away))


class SynthesisGraph(nn.Module):
    """latents [N,M,h,w], quality [N] in 0 ... qualities - 1 -> pixels [N,C,16h,16w]: the last step of a codec's decoder"""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor, quality: Tensor) -> Tensor:
        return to_pixels(self.network.synthesis(latents, quality))


class AnalysisGraph(nn.Module):
    """pixels [N,C,H,W], quality [N] -> latents [N,M,H/16,W/16], not rounded: the first step of a codec's encoder"""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, quality: Tensor) -> Tensor:
        latents: Tensor = self.network.analysis(to_network(pixels), quality)
        return latents

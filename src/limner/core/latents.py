"""Latents: the random inputs of a generator, of several distributions.

Latents are drawn and interpolated as standard normal numbers, where great circles preserve length. An increasing function
maps them to another distribution last, just before the network.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt

import numpy as np
import torch
from torch import Tensor

TRUNCATION = 2.0  # bound of truncated normal numbers, in standard deviations


def _uniform(z: Tensor) -> Tensor:
    """Maps normal samples to uniform samples in [-1,1] by the normal CDF."""
    return torch.erf(z / sqrt(2))


def _truncated(z: Tensor) -> Tensor:
    """Maps normal samples to a truncated normal by inverse-CDF sampling."""
    return torch.erfinv(_uniform(z) * erf(TRUNCATION / sqrt(2))) * sqrt(2)


DISTRIBUTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda z: z,
    "uniform": _uniform,  # Radford et al. 2016 (DCGAN), section 3
    "truncated": _truncated,  # Brock et al. 2019 (BigGAN), section 3.1 and appendix E; there by rejection sampling, here by inverse CDF
}


def validate_name(distribution: str) -> str:
    """Return the name of a latent distribution. Raises ValueError for an unknown one."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"The noise {distribution!r} is unknown: choose one of {', '.join(DISTRIBUTIONS)}.")
    return distribution


def transform(z: Tensor, distribution: str) -> Tensor:
    """Map standard normal float32 [N,Z] to the distribution `distribution`: normal, uniform in [-1,1], or truncated to [-2,2]."""
    return DISTRIBUTIONS[validate_name(distribution)](z)


def normal(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Draw standard normal numbers, float32 [n, size]."""
    return rng.standard_normal((n, size), np.float32)


def draw(rng: np.random.Generator, n: int, size: int, distribution: str) -> Tensor:
    """Draw latents of the distribution `distribution`, float32 [n, size]."""
    return transform(torch.from_numpy(normal(rng, n, size)), distribution)

"""Latents: the numbers that a generator starts from, of several kinds, drawn here and nowhere else.

Every kind is standard normal numbers bent by an increasing function, so that latents are drawn and walked between
as normal numbers, where a great circle keeps lengths, and bent last, on their way into the network.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt

import numpy as np
import torch
from torch import Tensor

WITHIN = 2.0  # standard deviations that truncated normal numbers keep to


def _uniform(z: Tensor) -> Tensor:
    """Their own distribution function makes normal numbers uniform, here in [-1,1]."""
    return torch.erf(z / sqrt(2))


def _truncated(z: Tensor) -> Tensor:
    """And the inverse of a truncated normal's makes uniform numbers that."""
    return torch.erfinv(_uniform(z) * erf(WITHIN / sqrt(2))) * sqrt(2)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda z: z,
    "uniform": _uniform,  # Radford et al. 2016 (DCGAN), section 3
    "truncated": _truncated,  # Brock et al. 2019 (BigGAN), section 3.1 and appendix E; there drawn again, here bent
}


def known(kind: str) -> str:
    """The kind itself. Raises ValueError for an unknown one."""
    if kind not in KINDS:
        raise ValueError(f"The noise {kind!r} is not known: say one of {', '.join(KINDS)}.")
    return kind


def transform(z: Tensor, kind: str) -> Tensor:
    """Standard normal float32 [N,Z] -> latents of the kind, uniform in [-1,1] or normal within 2 deviations."""
    return KINDS[known(kind)](z)


def normal(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Standard normal float32 [n, size]."""
    return rng.standard_normal((n, size), np.float32)


def draw(rng: np.random.Generator, n: int, size: int, kind: str) -> Tensor:
    """Latents of the kind, float32 [n, size], as a network takes them."""
    return transform(torch.from_numpy(normal(rng, n, size)), kind)

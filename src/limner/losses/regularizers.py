"""Regularizers of the generator by name, in `REGULARIZERS`: of the pictures' dependence on latents, and of the weights.

Each is [N], or [] where it does not depend on pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner.core.device import full_precision
from limner.losses.adversarial import global_mean
from limner.losses.penalties import RandomFn, RunningMean


@dataclass(frozen=True)
class GeneratorContext:
    """The inputs of a regularizer of the generator."""

    latent: Callable[[str], Tensor]  # name -> latents [N,Z]; the same name gives the same latents
    fake: Callable[[], Tensor]  # pictures of the latents "z"
    generate: Callable[[Tensor], Tensor]  # latents [N,Z] -> pictures
    mapping: Callable[[Tensor], Tensor]  # latents [N,Z] -> styles [N,L,W]; without a mapping network the latents, with L = 1
    synthesis: Callable[[Tensor], Tensor]  # styles [N,L,W] -> pictures
    weights: Sequence[Tensor]  # of the generator, without class embeddings, whose rows may be similar
    normal: RandomFn
    running_mean: RunningMean


@dataclass(frozen=True)
class Regularizer:
    """A regularizer of the generator and its default weight."""

    loss: Callable[[GeneratorContext], Tensor]
    source: str
    weight: float  # the paper's
    tracked: tuple[str, ...] = field(default=())  # names that it records in `GeneratorContext.running_mean`


def mode_seeking(one: Tensor, two: Tensor, z_one: Tensor, z_two: Tensor) -> Tensor:
    """Return the distance between latents relative to that between their pictures. -> [N], all equal

    The paper maximizes the inverse ratio (eq. 4); its code minimizes this one, which is bounded near the optimum. Both
    distances are means over the batch (or micro-batch): with a ratio for each pair, the closest pair would get nearly all
    of the gradient.
    """
    pictures, latents = global_mean((one - two).abs().mean((1, 2, 3))), global_mean((z_one - z_two).abs().mean(1))
    return (1 / (pictures / latents + 1e-5)).expand(len(one))


def orthogonal(weights: Sequence[Tensor]) -> Tensor:
    """Return the sum over matrices of |W W^T * (1 - I)|^2: it is zero when rows are orthogonal, of any length. -> []"""
    total = weights[0].new_zeros(())
    for weight in weights:
        if weight.ndim < 2 or min(weight.shape[0], weight[0].numel()) < 2:
            continue
        matrix = weight.flatten(1)
        with full_precision(matrix.device):
            if matrix.shape[0] > matrix.shape[1]:  # |W W^T| = |W^T W|: fewer products with many rows
                total = total + (matrix.T @ matrix).square().sum() - matrix.square().sum(1).square().sum()
            else:
                products = matrix @ matrix.T
                total = total + (products - torch.diag(products.diagonal())).square().sum()
    return total


def path_lengths(synthesis: Callable[[Tensor], Tensor], styles: Tensor, noise: Callable[..., Tensor]) -> Tensor:
    """Return |J^T e| with e ~ N(0, I / pixels) and J the Jacobian of pictures by styles. [N,L,W] -> [N]

    The norm is averaged over layers, as in the paper's code.
    """
    if not styles.requires_grad:
        styles = styles.detach().requires_grad_(True)
    pictures = synthesis(styles)
    direction = noise(*pictures.shape[1:]) / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((pictures * direction).sum(), styles, create_graph=True)
    return (gradient.float().square().sum(2).mean(1) + 1e-12).sqrt()


def _mode_seeking(context: GeneratorContext) -> Tensor:
    one, two = context.latent("z"), context.latent("other z")
    return mode_seeking(context.fake(), context.generate(two), one, two)


def _path_length(context: GeneratorContext) -> Tensor:
    lengths = path_lengths(context.synthesis, context.mapping(context.latent("z")), lambda *shape: context.normal("path", *shape))
    context.running_mean.note("path", lengths.detach())
    return (lengths - context.running_mean.mean("path")).square()


REGULARIZERS: dict[str, Regularizer] = {
    "mode-seeking": Regularizer(
        _mode_seeking,
        "Mao et al. 2019, Mode seeking generative adversarial networks for diverse image synthesis, eq. 4",
        weight=1.0,
    ),
    "orthogonal": Regularizer(
        lambda context: orthogonal(context.weights),
        "Brock et al. 2019, Large scale GAN training, eq. 3",
        weight=1e-4,
    ),
    "path-length": Regularizer(
        _path_length,
        "Karras et al. 2020, Analyzing and improving the image quality of StyleGAN, eq. 4",
        weight=2.0,
        tracked=("path",),
    ),
}


def generator_regularizer(name: str) -> Regularizer | None:
    """Return a regularizer by name; None for `none`. Raises ValueError for an unknown name."""
    if name != "none" and name not in REGULARIZERS:
        raise ValueError(f"The regularizer {name!r} is unknown: choose one of none, {', '.join(REGULARIZERS)}.")
    return REGULARIZERS.get(name)

"""Penalties on the generator, one small value each in `REGULARIZERS`: how pictures should depend on their latents, and how
weights should stand to each other. Each is [N], or [] where no single picture is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner.losses.adversarial import global_mean
from limner.losses.penalties import Draw, Usual


@dataclass(frozen=True)
class GeneratorContext:
    """What a penalty on the generator may look at."""

    latent: Callable[[str], Tensor]  # name -> latents [N,Z], the same whenever asked
    made: Callable[[], Tensor]  # pictures of the latents "z"
    generate: Callable[[Tensor], Tensor]  # latents -> pictures
    style: Callable[[Tensor], Tensor]  # latents [N,Z] -> what synthesis starts from, [N,L,W] (the latent itself: L = 1)
    paint: Callable[[Tensor], Tensor]  # that -> pictures
    weights: Sequence[Tensor]  # the generator's, without tables of classes: rows of those may well be alike
    normal: Draw
    usual: Usual


@dataclass(frozen=True)
class Regularizer:
    loss: Callable[[GeneratorContext], Tensor]
    source: str
    weight: float  # the paper's own
    keeps: tuple[str, ...] = field(default=())  # what it notes in `GeneratorContext.usual`


def mode_seeking(one: Tensor, two: Tensor, z_one: Tensor, z_two: Tensor) -> Tensor:
    """The inverse of how far pictures lie apart for how far their latents do. -> [N], all equal

    The paper maximizes the ratio (eq. 4) and its code minimizes the inverse, as here: bounded where it is good. Both
    distances are means over the batch (over a slice, where it is cut): inverted pair by pair, the one that lies nearest
    would get all of the gradient.
    """
    pictures, latents = global_mean((one - two).abs().mean((1, 2, 3))), global_mean((z_one - z_two).abs().mean(1))
    return (1 / (pictures / latents + 1e-5)).expand(len(one))


def orthogonal(weights: Sequence[Tensor]) -> Tensor:
    """Sum over matrices of |W W^T * (1 - I)|^2: rows should be orthogonal, of whatever length. -> []"""
    total = weights[0].new_zeros(())
    for weight in weights:
        if weight.ndim < 2 or min(weight.shape[0], weight[0].numel()) < 2:
            continue
        matrix = weight.flatten(1)
        with torch.autocast(matrix.device.type, enabled=False):
            if matrix.shape[0] > matrix.shape[1]:  # |W W^T| = |W^T W|: fewer products where there are many rows
                total = total + (matrix.T @ matrix).square().sum() - matrix.square().sum(1).square().sum()
            else:
                products = matrix @ matrix.T
                total = total + (products - torch.diag(products.diagonal())).square().sum()
    return total


def path_lengths(paint: Callable[[Tensor], Tensor], styles: Tensor, noise: Callable[..., Tensor]) -> Tensor:
    """|J^T e| with e ~ N(0, I / pixels): how far a picture moves when its style does. [N,L,W] -> [N]

    The mean over layers as in the paper's code, where one style serves all.
    """
    if not styles.requires_grad:
        styles = styles.detach().requires_grad_(True)
    pictures = paint(styles)
    direction = noise(*pictures.shape[1:]) / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (moved,) = torch.autograd.grad((pictures * direction).sum(), styles, create_graph=True)
    return (moved.float().square().sum(2).mean(1) + 1e-12).sqrt()


def _seeking(context: GeneratorContext) -> Tensor:
    one, two = context.latent("z"), context.latent("other z")
    return mode_seeking(context.made(), context.generate(two), one, two)


def _paths(context: GeneratorContext) -> Tensor:
    lengths = path_lengths(context.paint, context.style(context.latent("z")), lambda *shape: context.normal("path", *shape))
    context.usual.note("path", lengths.detach())
    return (lengths - context.usual.mean("path")).square()


REGULARIZERS: dict[str, Regularizer] = {
    "mode-seeking": Regularizer(
        _seeking,
        "Mao et al. 2019, Mode seeking generative adversarial networks for diverse image synthesis, eq. 4",
        weight=1.0,
    ),
    "orthogonal": Regularizer(
        lambda context: orthogonal(context.weights),
        "Brock et al. 2019, Large scale GAN training, eq. 3",
        weight=1e-4,
    ),
    "path-length": Regularizer(
        _paths,
        "Karras et al. 2020, Analyzing and improving the image quality of StyleGAN, eq. 4",
        weight=2.0,
        keeps=("path",),
    ),
}


def generator_regularizer(name: str) -> Regularizer | None:
    """The penalty of a name; None for `none`. Raises ValueError for an unknown one."""
    if name != "none" and name not in REGULARIZERS:
        raise ValueError(f"The regularizer {name!r} is not known: say one of none, {', '.join(REGULARIZERS)}.")
    return REGULARIZERS.get(name)

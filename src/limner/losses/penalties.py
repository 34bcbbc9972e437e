"""Penalties on the discriminator by name, in `PENALTIES`: per sample and unreduced, [N].

A penalty computes its named terms from a `DiscriminatorContext`. The context supplies the random numbers, so that micro-batches
and ranks draw the same ones, and computes generated pictures only when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from limner.core.device import full_precision

DiscriminatorFn = Callable[[Tensor], Tensor]  # x [kN,C,H,W] -> logits [kN]; labels are repeated k times


class RandomFn(Protocol):
    """Draws random numbers by name."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return random numbers [N,*shape]; the same name gives the same numbers."""


class RunningMean(Protocol):
    """Exponential moving averages, over the run so far, of the values that a penalty records."""

    def note(self, name: str, values: Tensor) -> None: ...

    def mean(self, name: str) -> float: ...


@dataclass(frozen=True)
class DiscriminatorContext:
    """The inputs of a penalty on the discriminator."""

    discriminator: DiscriminatorFn
    real: Callable[[], Tensor]  # real pictures after augmentation; they require a gradient where `Penalty.gradient_at` names them
    fake: Callable[[], Tensor]  # generated pictures, detached
    real_logits: Callable[[], Tensor]  # the discriminator's logits [N], differentiable
    fake_logits: Callable[[], Tensor]
    normal: RandomFn
    uniform: RandomFn
    running_mean: RunningMean


@dataclass(frozen=True)
class Penalty:
    """A penalty on the discriminator: its loss is weight * scale * the sum of its terms."""

    terms: Callable[[DiscriminatorContext], Mapping[str, Tensor]]  # name -> [N]
    source: str
    weight: float | None = None  # the paper's; None: `gamma_for` computes it from resolution and batch
    scale: float = 1.0  # factor on the weight: 0.5 where the paper has gamma/2
    gradient_at: tuple[str, ...] = ()  # pictures, "real" or "fake", at which it takes the gradient of the context's logits
    tracked: tuple[str, ...] = field(default=())  # names that it records in `DiscriminatorContext.running_mean`
    estimated: bool = False  # by finite differences, which two forward passes must allow to compare (no dropout)


# ---- gradient norms --------------------------------------------------------------------------------------------------


def input_gradient(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """Return grad_x D(x), differentiable with respect to the discriminator (double backward). [N,C,H,W] -> [N,C,H,W]"""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient


def squared_gradient_norm(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """Return |grad_x D(x)|^2 by double backward. [N,C,H,W] -> [N]

    At real pictures it is R1, at generated pictures R2 (Mescheder et al. 2018, "Which training methods for GANs do actually
    converge?", eq. 9). The gradient is taken in the network's precision, squared and summed in fp32.
    """
    return input_gradient(discriminator, x).float().square().sum((1, 2, 3))


def requires_input_grad(x: Tensor, wanted: bool) -> Tensor:
    """Return the pictures; if `wanted`, detached and requiring a gradient."""
    return x.detach().requires_grad_() if wanted else x


def squared_gradient_norms(evaluated: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return `squared_gradient_norm` of logits that are already computed. {name: (x [N,C,H,W], D(x) [N])} -> {name: [N]}

    The pictures come from `requires_input_grad`. One backward pass for all logits: they may share a forward pass, through
    which separate gradients would pass twice.
    """
    total = torch.stack([logits.sum() for _, logits in evaluated.values()]).sum()
    gradients = torch.autograd.grad(total, [x for x, _ in evaluated.values()], create_graph=True)
    return {name: x.float().square().sum((1, 2, 3)) for name, x in zip(evaluated, gradients, strict=True)}


def patch_gradient_at(name: str) -> tuple[str, ...]:
    """Return `Penalty.gradient_at` of a penalty for patch discriminators. Raises ValueError for an unsuitable penalty."""
    supported = {"none": (), **{key: penalty.gradient_at for key, penalty in PENALTIES.items() if penalty.gradient_at}}
    if name not in supported:
        raise ValueError(f"The penalty {name!r} does not fit this recipe: choose one of {', '.join(supported)}.")
    return supported[name]


def estimated_gradient_norm(discriminator: DiscriminatorFn, x: Tensor, noise: Tensor, sigma: float = 0.01) -> Tensor:
    """Return |D(x + sigma e) - D(x)|^2 / sigma^2 with e ~ N(0, I), which tends to |grad D|^2 for sigma -> 0. [N,C,H,W] -> [N]

    No double backward (Lin et al. 2025, "Diffusion adversarial post-training for one-step video generation", eq. 6, here
    divided by sigma^2 so that the weight compares with R1's). One forward pass, so that layers with batch statistics treat
    both halves alike; in fp32, because a small difference is divided by a small number.
    """
    x = x.detach().float()
    with full_precision(x.device):
        clean, noisy = discriminator(torch.cat([x, x + sigma * noise])).float().chunk(2)
    return ((noisy - clean) / sigma).square()


def unit_gradient_penalty(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """Return (|grad_x D(x)| - 1)^2. [N,C,H,W] -> [N]"""
    return ((squared_gradient_norm(discriminator, x) + 1e-12).sqrt() - 1).square()


def _between(context: DiscriminatorContext) -> Tensor:
    """Return random points on the lines from generated to real pictures."""
    real, fake = context.real(), context.fake()
    return torch.lerp(fake, real, context.uniform("between")[:, None, None, None])


def _around(context: DiscriminatorContext) -> Tensor:
    """Return real pictures with Gaussian noise of standard deviation 0.25, half that of pixels in [-1,1]."""
    real = context.real()
    return real + 0.25 * context.normal("around", *real.shape[1:])


def _lecam(context: DiscriminatorContext) -> dict[str, Tensor]:
    """Return LeCam regularization, eq. 3 as printed; the authors' code ignores logits beyond the other side's mean."""
    real, fake = context.real_logits(), context.fake_logits()
    loss = (real - context.running_mean.mean("fake")).square() + (fake - context.running_mean.mean("real")).square()
    context.running_mean.note("real", real.detach())
    context.running_mean.note("fake", fake.detach())
    return {"lecam": loss}


def _estimated(context: DiscriminatorContext, where: str) -> Tensor:
    x = context.real() if where == "real" else context.fake()
    return estimated_gradient_norm(context.discriminator, x, context.normal(f"near {where}", *x.shape[1:]))


def gamma_for(height: int, width: int, batch: int) -> float:
    """Return the weight of R1 from resolution and batch: 0.0002 * pixels / batch.

    The heuristic of the configuration `auto` in the code of Karras et al. 2020, "Training generative adversarial networks
    with limited data": gamma grows with the number of pixels, over which the gradient is summed, and falls with the batch.
    """
    return 0.0002 * height * width / batch


MESCHEDER = "Mescheder et al. 2018, Which training methods for GANs do actually converge?, eq. 9"
LIN = "Lin et al. 2025, Diffusion adversarial post-training, eq. 6: R1 and R2 without double backward"


def _gradient_penalty(*at: str) -> Penalty:
    def terms(context: DiscriminatorContext) -> dict[str, Tensor]:
        evaluated = {}
        if "real" in at:
            evaluated["r1"] = context.real(), context.real_logits()
        if "fake" in at:
            evaluated["r2"] = context.fake(), context.fake_logits()
        return squared_gradient_norms(evaluated)

    return Penalty(terms, MESCHEDER, scale=0.5, gradient_at=at)


PENALTIES: dict[str, Penalty] = {
    "r1": _gradient_penalty("real"),
    "r2": _gradient_penalty("fake"),
    "r1r2": _gradient_penalty("real", "fake"),
    "r1-fast": Penalty(lambda s: {"r1": _estimated(s, "real")}, LIN, scale=0.5, estimated=True),
    "r2-fast": Penalty(lambda s: {"r2": _estimated(s, "fake")}, LIN, scale=0.5, estimated=True),
    "r1r2-fast": Penalty(
        lambda s: {"r1": _estimated(s, "real"), "r2": _estimated(s, "fake")},
        LIN,
        scale=0.5,
        estimated=True,
    ),
    "wgan-gp": Penalty(
        lambda s: {"gradient_penalty": unit_gradient_penalty(s.discriminator, _between(s))},
        "Gulrajani et al. 2017, Improved training of Wasserstein GANs, eq. 3",
        weight=10.0,
    ),
    "wgan-gp-drift": Penalty(
        lambda s: {"gradient_penalty": unit_gradient_penalty(s.discriminator, _between(s)), "drift": 1e-4 * s.real_logits().square()},
        "Karras et al. 2018, Progressive growing of GANs, appendix A.1: 10 times the gradient penalty and 0.001 times the "
        "squared logits of real pictures, whose mean the objective does not determine",
        weight=10.0,
    ),
    "dragan": Penalty(
        lambda s: {"gradient_penalty": unit_gradient_penalty(s.discriminator, _around(s))},
        "Kodali et al. 2017, On convergence and stability of GANs, section 2.3",
        weight=10.0,
    ),
    "lecam": Penalty(
        _lecam,
        "Tseng et al. 2021, Regularizing generative adversarial networks under limited data, eq. 3",
        weight=0.3,
        tracked=("real", "fake"),
    ),
}


def discriminator_penalty(name: str) -> Penalty | None:
    """Return a penalty by name; None for `none`. Raises ValueError for an unknown name."""
    if name != "none" and name not in PENALTIES:
        raise ValueError(f"The penalty {name!r} is unknown: choose one of none, {', '.join(PENALTIES)}.")
    return PENALTIES.get(name)


def weight_for(name: str, height: int, width: int, batch: int) -> float:
    """Return a penalty's default weight."""
    penalty = discriminator_penalty(name)
    if penalty is None or penalty.weight is None:
        return gamma_for(height, width, batch)
    return penalty.weight

"""Penalties on the discriminator, one small value each in `PENALTIES`: per sample and unreduced, [N].

A penalty looks at a `DiscriminatorContext` and names its parts. It draws its random numbers from the scene, so that slices and ranks
draw the same, and asks for generated pictures only if it needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

DiscriminatorFn = Callable[[Tensor], Tensor]  # x [kN,C,H,W] -> logits [kN]; labels are repeated as often


class Draw(Protocol):
    def __call__(self, name: str, *shape: int) -> Tensor:
        """Random numbers [N,*shape] of this name, the same whenever asked."""


class Usual(Protocol):
    """Exponential means over the run so far of what a penalty notes."""

    def note(self, name: str, values: Tensor) -> None: ...

    def mean(self, name: str) -> float: ...


@dataclass(frozen=True)
class DiscriminatorContext:
    """What a penalty on the discriminator may look at."""

    discriminator: DiscriminatorFn
    real: Callable[[], Tensor]  # pictures of the data, as the discriminator sees them; where `Penalty.at` names them, with a slope
    fake: Callable[[], Tensor]  # generated ones, detached
    real_logits: Callable[[], Tensor]  # what the discriminator says of them [N], through which gradients flow to it
    fake_logits: Callable[[], Tensor]
    normal: Draw
    uniform: Draw
    usual: Usual


@dataclass(frozen=True)
class Penalty:
    parts: Callable[[DiscriminatorContext], Mapping[str, Tensor]]  # named, each [N], to be summed
    source: str
    weight: float | None = None  # the paper's own; None: from resolution and batch, as `gamma_for` gives it
    scale: float = 1.0  # what the weight is multiplied with: a half where the paper writes gamma/2
    at: tuple[str, ...] = ()  # pictures, "real" or "fake", whose slope it takes from what the discriminator says of them
    keeps: tuple[str, ...] = field(default=())  # what it notes in `DiscriminatorContext.usual`
    estimated: bool = False  # by finite differences, for which two forward passes must agree (no dropout)


# ---- slopes ----------------------------------------------------------------------------------------------------------


def input_gradient(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """grad_x D(x), through which gradients flow on to the discriminator (double backward). [N,C,H,W] -> the same"""
    x = x.detach().requires_grad_(True)
    (found,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return found


def squared_gradient_norm(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2 by double backward. [N,C,H,W] -> [N]

    At real pictures it is R1, at generated ones R2 (Mescheder et al. 2018, "Which training methods for GANs do actually
    converge?", eq. 9). The gradient is taken in the network's precision, squared and summed in fp32.
    """
    return input_gradient(discriminator, x).float().square().sum((1, 2, 3))


def requires_input_grad(x: Tensor, wanted: bool) -> Tensor:
    """The pictures, where it is wanted with a gradient of what will be said of them."""
    return x.detach().requires_grad_() if wanted else x


def squared_gradient_norms(judged: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """`squared_gradient_norm` without a forward pass of its own: `requires_input_grad` pictures [N,C,H,W] and what was said of them [N] -> [N]

    One gradient of all logits: they may come from one forward pass, through which two gradients would go twice.
    """
    total = torch.stack([logits.sum() for _, logits in judged.values()]).sum()
    found = torch.autograd.grad(total, [x for x, _ in judged.values()], create_graph=True)
    return {name: x.float().square().sum((1, 2, 3)) for name, x in zip(judged, found, strict=True)}


def patch_penalty(name: str) -> tuple[str, ...]:
    """Where a penalty that a discriminator of patches can have takes its slopes. Raises ValueError for another."""
    slopes = {"none": (), **{known: penalty.at for known, penalty in PENALTIES.items() if penalty.at}}
    if name not in slopes:
        raise ValueError(f"The penalty {name!r} does not fit this recipe: say one of {', '.join(slopes)}.")
    return slopes[name]


def estimated_gradient_norm(discriminator: DiscriminatorFn, x: Tensor, noise: Tensor, sigma: float = 0.01) -> Tensor:
    """|D(x + sigma e) - D(x)|^2 / sigma^2 with e ~ N(0, I): |grad D|^2 in expectation as sigma -> 0. [N,C,H,W] -> [N]

    No double backward (Lin et al. 2025, "Diffusion adversarial post-training for one-step video generation", eq. 6,
    here divided by sigma^2 so that the weight means what it means for R1). One forward, so that every layer treats both
    halves alike; in fp32, because a small difference is divided by a small number.
    """
    x = x.detach().float()
    with torch.autocast(x.device.type, enabled=False):
        here, there = discriminator(torch.cat([x, x + sigma * noise])).float().chunk(2)
    return ((there - here) / sigma).square()


def unit_gradient_penalty(discriminator: DiscriminatorFn, x: Tensor) -> Tensor:
    """(|grad_x D(x)| - 1)^2. [N,C,H,W] -> [N]"""
    return ((squared_gradient_norm(discriminator, x) + 1e-12).sqrt() - 1).square()


def _between(context: DiscriminatorContext) -> Tensor:
    """Points on the lines from generated to real pictures."""
    real, fake = context.real(), context.fake()
    return torch.lerp(fake, real, context.uniform("between")[:, None, None, None])


def _around(context: DiscriminatorContext) -> Tensor:
    """Real pictures with noise N(0, c I), where c is a quarter of the variance that pixels in [-1,1] usually have."""
    real = context.real()
    return real + 0.25 * context.normal("around", *real.shape[1:])


def _lecam(context: DiscriminatorContext) -> dict[str, Tensor]:
    """Eq. 3 as printed; the authors' code lets logits alone that lie beyond the other kind's mean."""
    real, fake = context.real_logits(), context.fake_logits()
    loss = (real - context.usual.mean("fake")).square() + (fake - context.usual.mean("real")).square()
    context.usual.note("real", real.detach())
    context.usual.note("fake", fake.detach())
    return {"lecam": loss}


def _estimated(context: DiscriminatorContext, where: str) -> Tensor:
    x = context.real() if where == "real" else context.fake()
    return estimated_gradient_norm(context.discriminator, x, context.normal(f"near {where}", *x.shape[1:]))


def gamma_for(height: int, width: int, batch: int) -> float:
    """The weight of R1 from resolution and batch: 0.0002 * pixels / batch.

    Karras et al. 2020, "Training generative adversarial networks with limited data", as the configuration `auto` of their
    code states it: gamma grows with the pixels, over which a slope is summed, and falls with the batch.
    """
    return 0.0002 * height * width / batch


MESCHEDER = "Mescheder et al. 2018, Which training methods for GANs do actually converge?, eq. 9"
LIN = "Lin et al. 2025, Diffusion adversarial post-training, eq. 6: R1 and R2 without double backward"


def _slopes(*at: str) -> Penalty:
    def parts(context: DiscriminatorContext) -> dict[str, Tensor]:
        judged = {}
        if "real" in at:
            judged["r1"] = context.real(), context.real_logits()
        if "fake" in at:
            judged["r2"] = context.fake(), context.fake_logits()
        return squared_gradient_norms(judged)

    return Penalty(parts, MESCHEDER, scale=0.5, at=at)


PENALTIES: dict[str, Penalty] = {
    "r1": _slopes("real"),
    "r2": _slopes("fake"),
    "r1r2": _slopes("real", "fake"),
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
        "Karras et al. 2018, Progressive growing of GANs, appendix A.1: 10 times the slope and 0.001 times the square of "
        "the logits of data, which the objective leaves free to wander",
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
        keeps=("real", "fake"),
    ),
}


def discriminator_penalty(name: str) -> Penalty | None:
    """The penalty of a name; None for `none`. Raises ValueError for an unknown one."""
    if name != "none" and name not in PENALTIES:
        raise ValueError(f"The penalty {name!r} is not known: say one of none, {', '.join(PENALTIES)}.")
    return PENALTIES.get(name)


def weight_for(name: str, height: int, width: int, batch: int) -> float:
    """What a penalty weighs unless a person says otherwise."""
    penalty = discriminator_penalty(name)
    if penalty is None or penalty.weight is None:
        return gamma_for(height, width, batch)
    return penalty.weight

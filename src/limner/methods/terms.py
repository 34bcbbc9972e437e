"""The parts of a GAN that are chosen separately: loss terms of each player, augmentation, and latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core import latents
from limner.losses.penalties import Penalty, discriminator_penalty
from limner.losses.regularizers import Regularizer, generator_regularizer
from limner.methods.memory import Adaptive
from limner.methods.phase import Batch
from limner.networks import ada, diffaugment
from limner.networks.contracts import ProgressiveNet, StyleBased

TensorFn = Callable[[], Tensor]  # computes its tensor when called, or returns a computed one


@dataclass(frozen=True)
class PenaltyTerm:
    """A penalty on the discriminator.

    every: discriminator steps between two evaluations, each weighted `every` times as much (Karras et al. 2020, StyleGAN2,
    appendix B, "lazy regularization"; equal in expectation). Above 1 it has its own phase.
    """

    penalty: Penalty
    weight: float
    every: int = 1

    @classmethod
    def of(cls, name: str, weight: float, every: int = 1) -> PenaltyTerm | None:
        """Return the penalty of a name; None for `none`. Raises ValueError for an unknown one."""
        found = discriminator_penalty(name)
        return None if found is None else cls(found, weight, every)


@dataclass(frozen=True)
class RegularizerTerm:
    """A regularizer of the generator, evaluated in every `every`-th of its steps and weighted as much more."""

    regularizer: Regularizer
    weight: float
    every: int = 1

    @classmethod
    def of(cls, name: str, weight: float | None = None, every: int = 1) -> RegularizerTerm | None:
        """Return the regularizer of a name, by default with the weight of its paper; None for `none`. Raises ValueError for an unknown one."""
        found = generator_regularizer(name)
        return None if found is None else cls(found, found.weight if weight is None else weight, every)


@dataclass(frozen=True)
class ClassifierTerm:
    """An auxiliary classifier on the discriminator's last features (Odena et al. 2017, eq. 2-3).

    head: features [N,F] -> logits [N,K]; updated with the discriminator, which is then unconditional. The class loss of the
    discriminator uses real pictures only, where the paper also uses generated ones: a classifier trained on those soon learns
    artifacts that real pictures do not have, and rewards the generator for them.
    """

    head: nn.Module
    weight: float = 1.0

    def loss(self, features: Tensor, y: Tensor | None) -> Tensor:
        """Return the cross-entropy [N] of features [N,F] and classes [N]."""
        assert y is not None, "an auxiliary classifier needs labels"
        return F.cross_entropy(self.head(features), y, reduction="none")


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of real and generated pictures before the discriminator.

    policy: one of `networks.diffaugment.POLICIES`. controller: adaptive augmentation (ADA) instead of the policy. flip: mirror
    half of the real pictures.
    """

    policy: str = "none"
    controller: Adaptive | None = None
    flip: bool = False

    def apply(self, x: Tensor, batch: Batch, name: str, extra: float = 0.0) -> Tensor:
        """Augment pictures [N,C,H,W]. extra: the probability of additional ADA transformations."""
        if self.controller:
            return ada.augment(x, batch.uniform(name, ada.DRAWS), self.controller.p)
        if self.policy != "none":  # otherwise no random numbers are drawn
            x = diffaugment.augment(x, batch.uniform(name, diffaugment.DRAWS), self.policy)
        if extra:
            x = ada.augment(x, batch.uniform(f"{name} more", ada.DRAWS), extra)
        return x

    def real(self, batch: Batch, generator: nn.Module, extra: float = 0.0) -> Tensor:
        """Return the batch's real pictures, augmented, at the current resolution of the generator."""
        x = batch["image"]
        if self.flip:
            x = diffaugment.flip(x, batch.uniform("flip"))
        if isinstance(generator, ProgressiveNet):
            x = generator.at_level(x)
        return self.apply(x, batch, "augment real", extra)


@dataclass(frozen=True)
class LatentSource:
    """The latents that a generator is trained on.

    distribution: one of `core.latents`. mixing: probability of style mixing (Karras et al. 2019, section 3.1), for
    style-based generators.
    """

    distribution: str = "normal"
    mixing: float = 0.0

    def __post_init__(self) -> None:
        latents.validate_name(self.distribution)

    def draw(self, batch: Batch, name: str, z_size: int) -> Tensor:
        """Return latents [n,Z]; the same for the same name."""
        return latents.transform(batch.normal(name, z_size), self.distribution)

    def generate(self, generator: nn.Module, batch: Batch, y: Tensor | None) -> Tensor:
        """Return generated pictures [n,C,H,W] of the latents "z", a fraction `mixing` of them with the styles of two latents."""
        z_size = cast(int, generator.z_size)
        z = self.draw(batch, "z", z_size)
        if not self.mixing:
            return generator(z, y)
        assert isinstance(generator, StyleBased)
        one = generator.mapping(z, y)
        two = generator.mapping(self.draw(batch, "mixed z", z_size), y)
        crossing = 1 + batch.integers("crossing", generator.layers - 1)
        crossing = torch.where(batch.uniform("mixing") < self.mixing, crossing, generator.layers)
        second = torch.arange(generator.layers, device=z.device) >= crossing[:, None]  # [N,L]
        return generator.synthesis(torch.where(second[:, :, None], two[:, None], one[:, None]))

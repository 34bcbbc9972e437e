"""GANs from flat options, for tests: the names of penalties and terms instead of their values."""

from __future__ import annotations

from typing import Any

from torch import nn

from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.methods.memory import Adaptive
from limner.methods.terms import Augmentation, ClassifierTerm, LatentSource, PenaltyTerm, RegularizerTerm


def gan_of(generator: nn.Module, discriminator: nn.Module, objective_name: str = "hinge", **o: Any) -> GAN:
    """A GAN with the terms that the options name; weights are those of the papers where no other is given."""
    policy, head = o.pop("augmentation", "none"), o.pop("classifier", None)
    controller = o.pop("controller", None) or (Adaptive() if policy == "ada" else None)
    terms: dict[str, Any] = {
        "penalty": PenaltyTerm.of(o.pop("penalty", "none"), o.pop("gamma", 0.0), o.pop("penalty_every", 1)),
        "regularizer": RegularizerTerm.of(
            o.pop("regularizer", "none"), o.pop("regularizer_weight", None), o.pop("regularizer_every", 1)
        ),
        "classifier": ClassifierTerm(head, o.pop("classifier_weight", 1.0)) if head else None,
        "augmentation": Augmentation(policy, controller if policy == "ada" else None, o.pop("flip", False)),
        "latent": LatentSource(o.pop("noise", "normal"), o.pop("mixing", 0.0)),
    }
    return GAN(generator, discriminator, objective(objective_name), **terms, **o)

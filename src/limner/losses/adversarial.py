"""Adversarial objectives by name, in `OBJECTIVES`: pairs of losses of logits.

Losses are per sample and unreduced: logits [N] -> [N]. `real` are the discriminator's logits of real pictures, `fake` those of
generated pictures. A new objective is a new entry of the dict, or an entry point of an installed package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from limner.core import distributed
from limner.core.plugins import entries, entry

Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """The losses of discriminator and generator, each minimized by its network. (real [N], fake [N]) -> [N]"""

    discriminator: Pair
    generator: Pair
    source: str
    sees_real: bool = False  # whether the generator's loss depends on real logits
    features: bool = False  # whether the generator's loss is of the discriminator's last features [N,F] instead of logits
    middle: float | None = 0.0  # the logit of an undecided discriminator; None where only differences matter


def global_mean(x: Tensor) -> Tensor:
    """Return the mean over the rows of all ranks, differentiable on each. [N,...] -> [...]"""
    total = distributed.all_reduce_sum(x.sum(0))
    return total / distributed.all_reduce_sum(x.new_tensor(float(len(x))))


def _average_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(global_mean(fake) - real) + F.softplus(fake - global_mean(real))


def _average_generator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(global_mean(real) - fake) + F.softplus(real - global_mean(fake))


def _match(real: Tensor, fake: Tensor) -> Tensor:
    return (global_mean(fake) - global_mean(real)).square().sum().expand(len(fake))


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(
        discriminator=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=lambda real, fake: -F.softplus(fake),
        source="Goodfellow et al. 2014, eq. 1: the generator minimizes log(1 - D(G(z)))",
    ),
    "non-saturating": Objective(
        discriminator=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=lambda real, fake: F.softplus(-fake),
        source="Goodfellow et al. 2014, section 3: the generator maximizes log D(G(z))",
    ),
    "smoothed": Objective(
        discriminator=lambda real, fake: 0.9 * F.softplus(-real) + 0.1 * F.softplus(real) + F.softplus(fake),
        generator=lambda real, fake: F.softplus(-fake),
        source="Salimans et al. 2016, Improved techniques, section 3.4: targets 0.9 for real pictures, 0 for generated ones",
    ),
    "least-squares": Objective(
        discriminator=lambda real, fake: 0.5 * (real - 1).square() + 0.5 * fake.square(),
        generator=lambda real, fake: 0.5 * (fake - 1).square(),
        source="Mao et al. 2017, Least squares GANs, eq. 9",
        middle=0.5,
    ),
    "wasserstein": Objective(
        discriminator=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
        source="Arjovsky et al. 2017, Wasserstein GAN, eq. 2 (needs a penalty that keeps the discriminator Lipschitz)",
        middle=None,
    ),
    "hinge": Objective(
        discriminator=lambda real, fake: F.relu(1 - real) + F.relu(1 + fake),
        generator=lambda real, fake: -fake,
        source="Lim & Ye 2017, Geometric GAN; Miyato et al. 2018, eq. 16-17",
    ),
    "relativistic": Objective(
        discriminator=lambda real, fake: F.softplus(fake - real),
        generator=lambda real, fake: F.softplus(real - fake),
        source="Jolicoeur-Martineau 2019, The relativistic discriminator, section 4; Huang et al. 2024, eq. 2",
        sees_real=True,
        middle=None,
    ),
    "relativistic-average": Objective(
        discriminator=_average_discriminator,
        generator=_average_generator,
        source="Jolicoeur-Martineau 2019, The relativistic discriminator, eq. 5-6 (means over the micro-batch of all ranks)",
        sees_real=True,
        middle=None,
    ),
    "feature-matching": Objective(
        discriminator=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=_match,
        source="Salimans et al. 2016, Improved techniques, section 3.1: the discriminator's mean features should agree",
        sees_real=True,
        features=True,
    ),
}


PATCH_OBJECTIVES = ("non-saturating", "least-squares", "hinge", "relativistic")  # for patch discriminators, whose logits are maps


def objective_names() -> tuple[str, ...]:
    """Every objective: the built-in ones, then those of installed packages."""
    return (*OBJECTIVES, *(added.name for added in entries("limner.objectives")))


def objective(name: str, among: Collection[str] | None = None) -> Objective:
    """The objective of a name: a built-in one, or what an installed package adds by the entry point `limner.objectives`.

    among: the objectives that fit (default: all). Raises ValueError for one that is unknown or not among them.
    """
    known = objective_names()
    if name not in (known if among is None else among):
        problem = "does not fit this recipe's discriminator" if name in known else "is unknown"
        raise ValueError(f"The objective {name!r} {problem}: choose one of {', '.join(known if among is None else among)}.")
    added = None if name in OBJECTIVES else entry("limner.objectives", name)
    return added.load(Objective) if added else OBJECTIVES[name]

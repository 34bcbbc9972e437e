"""Objectives of the two-player game: pairs of functions of logits, one value each in `OBJECTIVES`.

Losses are per sample and unreduced: logits [N] -> [N]. `real` are the critic's logits of data, `fake` of generated
pictures. A new objective is one more value in the dict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from limner.core import dist

Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """critic(real, fake) and generator(real, fake), each minimised by its player. [N], [N] -> [N]"""

    critic: Pair
    generator: Pair
    source: str
    sees_real: bool = False  # whether the generator's loss looks at real logits too
    features: bool = False  # whether the generator's loss is of the critic's last features [N,F] instead of logits
    middle: float | None = 0.0  # the logit of a critic that cannot tell; None where only differences mean something


def global_mean(x: Tensor) -> Tensor:
    """The mean over the rows of all ranks, through which gradients flow back to each. [N,...] -> [...]"""
    total = dist.sum_with_gradient(x.sum(0))
    return total / dist.sum_with_gradient(x.new_tensor(float(len(x))))


def _average_critic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(global_mean(fake) - real) + F.softplus(fake - global_mean(real))


def _average_generator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(global_mean(real) - fake) + F.softplus(real - global_mean(fake))


def _match(real: Tensor, fake: Tensor) -> Tensor:
    return (global_mean(fake) - global_mean(real)).square().sum().expand(len(fake))


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(
        critic=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=lambda real, fake: -F.softplus(fake),
        source="Goodfellow et al. 2014, eq. 1: the generator minimises log(1 - D(G(z)))",
    ),
    "non-saturating": Objective(
        critic=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=lambda real, fake: F.softplus(-fake),
        source="Goodfellow et al. 2014, section 3: the generator maximises log D(G(z))",
    ),
    "smoothed": Objective(
        critic=lambda real, fake: 0.9 * F.softplus(-real) + 0.1 * F.softplus(real) + F.softplus(fake),
        generator=lambda real, fake: F.softplus(-fake),
        source="Salimans et al. 2016, Improved techniques, section 3.4: real pictures are worth 0.9, generated ones 0",
    ),
    "least-squares": Objective(
        critic=lambda real, fake: 0.5 * (real - 1).square() + 0.5 * fake.square(),
        generator=lambda real, fake: 0.5 * (fake - 1).square(),
        source="Mao et al. 2017, Least squares GANs, eq. 9",
        middle=0.5,
    ),
    "wasserstein": Objective(
        critic=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
        source="Arjovsky et al. 2017, Wasserstein GAN, eq. 2 (needs a penalty that keeps the critic Lipschitz)",
        middle=None,
    ),
    "hinge": Objective(
        critic=lambda real, fake: F.relu(1 - real) + F.relu(1 + fake),
        generator=lambda real, fake: -fake,
        source="Lim & Ye 2017, Geometric GAN; Miyato et al. 2018, eq. 16-17",
    ),
    "relativistic": Objective(
        critic=lambda real, fake: F.softplus(fake - real),
        generator=lambda real, fake: F.softplus(real - fake),
        source="Jolicoeur-Martineau 2019, The relativistic discriminator, section 4; Huang et al. 2024, eq. 2",
        sees_real=True,
        middle=None,
    ),
    "relativistic-average": Objective(
        critic=_average_critic,
        generator=_average_generator,
        source="Jolicoeur-Martineau 2019, The relativistic discriminator, eq. 5-6 (means are of a slice or the batch)",
        sees_real=True,
        middle=None,
    ),
    "feature-matching": Objective(
        critic=lambda real, fake: F.softplus(-real) + F.softplus(fake),
        generator=_match,
        source="Salimans et al. 2016, Improved techniques, section 3.1: the critic's mean features should agree",
        sees_real=True,
        features=True,
    ),
}


PATCHWISE = ("non-saturating", "least-squares", "hinge", "relativistic")  # for critics of patches, whose logits are maps


def objective(name: str, among: Collection[str] = OBJECTIVES) -> Objective:
    """The objective of a name. Raises ValueError for one that is unknown or not `among` those that fit."""
    if name not in among:
        problem = "does not fit this recipe's critic" if name in OBJECTIVES else "is not known"
        raise ValueError(f"The objective {name!r} {problem}: say one of {', '.join(among)}.")
    return OBJECTIVES[name]

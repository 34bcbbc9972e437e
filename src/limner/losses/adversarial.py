"""Objectives of the two-player game: pairs of functions of logits, one value each in `OBJECTIVES`.

Losses are per sample and unreduced: logits [N] -> [N]. `real` are the critic's logits of data, `fake` of generated
pictures. A new objective is one more value in the dict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """critic(real, fake) and generator(real, fake), each minimised by its player. [N], [N] -> [N]"""

    critic: Pair
    generator: Pair
    source: str
    sees_real: bool = False  # whether the generator's loss looks at real logits too


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
    "least-squares": Objective(
        critic=lambda real, fake: 0.5 * (real - 1).square() + 0.5 * fake.square(),
        generator=lambda real, fake: 0.5 * (fake - 1).square(),
        source="Mao et al. 2017, Least squares GANs, eq. 9",
    ),
    "wasserstein": Objective(
        critic=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
        source="Arjovsky et al. 2017, Wasserstein GAN, eq. 2 (needs a penalty that keeps the critic Lipschitz)",
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
    ),
}


def objective(name: str) -> Objective:
    """The objective of a name. Raises ValueError for an unknown one."""
    if name not in OBJECTIVES:
        raise ValueError(f"The objective {name!r} is not known: say one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]

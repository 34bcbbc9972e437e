"""Simulated human studies: raters and pictures with random effects, of which the true error rate is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.apps.study.intervals import Design


@dataclass(frozen=True)
class World:
    """The population. Log-odds of an error: mean + the rater's skill -/+ the rater's bias toward "fake" + the picture's.

    skill, bias, difficulty: standard deviations of the three random effects.
    """

    fake: float = 0.0
    real: float = -0.5
    skill: float = 0.5
    bias: float = 0.5
    difficulty: float = 0.8

    @property
    def errors(self) -> tuple[float, float]:
        """The true error on fakes and on reals: the mean of the logistic function of a normal number, by quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        spread = np.sqrt(self.skill**2 + self.bias**2 + self.difficulty**2)
        fake, real = (float((weights * logistic(mean + spread * nodes)).sum() / weights.sum()) for mean in (self.fake, self.real))
        return fake, real


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def simulate(
    world: World, studies: int, raters: int, pictures: int, rng: np.random.Generator, same: bool = False
) -> tuple[np.ndarray, Design]:
    """Return whether each answer is wrong, bool [S,N], and who judged what; stratum 0 holds fakes and 1 reals.

    pictures: of each kind that a rater judges. same: all raters judge the same pictures, otherwise each has their own.
    """
    skill = rng.normal(0, world.skill, (studies, raters, 1, 1))
    bias = rng.normal(0, world.bias, (studies, raters, 1, 1)) * np.array([1, -1])[:, None]
    picture = rng.normal(0, world.difficulty, (studies, 1 if same else raters, 2, pictures))
    mean = np.array([world.fake, world.real])[:, None]
    wrong = rng.random((studies, raters, 2, pictures)) < logistic(mean + skill + bias + picture)
    who, kind, which = (part.reshape(-1) for part in np.indices((raters, 2, pictures)))
    number = kind * pictures + which + (0 if same else 2 * pictures * who)
    return wrong.reshape(studies, -1), Design(who, number, kind)

"""Confidence intervals of human studies: closed forms, and the coverage of 10,000 simulated studies."""

from __future__ import annotations

import numpy as np
import pytest

from limner.apps.study.intervals import Design, crossed, t_quantile, wilson
from study_simulation import World, simulate

STUDIES = 10_000


def test_wilson_solves_its_equation() -> None:
    """The bounds are the rates p at which the observed rate is z standard errors away (Wilson 1927)."""
    rate, n = np.array([0.0, 0.1, 0.5, 1.0]), 40
    low, high = wilson(rate, n)
    for bound, open_end in ((low, rate == 0), (high, rate == 1)):
        away = np.abs(rate - bound) / np.sqrt(np.maximum(bound * (1 - bound), 1e-12) / n)
        assert np.allclose(away[~open_end], 1.959964, atol=1e-5)
    assert low[0] == 0 and high[-1] == 1 and high[0] == pytest.approx(1.959964**2 / (40 + 1.959964**2))


def test_quantiles_of_student() -> None:
    stats = pytest.importorskip("scipy.stats")
    freedom = np.array([1, 1.5, 2, 3, 4.7, 9, 29.3, 100, 399])
    assert np.allclose(t_quantile(freedom), stats.t.ppf(0.975, freedom), rtol=1e-5)
    assert np.allclose(t_quantile(freedom, 0.8), stats.t.ppf(0.9, freedom), rtol=1e-5)


def test_with_own_pictures_the_variance_is_that_of_the_raters_means() -> None:
    """With pictures of their own, raters of equal numbers of answers are a simple sample: s^2/R, with R-1 degrees of freedom."""
    answers, design = simulate(World(), 1, 6, 20, np.random.default_rng(0))
    found = crossed(answers, design)
    means = answers[0].reshape(6, -1).mean(1)
    rate, variance = means.mean(), means.var(ddof=1) / 6
    low, high = wilson(rate, rate * (1 - rate) / variance, t_quantile(np.array(5.0)))
    assert found.rate[0] == pytest.approx(rate) and found.low[0] == pytest.approx(low) and found.high[0] == pytest.approx(high)


def test_shared_pictures_widen_the_interval_and_order_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    answers, shared = simulate(World(skill=0.1, bias=0.1, difficulty=2), 1, 12, 20, rng, same=True)
    own = Design(shared.raters, np.arange(len(shared.raters)), shared.strata)
    wide, narrow = crossed(answers, shared), crossed(answers, own)
    assert wide.high[0] - wide.low[0] > 1.3 * (narrow.high[0] - narrow.low[0])
    order = rng.permutation(answers.shape[1])
    again = crossed(answers[:, order], Design.of(shared.raters[order], shared.pictures[order] + 7, shared.strata[order]))
    assert again.low == pytest.approx(wide.low) and again.high == pytest.approx(wide.high)


def test_equal_answers_and_one_rater() -> None:
    none = crossed(np.zeros((1, 40)), Design.of(np.arange(40) // 10, np.arange(40)))
    assert none.rate[0] == none.low[0] == 0 and 0.05 < none.high[0] < 0.3
    with pytest.raises(ValueError, match="at least two"):
        crossed(np.zeros((1, 4)), Design.of(np.zeros(4), np.arange(4)))


def test_unequal_numbers_of_answers() -> None:
    """A rater who stopped early counts with the answers given, and fakes count as much as reals."""
    raters = np.array([0] * 40 + [1] * 40 + [2] * 6)
    kinds = np.array([0, 1] * 20 + [0, 1] * 20 + [0] * 6)
    answers = np.zeros((1, 86))
    answers[0, kinds == 0] = 1
    assert crossed(answers, Design.of(raters, np.arange(86), kinds)).rate[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("mean", "n"), [(0.0, 100), (-1.0, 100), (-2.0, 100), (0.0, 20)])
def test_coverage_of_wilson_for_one_rater(mean: float, n: int) -> None:
    """One rater and pictures that each are judged once: the answers are independent, whatever the pictures' difficulty.

    The rate is drawn anew for each study: for one fixed rate, the coverage of any interval of counts oscillates (Brown, Cai and
    DasGupta 2001).
    """
    rng = np.random.default_rng(2)
    rates = 1 / (1 + np.exp(-(mean + rng.normal(0, 0.5, STUDIES))))
    low, high = wilson(rng.binomial(n, rates) / n, n)
    assert 0.94 <= ((low <= rates) & (rates <= high)).mean() <= 0.96


SCENARIOS = [
    (World(), 5, False), (World(), 10, False), (World(), 30, False),                            # an error of 45 %
    (World(-1.5, -1.5), 10, False),                                                              # 23 %
    (World(skill=0, bias=0, difficulty=0), 10, False),                                           # all raters alike
    (World(skill=1, difficulty=1), 10, False),                                                   # very different raters
    (World(), 10, True), (World(-1.5, -1.5, difficulty=1.2), 20, True),      # all judge the same pictures
]  # fmt: skip


@pytest.mark.parametrize(("world", "raters", "same"), SCENARIOS)
def test_coverage_over_raters(world: World, raters: int, same: bool) -> None:
    rng, covered = np.random.default_rng(3), []
    truth = sum(world.errors) / 2
    for _ in range(20):
        answers, design = simulate(world, STUDIES // 20, raters, 25, rng, same)
        found = crossed(answers, design)
        covered.append((found.low <= truth) & (truth <= found.high))
    assert 0.94 <= np.mean(covered) <= 0.96, np.mean(covered)


def test_coverage_of_the_error_on_fakes_and_of_win_rates() -> None:
    """One stratum, of which raters' biases do not cancel: an error on fakes, or the share of pairs that one run wins."""
    rng, covered, world = np.random.default_rng(4), [], World(fake=-0.4)
    for _ in range(20):
        answers, design = simulate(world, STUDIES // 20, 10, 25, rng)
        fakes = design.strata == 0
        found = crossed(answers[:, fakes], Design.of(design.raters[fakes], design.pictures[fakes]))
        covered.append((found.low <= world.errors[0]) & (world.errors[0] <= found.high))
    assert 0.94 <= np.mean(covered) <= 0.96

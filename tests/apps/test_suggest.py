"""The choice of pictures to label: uncertain ones, different from each other, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from limner.apps.suggest import informative


def predictions(n: int, k: int, f: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(k), n), rng.normal(size=(n, f))


def test_it_is_k_means_plus_plus_on_the_gradients_of_the_last_layer() -> None:
    p, f = predictions(60, 4, 5)
    gradients = np.einsum("nk,nf->nkf", p - np.eye(4)[p.argmax(1)], f).reshape(60, -1)  # eq. 1, formed
    rng, chosen = np.random.default_rng(7), [int(np.square(gradients).sum(1).argmax())]
    while len(chosen) < 12:
        distance = np.square(gradients[:, None] - [*gradients[chosen], np.zeros(20)]).sum(2).min(1)
        distance[chosen] = 0
        chosen.append(int(rng.choice(60, p=distance / distance.sum())))
    assert informative(p, f, 12, seed=7) == chosen == informative(p, f, 12, seed=7)
    assert informative(p, f, 12, seed=8) != chosen


def test_sure_pictures_are_passed_over_and_copies_are_chosen_once() -> None:
    rng = np.random.default_rng(0)
    sure = np.tile([0.99998, 0.00001, 0.00001], (500, 1))
    unsure = rng.dirichlet([5, 5, 5], 6)
    p = np.concatenate([sure, np.repeat(unsure, 20, 0)])
    f = np.concatenate([rng.normal(size=(500, 8)), np.repeat(rng.normal(size=(6, 8)), 20, 0)])
    chosen = informative(p, f, 6)
    assert sorted((row - 500) // 20 for row in chosen) == [0, 1, 2, 3, 4, 5]  # one of each group of copies


def test_groups_are_covered_better_than_by_uncertainty_alone() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(10), [200, *[10] * 9])
    f = 6 * rng.normal(size=(10, 16))[group] + rng.normal(size=(len(group), 16))
    p = np.stack([c := rng.uniform(0.5, 0.8, len(group)), 1 - c], 1)
    margin = np.argsort(c)[:20]
    covered = np.mean([len(set(group[informative(p, f, 20, seed)])) for seed in range(5)])
    assert covered >= 8 > len(set(group[margin]))


@pytest.mark.parametrize(("n", "wanted"), [(0, 3), (1, 5), (4, 9)])
def test_few_pictures_and_equal_ones(n: int, wanted: int) -> None:
    p, f = np.tile([0.6, 0.4], (n, 1)), np.ones((n, 2))
    assert informative(p, f, wanted) == list(range(n))

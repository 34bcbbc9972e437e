"""Precision, recall, density, coverage, diversity and modes against brute force, and what each must notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limner.evaluation import neighbors
from limner.evaluation import precision_recall as module
from limner.evaluation.diversity import kmeans, mean_distance, modes, modes_per_class, vendi
from limner.evaluation.precision_recall import density_coverage, precision_recall


def brute(fake: np.ndarray, real: np.ndarray, k: int) -> dict[str, float]:
    """The four definitions, one comparison at a time."""
    def radius(rows: np.ndarray) -> np.ndarray:
        d = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        return np.sort(d, axis=1)[:, k]  # place 0 is the row itself

    cross = np.linalg.norm(fake[:, None] - real[None], axis=2)  # [N,M]
    in_real, in_fake = cross <= radius(real)[None], cross <= radius(fake)[:, None]
    return {
        "precision": in_real.any(1).mean(), "recall": in_fake.any(0).mean(),
        "density": in_real.sum(1).mean() / k, "coverage": in_real.any(0).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_agree_with_brute_force_whatever_the_block(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(k)
    fake, real = random.normal(size=(70, 5)) * 0.8 + 100, random.normal(size=(90, 5)) + 100
    truth = brute(fake, real, k)
    for block in (1024, 13):
        monkeypatch.setattr(neighbors, "BLOCK", block)
        precision, recall = precision_recall(fake, real, k)
        density, coverage = density_coverage(fake[::-1], np.array_split(real, 4), k)
        assert (precision, recall) == pytest.approx((truth["precision"], truth["recall"]))
        assert (density, coverage) == pytest.approx((truth["density"], truth["coverage"]))


def test_equal_sets_and_duplicates() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert precision_recall(x, x) == (1, 1)
    twice = np.repeat(x[:10], 6, axis=0)  # every radius is 0: only equal rows lie inside
    assert precision_recall(twice, twice) == (1, 1)
    assert precision_recall(twice + 1, twice) == (0, 0)


def test_what_each_notices() -> None:
    random = np.random.default_rng(0)
    centers = random.normal(size=(4, 6)) * 10

    def draw(classes: list[int]) -> np.ndarray:
        return np.concatenate([centers[c] + random.normal(size=(80, 6)) for c in classes])

    real, fresh, lost = draw([0, 1, 2, 3]), draw([0, 1, 2, 3]), draw([0, 0, 1, 1])
    noisy = fresh + random.normal(size=fresh.shape) * 4
    p, r = precision_recall(fresh, real)
    d, c = density_coverage(fresh, real)
    assert min(p, r, c) > 0.8 and d == pytest.approx(1, abs=0.15)
    assert precision_recall(lost, real)[0] > 0.85 and precision_recall(lost, real)[1] < 0.6
    assert density_coverage(lost, real)[1] < 0.6
    assert precision_recall(noisy, real)[0] < 0.5 and density_coverage(noisy, real)[0] < 0.5
    few_again = np.repeat(fresh[::20], 20, axis=0)
    assert density_coverage(few_again, real)[1] < 0.5 * c
    assert modes(fresh, real, k=4)[0] == 4 and modes(lost, real, k=4)[0] == 2
    assert modes(fresh, real, k=4)[2] == pytest.approx(1) and modes(lost, real, k=4)[2] == pytest.approx(0.5)
    assert mean_distance(few_again) < 1.05 * mean_distance(fresh) and vendi(lost) < vendi(real)


def test_diversity_has_its_closed_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4))
    d = np.linalg.norm(x[:, None] - x[None], axis=2)
    monkeypatch.setattr(neighbors, "BLOCK", 7)
    assert mean_distance(x) == pytest.approx(d.sum() / (40 * 39), rel=1e-6)
    assert vendi(np.repeat(np.eye(6), 5, axis=0)) == pytest.approx(6)
    assert vendi(np.ones((30, 6))) == pytest.approx(1)
    assert vendi(iter([np.eye(6), np.eye(6)])) == pytest.approx(6)  # chunks that can be read only once
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    l = np.linalg.eigvalsh(u @ u.T / 40)
    l = l[l > 1e-12]
    assert vendi(x) == pytest.approx(np.exp(-(l * np.log(l)).sum()), rel=1e-9)
    wide = np.random.default_rng(1).normal(size=(600, 700))
    assert vendi(wide) == pytest.approx(vendi(wide[::-1]), rel=1e-9)


def test_modes_per_class_says_which_class_lacks_some() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=random)
    labels = torch.arange(200) % 2
    x[labels == 1] += torch.where(torch.rand(100, 1, generator=random) < 0.5, 20.0, -20.0)
    lost = (labels == 0) | (x[:, 0] > 0)
    found = modes_per_class(x[lost], labels[lost], x, labels, k=2)
    assert found[0][:2] == (2, 2) and found[1][:2] == (1, 2)
    assert modes_per_class(x[labels == 0], labels[labels == 0], x, labels, k=2)[1] == (0, 2, 0.0)


def test_kmeans_finds_separate_groups_and_bears_duplicates() -> None:
    centers = torch.tensor([[0.0, 0], [50, 0], [0, 50]], dtype=torch.float64)
    rows = centers.repeat(30, 1) + torch.randn(90, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = kmeans(rows, 3)
    assert torch.cdist(centers, found).min(1).values.max() < 1
    assert torch.equal(kmeans(torch.ones(9, 2), 3), torch.ones(3, 2))


def test_too_few_rows_are_told() -> None:
    with pytest.raises(ValueError, match="give at least 4"):
        precision_recall(np.ones((3, 2)), np.ones((9, 2)))
    assert module.precision_recall(np.ones((4, 2)), np.ones((4, 2))) == (1, 1)

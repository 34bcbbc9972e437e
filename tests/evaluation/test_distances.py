"""KID, MMD, sliced Wasserstein and the Inception score against their definitions, and what each must notice."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from limner.evaluation import distances
from limner.evaluation.distances import gaussian_mmd, inception_score, polynomial_mmd, sliced_wasserstein


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(130, 12)), random.normal(size=(170, 12)) * 1.1 + 0.2


def kid_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    def k(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return (p @ q.T / p.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    return (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * k(x, y).mean()


def test_kid_is_its_definition_whatever_the_block(sets: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sets
    whole = polynomial_mmd(x, y)
    assert whole.value == pytest.approx(kid_by_definition(x, y), rel=1e-10)
    monkeypatch.setattr(distances, "BLOCK", 37)
    assert polynomial_mmd(x[::-1].copy(), np.array_split(y, 5)).value == pytest.approx(whole.value, rel=1e-10)
    assert polynomial_mmd(x, y).error == pytest.approx(whole.error, rel=1e-8)


def test_kid_agrees_with_torchmetrics() -> None:
    class Flat(torch.nn.Module):
        num_features = 48

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.double().flatten(1) / 255

    random = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (90, 3, 4, 4), generator=random, dtype=torch.uint8)
    fake = torch.randint(0, 200, (90, 3, 4, 4), generator=random, dtype=torch.uint8)
    theirs = KernelInceptionDistance(feature=Flat(), subsets=2, subset_size=90).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = polynomial_mmd(Flat()(fake), Flat()(real), subset=90, subsets=2)
    assert ours.value == pytest.approx(float(theirs.compute()[0]), rel=1e-8)
    assert ours.value == pytest.approx(polynomial_mmd(Flat()(fake), Flat()(real)).value, rel=1e-10)


def test_kid_error_is_the_spread_over_repeated_samples() -> None:
    """For equal and for different distributions the stated error is that of many independent draws, within a third."""
    random = np.random.default_rng(1)
    for shift in (0.0, 0.5):
        runs = [polynomial_mmd(random.normal(size=(100, 6)), random.normal(size=(150, 6)) + shift) for _ in range(150)]
        spread = np.std([r.value for r in runs])
        assert np.mean([r.error for r in runs]) == pytest.approx(spread, rel=0.33)
        if shift == 0:
            assert abs(np.mean([r.value for r in runs])) < 3 * spread / 150**0.5  # unbiased


def test_mmd_is_its_definition(sets: tuple) -> None:
    x, y = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in sets)

    def k(p: np.ndarray, q: np.ndarray) -> float:
        return np.exp(-((p[:, None] - q) ** 2).sum(2) / 200).mean()

    assert gaussian_mmd(*sets) == pytest.approx(1000 * (k(x, x) + k(y, y) - 2 * k(x, y)), rel=1e-8)
    assert gaussian_mmd(sets[0], sets[0]) == pytest.approx(0, abs=1e-9)
    assert gaussian_mmd(np.zeros((3, 4)), np.zeros((2, 4))) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_in_one_dimension_is_scipys() -> None:
    """With one feature every direction is ±1; W1 and W2 agree where all mass moves equally far, so compare by shifts
    and, for unequal sizes, by repeating rows to equal sizes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 1))
    assert sliced_wasserstein(x, x + 2.5) == pytest.approx(
        scipy.stats.wasserstein_distance(x[:, 0], x[:, 0] + 2.5), rel=1e-12
    )
    y = random.normal(size=(60, 1)) * 2
    a, b = np.sort(np.repeat(x[:, 0], 3)), np.sort(np.repeat(y[:, 0], 2))
    assert sliced_wasserstein(x, y) == pytest.approx(np.sqrt(np.mean((a - b) ** 2)), rel=1e-12)
    assert sliced_wasserstein(x, x[::-1].copy()) == 0


def test_inception_score_bounds_and_splits() -> None:
    sure = torch.eye(10).repeat(30, 1)
    assert inception_score(sure, splits=3, logits=False).value == pytest.approx(10, rel=1e-9)
    assert inception_score(torch.zeros(50, 10), splits=5).value == pytest.approx(1)
    logits = torch.randn(103, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(1).numpy()
    parts = [p[i * 103 // 4 : (i + 1) * 103 // 4] for i in range(4)]
    scores = [np.exp(np.mean([scipy.stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    ours = inception_score(logits, splits=4)
    assert ours.value == pytest.approx(np.mean(scores), rel=1e-10)
    assert ours.error == pytest.approx(np.std(scores), rel=1e-9)
    assert inception_score(logits.softmax(1), splits=4, logits=False).value == pytest.approx(ours.value, rel=1e-10)


def test_every_distance_rises_with_noise_and_with_a_lost_mode() -> None:
    random = np.random.default_rng(0)
    centers = random.normal(size=(4, 8)) * 3

    def draw(classes: list[int]) -> np.ndarray:
        return np.concatenate([centers[c] + random.normal(size=(60, 8)) for c in classes])

    real, fresh, lost = draw([0, 1, 2, 3]), draw([0, 1, 2, 3]), draw([0, 1, 2, 2])
    noise = random.normal(size=real.shape)
    for distance in (lambda a, b: polynomial_mmd(a, b).value, gaussian_mmd, sliced_wasserstein):
        levels = [distance(fresh + s * noise, real) for s in (0.0, 1.5, 3.0)]
        assert levels == sorted(levels)
        assert distance(lost, real) > 2 * abs(distance(fresh, real))


def test_says_what_is_wrong(sets: tuple) -> None:
    with pytest.raises(ValueError, match="subset of 1000"):
        polynomial_mmd(*sets, subset=1000)
    with pytest.raises(ValueError, match="at least 2"):
        polynomial_mmd(sets[0][:1], sets[1])
    with pytest.raises(ValueError, match="at least 10"):
        inception_score(np.ones((3, 5)))

"""The Fréchet distance: against closed forms, SciPy's matrix root and torchmetrics, and the sets that break others."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from limner.evaluation.frechet import frechet_distance, frechet_from_statistics, frechet_infinity
from limner.evaluation.statistics import Statistics, statistics_of


def gaussian(n: int, f: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Correlated rows with a spectrum like that of real features: a few strong directions, a long weak tail."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(f, f)) * np.geomspace(1, 0.01, f)[:, None]
    return random.normal(size=(n, f)) @ mix + shift


def by_matrix_root(x: np.ndarray, y: np.ndarray) -> float:
    """The definition as the field writes it."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s) + np.trace(t) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("n", "m", "f"), [(500, 700, 64), (300, 2000, 100), (3000, 3000, 128)])
def test_agrees_with_the_matrix_root(n: int, m: int, f: int) -> None:
    x, y = gaussian(n, f, 1), gaussian(m, f, 2, shift=0.1)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-8)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 500), (500, 20), (65, 64), (64, 200)])
def test_rank_deficient_sets_agree_with_exact_factors(n: int, m: int) -> None:
    """Where n <= F the matrix root is only good to 1e-5: the nuclear norm of the factors' product is the truth."""
    x, y = gaussian(n, 64, 1), gaussian(m, 64, 2)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    truth = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * root
    assert frechet_distance(x, y) == pytest.approx(truth, rel=1e-6)
    covariance_only = [Statistics(m.n, m.mean, m.covariance) for m in (statistics_of(x), statistics_of(y))]
    assert frechet_from_statistics(*covariance_only) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("steep", [1e-2, 1e-4, 1e-6, 1e-9])
def test_digits_hold_however_steep_the_spectrum(steep: float) -> None:
    """The truth without any squaring: singular values of the product of the data's own triangular factors."""
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(900, 200)) * np.geomspace(1, steep, 200) for _ in range(2))
    r, s = (np.linalg.qr((z - z.mean(0)) / (len(z) - 1) ** 0.5, mode="r") for z in (x, y))
    truth = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum(r**2) + np.sum(s**2)
    truth -= 2 * np.linalg.svd(r @ s.T, compute_uv=False).sum()
    turned = np.linalg.qr(random.normal(size=(200, 200)))[0]  # no longer along the axes
    assert frechet_distance(x @ turned, y @ turned) == pytest.approx(truth, rel=1e-8)


def test_agrees_with_torchmetrics_on_the_same_features() -> None:
    class Flat(torch.nn.Module):
        num_features = 48

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.double().flatten(1)

    random = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (200, 3, 4, 4), generator=random, dtype=torch.uint8)
    fake = torch.randint(0, 200, (150, 3, 4, 4), generator=random, dtype=torch.uint8)
    theirs = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 4, 4)).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert frechet_distance(fake.flatten(1), real.flatten(1)) == pytest.approx(float(theirs.compute()), rel=1e-8)


def test_known_gaussians() -> None:
    """Commuting covariances: |μ₁-μ₂|² + Σ (√λ₁-√λ₂)²."""
    l, k = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 9.0, 1.0], dtype=torch.float64)
    a = Statistics(10, torch.zeros(3, dtype=torch.float64), l.diag())
    b = Statistics(10, torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64), k.diag())
    assert frechet_from_statistics(a, b) == pytest.approx(25 + 1 + 4 + 1, rel=1e-12)


def test_equal_sets_are_at_zero_and_constant_features_do_no_harm() -> None:
    x = gaussian(400, 32)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * np.trace(np.cov(x, rowvar=False)))
    padded = np.concatenate([x, np.full((400, 5), 3.0)], axis=1)
    assert frechet_distance(padded, padded[::-1] + 1) == pytest.approx(37, rel=1e-8)
    assert frechet_distance(np.ones((9, 4)), np.zeros((9, 4))) == pytest.approx(4)
    assert frechet_distance(np.ones((2, 4)), np.ones((7, 4))) == 0


def test_order_chunks_and_offset_change_nothing() -> None:
    x, y = gaussian(300, 40, 1), gaussian(200, 40, 2)
    whole = frechet_distance(x, y)
    assert frechet_distance(x[::-1].copy(), y) == pytest.approx(whole, rel=1e-10)
    assert frechet_distance(np.array_split(x, 17), iter(np.array_split(y, 3))) == pytest.approx(whole, rel=1e-10)
    assert frechet_distance([x[:1], x[1:1], x[1:]], y) == pytest.approx(whole, rel=1e-10)
    assert frechet_distance(x + 1e4, y + 1e4) == pytest.approx(whole, rel=1e-7)
    small = statistics_of(np.array_split(x[:30], 4))
    assert small.factor is not None and torch.allclose(small.factor.T @ small.factor, small.covariance)


def test_rises_with_noise_and_with_a_shift() -> None:
    x, y = gaussian(1000, 16, 1), gaussian(1000, 16, 1)[::-1]
    noise = np.random.default_rng(5).normal(size=x.shape)
    levels = [frechet_distance(x + s * noise, y) for s in (0, 0.5, 1, 2)]
    assert levels == sorted(levels)
    assert frechet_distance(x + 3, y) == pytest.approx(9 * 16, rel=1e-9)


def test_extrapolation_removes_most_of_the_bias_of_few_samples() -> None:
    f = 64
    random = np.random.default_rng(0)
    reference = Statistics(10**9, torch.zeros(f, dtype=torch.float64), torch.eye(f, dtype=torch.float64))
    x = random.normal(size=(1200, f))  # the true distance is 0
    plain, extrapolated = frechet_distance(x, reference), frechet_infinity(x, reference)
    assert plain > 0.8
    assert abs(extrapolated.value) < 0.15 * plain
    assert extrapolated.low < extrapolated.value < extrapolated.high


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "at least 2"),
        (np.ones((5, 3)), np.ones((5, 4)), "same extractor"),
        (np.full((5, 3), np.nan), np.ones((5, 3)), "NaN"),
        (np.ones(5), np.ones((5, 3)), "table"),
        ([], np.ones((5, 3)), "at least 2"),
    ],
)
def test_says_what_is_wrong(x: np.ndarray, y: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        frechet_distance(x, y)

"""The copy check flags a generator that hands out training pictures, and passes pictures that are really new."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from limner.evaluation.memorization import mann_whitney, memorization_test


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TRAIN, HELD = rows(1200, 1), rows(400, 2)


@pytest.mark.parametrize("held_out", [HELD, None], ids=["held out", "leave one out"])
def test_passes_new_pictures_and_flags_copies_with_noise(held_out: torch.Tensor | None) -> None:
    fresh = memorization_test(rows(500, 3), TRAIN, held_out, resamples=200)
    assert not fresh.copying and fresh.interval[0] < 0.5 < fresh.interval[1]
    assert fresh.suspects == pytest.approx(0.05, abs=0.03) and abs(fresh.z) < 3
    assert "No sign" in fresh.verdict
    copies = memorization_test(TRAIN[:300] + 0.2 * rows(300, 4), TRAIN, held_out, resamples=200)
    assert copies.copying and copies.closer > 0.95 and copies.z < -3 and copies.suspects > 0.8
    assert (copies.neighbors == torch.arange(300)).double().mean() > 0.95
    assert "It copies" in copies.verdict


def test_pictures_that_are_only_near_on_average_may_be_blurred() -> None:
    """A share of suspects below the fair one is no reason to say that it copies."""
    fresh = rows(3000, 7)
    typical = fresh[torch.cdist(fresh, TRAIN).min(1).values.argsort()[300:1500]]
    found = memorization_test(typical, TRAIN, HELD, resamples=200)
    assert found.copying and found.suspects < 0.05 < 0.6 < found.closer
    assert found.verdict.startswith("It may copy: in ") and "It copies" not in found.verdict


def test_a_fifth_of_exact_copies_is_found_and_leads_the_sheet() -> None:
    samples = torch.cat([rows(400, 5), TRAIN[100:200]])
    found = memorization_test(samples, TRAIN, HELD, resamples=200)
    assert found.copying
    assert set(found.closest[:100].tolist()) == set(range(400, 500))
    assert found.distances[found.closest[0]] == 0


def test_far_samples_are_no_copies() -> None:
    found = memorization_test(rows(300, 6) * 3, TRAIN, HELD, resamples=100)
    assert not found.copying and found.closer < 0.35 and found.z > 3 and "farther" in found.verdict


def test_order_does_not_matter_and_the_seed_decides() -> None:
    a = memorization_test(HELD, TRAIN, rows(300, 7), resamples=50)
    b = memorization_test(HELD.flip(0), TRAIN, rows(300, 7), resamples=50)
    assert (a.closer, a.suspects) == pytest.approx((b.closer, b.suspects))
    assert a.interval == memorization_test(HELD, TRAIN, rows(300, 7), resamples=50).interval


def test_mann_whitney_is_scipys() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 20, 60).astype(float), random.integers(2, 22, 80).astype(float)
    theirs = scipy.stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic", alternative="less")
    assert scipy.stats.norm.cdf(mann_whitney(torch.tensor(a), torch.tensor(b))) == pytest.approx(theirs.pvalue, rel=1e-6)
    assert mann_whitney(torch.ones(5), torch.ones(5)) == 0


def test_too_few_are_told() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        memorization_test(rows(5, 0), TRAIN)

"""BD-rate: closed forms, the package `bjontegaard`, and curves that do not rise."""

from __future__ import annotations

import warnings

import bjontegaard
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from limner.evaluation.bd_rate import bd_rate, integral

RATES, PSNR = [0.1, 0.25, 0.5, 1.0, 2.1], [25.0, 28.2, 31.1, 34.0, 38.0]


def test_a_constant_factor_is_itself() -> None:
    for factor in (0.5, 0.9, 1.0, 2.5):
        found = bd_rate(RATES, PSNR, [r * factor for r in RATES], PSNR)
        assert found is not None and found.percent == pytest.approx((factor - 1) * 100) and found.overlap == 1
        assert (found.low, found.high) == (25, 38)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equal_to_the_bjontegaard_package(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(2):
        n = rng.integers(4, 9)
        curves += [np.cumsum(rng.uniform(0.05, 0.5, n)), 22 + rng.uniform(0, 3) + np.cumsum(rng.uniform(0.3, 3, n))]
    found = bd_rate(*curves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = bjontegaard.bd_rate(*curves, method="pchip", require_matching_points=False)
    if np.isnan(expected):
        assert found is None
    else:
        assert found is not None and found.percent == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=9), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_integral_is_scipys(values: list[float], a: float, b: float) -> None:
    y = np.array(values)
    x = np.cumsum(1 + np.abs(np.sin(np.arange(len(y)))))
    low, high = sorted(x[0] + np.array([a, b]) * (x[-1] - x[0]))
    assert integral(x, y, low, high) == pytest.approx(float(PchipInterpolator(x, y).integrate(low, high)), abs=1e-9)


def test_points_that_nobody_would_choose_are_left_out() -> None:
    rates, quality = [*RATES, 0.6, 3.0], [*PSNR, 30.9, 37.9]
    found = bd_rate(RATES, PSNR, rates, quality)
    assert found is not None and found.percent == pytest.approx(0, abs=1e-9)


def test_curves_without_a_common_quality_have_none() -> None:
    assert bd_rate(RATES, PSNR, RATES, [q + 20 for q in PSNR]) is None
    assert bd_rate(RATES, PSNR, [0.5], [30.0]) is None
    assert bd_rate(RATES, PSNR, RATES, [float("nan")] * 5) is None

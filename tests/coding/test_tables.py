"""Frequency tables: exact sums, nearest integers, the right tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limner.coding.tables import (
    TAIL,
    TOTAL,
    Tables,
    gaussian_tables,
    integer_frequencies,
    make_tables,
    tables_of_cdf,
    tables_of_masses,
)

SCALES = np.exp(np.linspace(math.log(0.11), math.log(64), 24))


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1)).filter(lambda p: p.sum() > 0))
def test_frequencies_sum_exactly_and_are_nearest(p: np.ndarray) -> None:
    found = integer_frequencies(p)
    assert found.sum() == TOTAL and found.min() >= 1
    shares = p / p.sum() * (TOTAL - len(p))
    assert np.abs(found - 1 - shares).max() < 1


def test_ties_go_to_the_first() -> None:
    assert integer_frequencies(np.ones(3), 8).tolist() == [3, 3, 2]


@pytest.mark.parametrize("p", [[0.5, float("nan")], [0.5, -0.1], [0.0, 0.0], [float("inf"), 1]])
def test_refuses_what_is_no_distribution(p: list[float]) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        integer_frequencies(np.array(p))


def test_gaussian_rows_are_the_integrals_of_the_gaussian() -> None:
    tables = Tables(gaussian_tables(SCALES.tolist()))
    for row, scale in enumerate(SCALES):
        values = tables.low[row] + np.arange(tables.count[row])
        exact = [math.erf((k + 0.5) / scale / 2**0.5) / 2 - math.erf((k - 0.5) / scale / 2**0.5) / 2 for k in values]
        f = tables.frequencies(row)
        assert np.abs(f[:-1] / TOTAL - exact).max() < (len(f) + 2) / TOTAL * max(exact) + 2 / TOTAL
        assert tables.low[row] == -(tables.count[row] - 1) // 2  # symmetrical
        assert 1 - sum(exact) <= TAIL


def test_tables_of_masses_hold_the_mass_wherever_it_lies() -> None:
    centers, widths, limit = np.array([0.0, 3.3, -100, 0.2]), np.array([0.1, 1, 9, 0.01]), 127
    edges = np.arange(-limit, limit + 2) - 0.5
    c = 0.5 + 0.5 * np.tanh((edges - centers[:, None]) / widths[:, None] / 2)
    tables = Tables(tables_of_masses(np.diff(c)))
    assert tables.array.shape[1] < 2 * limit + 3
    for row, (center, width) in enumerate(zip(centers, widths, strict=True)):
        f = tables.frequencies(row)[:-1]
        mean = ((tables.low[row] + np.arange(len(f))) * f).sum() / f.sum()
        assert abs(mean - center) < 0.25 * max(width, 1) + 0.5
        assert tables.low[row] <= round(center) - 2 and tables.low[row] + len(f) > round(center) + 2
    assert tables.count[[0, 3]].tolist() == [5, 5]  # narrow rows pay for few places
    assert tables.frequencies(2)[-1] > 1000  # what lies beyond the limit is the escape's


def test_masses_fit_any_width() -> None:
    p = np.full((1, 255), 1 / 255)
    for width in (4, 5, 60, 61, 257, 300):
        tables = Tables(tables_of_masses(p, width))
        assert tables.array.shape == (1, width) and tables.count[0] == min(width - 2, 255)
        assert tables.frequencies(0).sum() == TOTAL


def test_a_cdf_is_followed_as_far_as_it_reaches() -> None:
    center = np.array([0.0, 700.0])
    tables = Tables(tables_of_cdf(lambda x: 0.5 + 0.5 * np.tanh((x - center[:, None]) / 2)))
    assert (tables.low <= center - 5).all() and (tables.low + tables.count > center + 5).all()
    assert (tables.count < 40).all() and tables.frequencies(1)[-1] < 4


def test_masses_that_are_no_distribution_are_refused() -> None:
    for bad in (np.zeros((1, 9)), np.full((1, 9), np.nan)):
        with pytest.raises(ValueError, match="train the run anew"):
            tables_of_masses(bad)


def test_a_width_cuts_wide_rows() -> None:
    tables = Tables(gaussian_tables([0.2, 256.0], width=43))
    assert tables.count.tolist() == [5, 41] and tables.frequencies(1)[-1] / TOTAL == pytest.approx(0.936, abs=2e-3)


def test_damaged_tables_are_refused() -> None:
    good = gaussian_tables([0.5, 4], 63)
    Tables(good)
    for place, value in (((0, 2), 0), ((0, 3), TOTAL), ((0, 1), 10_000), ((1, 1), 0), ((0, -1), 1), ((0, 0), 1 << 30)):
        bad = good.copy()
        bad[place] = value
        with pytest.raises(ValueError, match="damaged"):
            Tables(bad)
    for array in (good.astype(np.int64), good[0], good[:0], good[:, :2], np.zeros((2, 63), np.int32)):
        with pytest.raises(ValueError, match="damaged"):
            Tables(array)


def test_cost_is_the_code_length() -> None:
    tables = Tables(make_tables([(0, np.array([0.5, 0.25, 0.25])), (-1, np.array([1.0]))], 7))
    assert np.allclose(tables.cost[0, :3], [1, 2, 2], atol=2e-3) and tables.cost[0, 3] == 16
    assert tables.cost[1, 0] < 1e-4 and tables.cost[1, 1] == 16 and np.isinf(tables.cost[1, 2:]).all()

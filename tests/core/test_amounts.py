"""Durations and counts as people write them."""

from __future__ import annotations

import math

import pytest

from limner.core.amounts import amount, count, minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (10, 10), (0.5, 0.5), ("10", 10), ("0.25", 0.25), ("1e1", 10), ("10m", 10), ("10 min", 10), ("90s", 1.5),
        ("1h30", 90), ("1h30m", 90), ("1h 30m 30s", 90.5), ("1.5h", 90), ("2m30", 2.5), ("2D", 2880), ("1d12", 2160),
        (" 10M ", 10), ("1h5s", 60 + 5 / 60),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: float | str, expected: float) -> None:
    assert minutes(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "m", "ten", "10x", "1h2h", "30m1h", "1h30q", "10mm", "--", "1:30", "10s30", "h30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood: give minutes"):
        minutes(text)


@pytest.mark.parametrize(
    "value", [0, -1, math.inf, -math.inf, math.nan, 1e308, "0", "-5", "nan", "inf", "1e308", "0s", "9999d", "1e400"]
)
def test_a_duration_has_an_end_and_is_more_than_nothing(value: float | str) -> None:
    with pytest.raises(ValueError, match="must be"):
        minutes(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(5, 5), (1e6, 10**6), ("50000", 50_000), ("1e6", 10**6), ("500k", 500_000), ("2M", 2 * 10**6), ("1.5k", 1500),
     ("50,000", 50_000), ("1_000", 1000), ("0.3k", 300)],
)  # fmt: skip
def test_a_count_is_read(text: float | str, expected: int) -> None:
    assert count(text) == expected and isinstance(count(text), int)


@pytest.mark.parametrize(
    ("value", "said"),
    [("many", "not understood"), ("10q", "not understood"), ("", "not understood"), ("1.5", "not a whole number"),
     (2.5, "not a whole number"), (0, "must be from 1 to"), (-5, "must be from 1 to"), ("nan", "must be from 1 to"),
     (math.inf, "must be from 1 to"), ("1e308", "must be from 1 to"), ("1e400", "must be from 1 to"),
     ("0.3", "must be from 1 to"), (10**13, "must be from 1 to")],
)  # fmt: skip
def test_what_is_no_count_is_refused(value: float | str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        count(value, "number of images")
    assert "number of images" in str(refused.value)


def test_an_amount_is_a_duration_or_says_images() -> None:
    assert amount("1h30") == (90, None) and amount(5) == (5, None)
    assert amount("50000 images") == amount("50k images") == amount("50kimages") == (None, 50_000)
    with pytest.raises(ValueError, match="is not understood"):
        amount("50k")


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(ValueError, match="is not understood") as refused:
        minutes("x" * 5000)
    assert len(str(refused.value)) < 200


def test_a_count_may_begin_at_nothing() -> None:
    assert count("0", "seed", minimum=0) == 0 and count("1e3", minimum=0) == 1000
    with pytest.raises(ValueError, match="seed must be from 0 to 10"):
        count("-1", "seed", minimum=0)

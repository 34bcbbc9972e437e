"""Durations and counts as people write them: `10m`, `1h30`, `90s`, `1e6`, `500k`."""

from __future__ import annotations

import re
from math import isfinite

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
WORDS = {"sec": "s", "min": "m", "mins": "m", "minutes": "m", "hours": "h", "days": "d", "seconds": "s"}
FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
MAX_MINUTES = 366 * 24 * 60.0  # minutes: a year
MAX_IMAGES = 10**12  # images

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


def minutes(value: float | str, name: str = "duration") -> float:
    """Parse a duration: a number of minutes, or a text such as `10`, `10m`, `1h30`, `1h 30m`, `90s`, `2d`.

    A number without a unit means minutes; after hours it means minutes, after minutes seconds. name: the value's name in
    error messages. Returns minutes in (0, MAX_MINUTES]. Raises ValueError for anything else.
    """
    result = _parse_minutes(value.strip().lower()) if isinstance(value, str) else float(value)
    if result is None:
        raise ValueError(f"The {name} {_short(value)} is not understood: give minutes, or a duration such as 90s, 10m or 1h30.")
    if not 0 < result <= MAX_MINUTES:  # also rejects NaN
        raise ValueError(f"The {name} must be more than 0 and at most one year, not {_short(value)}: give 10m, for example.")
    return result


def _parse_minutes(text: str) -> float | None:
    if re.fullmatch(rf"[+-]?(?:{_NUMBER}|inf|infinity|nan)", text):
        return float(text)
    total, last = 0.0, ""
    rest = text.replace(" ", "")
    while rest:
        match = re.match(rf"({_NUMBER})([a-z]*)", rest)
        if not match:
            return None
        number, unit = float(match[1]), WORDS.get(match[2], match[2])
        if not unit:
            unit = {"d": "h", "h": "m", "m": "s"}.get(last, "")
        if unit not in SECONDS or (last and SECONDS[unit] >= SECONDS[last]):
            return None
        total, last, rest = total + number * SECONDS[unit] / 60, unit, rest[match.end() :]
    return total if last else None


def count(value: float | str, name: str = "number", minimum: int = 1) -> int:
    """A whole number, from a number or a text such as `50000`, `1e6`, `500k`, `2M` or `50,000`.

    name: what to call the value in an error. Raises ValueError for anything else, for less than `minimum`, for
    fractions and for more than 10^12.
    """
    result: float | None
    if isinstance(value, str):
        text = value.strip().lower().replace(",", "").replace("_", "")
        match = re.fullmatch(rf"([+-]?(?:{_NUMBER}|inf|infinity|nan))([a-z]?)", text)
        result = float(match[1]) * FACTORS[match[2]] if match and match[2] in FACTORS else None
    else:
        result = float(value)
    if result is None:
        raise ValueError(f"The {name} {_short(value)} is not understood: give a whole number such as 50000, 500k or 1e6.")
    if not isfinite(result) or not minimum <= result <= MAX_IMAGES:
        raise ValueError(f"The {name} must be from {minimum} to 10^12, not {_short(value)}: give 500k, for example.")
    if abs(result - round(result)) > 1e-6:
        raise ValueError(f"The {name} {_short(value)} is not a whole number.")
    return round(result)


def amount(value: float | str, name: str = "amount") -> tuple[float | None, int | None]:
    """Parse a training budget: (minutes, None) from a duration, (None, images) from a count such as `500k images`.

    Raises ValueError as `minutes` and `count` do.
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(.*?)\s*images?", value.strip(), re.IGNORECASE)):
        return None, count(match[1], name)
    return minutes(value, name), None


def _short(value: float | str) -> str:
    text = repr(value) if isinstance(value, str) else f"{value:g}"
    return text if len(text) <= 40 else f"{text[:37]}..."

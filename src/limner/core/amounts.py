"""Durations and counts as people write them: `10m`, `1h30`, `90s`, `1e6`, `500k`."""

from __future__ import annotations

import re
from math import isfinite

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
WORDS = {"sec": "s", "min": "m", "mins": "m", "minutes": "m", "hours": "h", "days": "d", "seconds": "s"}
FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
LONGEST = 366 * 24 * 60.0  # minutes: a year
MOST = 10**12  # images

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


def minutes(value: float | str, name: str = "duration") -> float:
    """A duration in minutes, from a number of minutes or a text such as `10`, `10m`, `1h30`, `1h 30m`, `90s`, `2d`.

    A number without a unit after hours is minutes, after minutes seconds; alone it is minutes. name: what to call the
    value in an error. Raises ValueError for anything else, for 0 and less, and for more than a year.
    """
    found = _minutes_of(value.strip().lower()) if isinstance(value, str) else float(value)
    if found is None:
        raise ValueError(f"The {name} {_short(value)} is not understood: give minutes, or a duration such as 90s, 10m or 1h30.")
    if not 0 < found <= LONGEST:  # nan is neither
        raise ValueError(f"The {name} must be more than nothing and have an end, within a year, and not {_short(value)}: give 10m, say.")
    return found


def _minutes_of(text: str) -> float | None:
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
    found: float | None
    if isinstance(value, str):
        text = value.strip().lower().replace(",", "").replace("_", "")
        match = re.fullmatch(rf"([+-]?(?:{_NUMBER}|inf|infinity|nan))([a-z]?)", text)
        found = float(match[1]) * FACTORS[match[2]] if match and match[2] in FACTORS else None
    else:
        found = float(value)
    if found is None:
        raise ValueError(f"The {name} {_short(value)} is not understood: give a whole number such as 50000, 500k or 1e6.")
    if not isfinite(found) or not minimum <= found <= MOST:
        least = "more than nothing" if minimum == 1 else f"{minimum} or more"
        raise ValueError(f"The {name} must be {least} and have an end, within 10^12, and not {_short(value)}: give 500k, say.")
    if abs(found - round(found)) > 1e-6:
        raise ValueError(f"The {name} {_short(value)} is not a whole number.")
    return round(found)


def amount(value: float | str, name: str = "amount") -> tuple[float | None, int | None]:
    """(minutes, None) from a duration, or (None, images) from a count that says so: `50000 images`, `500k images`.

    Raises ValueError as `minutes` and `count` do.
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(.*?)\s*images?", value.strip(), re.IGNORECASE)):
        return None, count(match[1], name)
    return minutes(value, name), None


def _short(value: float | str) -> str:
    text = repr(value) if isinstance(value, str) else f"{value:g}"
    return text if len(text) <= 40 else f"{text[:37]}..."

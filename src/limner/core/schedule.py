"""Schedules: pure functions of images seen. Nothing here knows epochs, steps or the clock on the wall."""

from __future__ import annotations

from math import cos, pi


def fraction(seen: int, budget: int) -> float:
    """How much of the budget is spent, in [0,1]."""
    return min(1.0, seen / budget) if budget else 1.0


def ramp(seen: int, length: int) -> float:
    """0 -> 1 over the first `length` images, then 1."""
    return min(1.0, seen / length) if length else 1.0


def falling(seen: int, budget: int, start: float = 0.5, floor: float = 0.0) -> float:
    """1 until the fraction `start` of the budget, then down half a cosine to `floor` at its end."""
    t = fraction(seen, budget)
    if t <= start:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + cos(pi * (t - start) / (1 - start)))


def ema_decay(seen: int, batch: int, half_life: float, ramp: float = 0.05) -> float:
    """The factor that an average keeps over one batch.

    Half-life in images; early in a run it is shortened to `ramp` of the images seen, so that the average forgets the
    random start (Karras et al. 2020, "Training GANs with limited data", training loop).
    """
    half = min(half_life, max(seen, batch) * ramp)
    return 0.5 ** (batch / max(half, 1e-8))


def passes(seen: int, batch: int, every: int) -> bool:
    """True when the last batch of `batch` images, which ended at `seen`, crossed a multiple of `every`."""
    return seen // every != (seen - batch) // every


def preview_marks(budget: int) -> list[int]:
    """Images seen at which a sample grid is worth a look: often at first, when pictures change fast, then evenly.

    0, then doubling from 1/128 to 1/16 of the budget, then every sixteenth up to the end: 21 grids a run.
    """
    early = [budget // d for d in (128, 64, 32)]
    even = [budget * i // 16 for i in range(1, 17)]
    return sorted({0, *early, *even})

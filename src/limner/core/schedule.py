"""Schedules: pure functions of images seen. Nothing here knows epochs, steps or the clock on the wall."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi


def fraction(seen: int, budget: int) -> float:
    """How much of the budget is spent, in [0,1]."""
    return min(1.0, seen / budget) if budget else 1.0


def ramp(seen: int, length: int) -> float:
    """0 -> 1 over the first `length` images, then 1."""
    return min(1.0, seen / length) if length else 1.0


FALLS: Mapping[str, Callable[[float], float]] = {  # how far down a fall is, from the share of it that is done
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "cosine": lambda t: 0.5 * (1 + cos(pi * t)),
}


def lr_factor(seen: int, budget: int, shape: str = "cosine", lr_decay_start: float = 0.5, lr_warmup: float = 0.0) -> float:
    """A learning rate's height in [0,1]: up a line over the first `lr_warmup` of the budget, 1 until `lr_decay_start` of it,
    then down to 0 at its end in the given shape (or never, where that is constant).

    Raises ValueError for an unknown shape.
    """
    if shape not in FALLS:
        raise ValueError(f"The schedule {shape!r} is not known: say one of {', '.join(FALLS)}.")
    t = fraction(seen, budget)
    height = FALLS[shape]((t - lr_decay_start) / (1 - lr_decay_start)) if t > lr_decay_start else 1.0
    return height * ramp(seen, round(lr_warmup * budget))


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

    0, then doubling from 1/128 to 1/16 of the budget, then every sixteenth up to the end: 20 grids a run.
    """
    early = [budget // d for d in (128, 64, 32)]
    even = [budget * i // 16 for i in range(1, 17)]
    return sorted({0, *early, *even})

"""Schedules: pure functions of the images seen, independent of epochs, steps and wall-clock time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi


def fraction(seen: int, budget: int) -> float:
    """Return the fraction of the budget that is spent, in [0,1]."""
    return min(1.0, seen / budget) if budget else 1.0


def ramp(seen: int, length: int) -> float:
    """Return a linear ramp from 0 to 1 over the first `length` images, then 1."""
    return min(1.0, seen / length) if length else 1.0


DECAYS: Mapping[str, Callable[[float], float]] = {  # learning rate factor, from the elapsed fraction of the decay
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "cosine": lambda t: 0.5 * (1 + cos(pi * t)),
}


def lr_factor(seen: int, budget: int, shape: str = "cosine", lr_decay_start: float = 0.5, lr_warmup: float = 0.0) -> float:
    """Return the learning rate's factor in [0,1]: linear warmup, constant, then decay to 0 at the end of the budget.

    lr_warmup, lr_decay_start: fractions of the budget. shape: `constant`, `linear` or `cosine` decay. Raises ValueError for
    an unknown shape.
    """
    if shape not in DECAYS:
        raise ValueError(f"The schedule {shape!r} is unknown: choose one of {', '.join(DECAYS)}.")
    t = fraction(seen, budget)
    factor = DECAYS[shape]((t - lr_decay_start) / (1 - lr_decay_start)) if t > lr_decay_start else 1.0
    return factor * ramp(seen, round(lr_warmup * budget))


def ema_decay(seen: int, batch: int, half_life: float, ramp: float = 0.05) -> float:
    """Return the decay of an exponential moving average of weights over one batch.

    half_life: in images; early in a run it is at most `ramp` times the images seen, so that the average forgets the random
    initialization (Karras et al. 2020, "Training GANs with limited data", training loop).
    """
    half = min(half_life, max(seen, batch) * ramp)
    return 0.5 ** (batch / max(half, 1e-8))


def crosses_multiple(seen: int, batch: int, every: int) -> bool:
    """Return whether the last batch, which ended at `seen` images, crossed a multiple of `every`."""
    return seen // every != (seen - batch) // every


def preview_milestones(budget: int) -> list[int]:
    """Return the numbers of images seen at which a preview is written: dense at first, then evenly spaced.

    0, then 1/128, 1/64, 1/32 and every sixteenth of the budget up to its end: 20 previews a run.
    """
    early = [budget // d for d in (128, 64, 32)]
    even = [budget * i // 16 for i in range(1, 17)]
    return sorted({0, *early, *even})


def milestone_batches(budget: int, batch: int, seen: int = -1) -> int:
    """Return the number of batches that end at or cross a milestone of `preview_milestones`, after `seen` images.

    A batch may cross several, so a run of few batches has no more previews than batches, and one at its start (`seen` < 0).
    """
    return len({-(-at // batch) for at in preview_milestones(budget) if at > seen})

"""The budget of a started run, by its decisions so far, and its extension by `--more`.

A longer budget stretches every schedule: the run continues as a run of the longer budget would at the same number of images.
A learning rate that had decayed to zero is therefore high again after a run has been made twice as long (at half of the
budget, where the decay starts), and decays to zero at the new end. With a constant schedule an extended run has bit for bit
the weights of a run of the longer budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limner.core.artifact import DECISIONS
from limner.training import state as checkpoints
from limner.training.budget import Budget, Decision


def budget_of(decided: Mapping[str, Any], batch: int, record: Callable[[list[dict[str, Any]]], None], folder: Path) -> Budget:
    """Return the budget by the decisions so far. Raises ValueError when they cannot be read."""
    try:
        first = Decision.read({"at": 0, "images": decided["images"], "seconds": 0.0, "until": decided["seconds"]})
        later = [Decision.read(entry) for entry in decided.get("revisions", [])]
        costs = [float(cost) for cost in decided["costs"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / DECISIONS} is damaged: train into a new folder with --out.") from error
    return Budget([first, *later], batch, costs, record)


def extended(
    decided: Mapping[str, Any], batch: int, more: tuple[float | None, int | None], started: float, folder: Path
) -> dict[str, Any]:
    """Return the decisions with `more` (minutes, images) added to the budget, from the current state on.

    started: the `time.monotonic()` at the start of the command.

    Raises ValueError for a run without a checkpoint.
    """
    minutes, images = more
    found = checkpoints.progress(folder / "checkpoint")
    if found is None:
        raise ValueError(f"{folder} holds no checkpoint to continue from: leave --more out.")
    seen, seconds = found
    budget = budget_of(decided, batch, lambda entries: None, folder)
    now = budget.at(seen)
    speed = seen / seconds if seen and seconds else float(decided["images_per_second"])
    until = None
    if minutes is not None:
        left = max(0, now - seen) / speed
        images = int(speed * minutes * 60)
        until = round(seconds + left + minutes * 60 - (time.monotonic() - started), 3)
    total = now + max(1, round((images or 0) / batch)) * batch
    budget.decide(Decision(seen, total, round(seconds, 3), until))
    return {**decided, "revisions": budget.entries()[1:]}

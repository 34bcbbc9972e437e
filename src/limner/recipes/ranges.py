"""The range of every number among the options; options of one name mean one thing in whatever recipe they stand."""

from __future__ import annotations

import dataclasses
from math import inf
from typing import Any

# fmt: off
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys((
        "batch", "penalty_every", "manner_every", "critic_steps", "adaptive_images", "threads",
        "width", "z_size", "w_size", "label_size", "group_width", "hidden", "maxout", "pieces", "mapping", "reference",
        "mixtures", "components", "codes", "code_size",
    ), (1, inf)),
    **dict.fromkeys((
        "micro", "gamma", "manner_weight", "classifier", "historical", "clip", "clip_weights", "ema_half_life",
        "blocks", "halvings", "discrimination",
        "beta", "free_bits", "commitment", "dead",
        "pixels", "features", "adversarial", "contrast", "cycle", "identity", "pool",
        "rate", "weight_decay", "seed", "checkpoint_minutes",
    ), (0, inf)),
    **dict.fromkeys((
        "falling_from", "warm_up", "decay", "adaptive_target", "mixing", "growing", "dropout", "beta1", "beta2",
    ), (0, 1)),
    "patches": (2, inf),  # one has nothing to be told apart from
}
# fmt: on


def check(thing: Any, prefix: str = "") -> None:
    """Raises ValueError for the first number of a dataclass, or of one in it, that lies outside its range."""
    for f in dataclasses.fields(thing):
        value, path = getattr(thing, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check(value, f"{path}.")
        elif f.name in RANGES and value is not None:
            low, high = RANGES[f.name]
            if not low <= value <= high:
                wish = f"{low} or more" if high == inf else f"{low} to {high}"
                raise ValueError(f"The option {path} is {value}: give {wish}.")

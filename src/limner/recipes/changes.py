"""What a person may change in a recipe. Options of one name mean one thing in whatever recipe they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import reduce
from math import inf, isfinite
from typing import Any

from limner.core import schedule
from limner.networks import DEEPEST, WIDEST, architecture

# fmt: off
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys((
        "batch", "penalty_every", "regularizer_every", "discriminator_steps", "adaptive_images",
    ), (1, 10**15)),
    **dict.fromkeys((
        "width", "z_size", "w_size", "label_size", "group_width", "hidden", "maxout", "pieces", "reference",
        "mixtures", "components", "codes", "code_size",
    ), (1, WIDEST)),
    "mapping": (1, DEEPEST),
    **dict.fromkeys(("blocks", "halvings"), (0, DEEPEST)),
    "discrimination": (0, WIDEST),
    "threads": (1, 4096),
    **dict.fromkeys(("micro_batch", "pool"), (0, 10**15)),
    **dict.fromkeys((
        "gamma", "regularizer_weight", "classifier", "historical", "clip", "clip_weights", "ema_half_life",
        "beta", "free_bits", "commitment", "dead",
        "pixels", "features", "adversarial", "contrast", "cycle", "identity",
        "lr", "weight_decay",
    ), (0, inf)),
    "seed": (0, 2**63 - 1),
    **dict.fromkeys((
        "lr_decay_start", "lr_warmup", "warm_up", "decay", "adaptive_target", "mixing", "growing", "dropout",
    ), (0, 1)),
    **dict.fromkeys(("beta1", "beta2"), (0, 0.9999999)),  # at 1 an average never moves
    "patches": (2, inf),  # one has nothing to be told apart from
}
# fmt: on

NEEDS: dict[str, tuple[str, Any]] = {  # option -> the one it hangs on, and the value it needs there (None: any but off)
    **dict.fromkeys(("gamma", "penalty_every"), ("penalty", None)),
    "lr_decay_start": ("schedule", None),
    **dict.fromkeys(("regularizer_weight", "regularizer_every"), ("regularizer", None)),
    **dict.fromkeys(("adaptive_target", "adaptive_images"), ("augmentation", "adaptive")),
    **dict.fromkeys(("objective", "features", "discriminator", "discriminator_optimizer"), ("adversarial", None)),
}
OFF = ("none", "constant", 0, False)

NEEDS_WITHIN: dict[str, tuple[str, tuple[str, ...]]] = {  # the same for options of a net or an optimizer: any of these values
    "mixtures": ("likelihood", ("logistic",)),
    "reference": ("norm", ("virtual",)),
    "beta2": ("name", ("adam", "adamw", "rmsprop")),
}


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """A recipe with some values replaced; dots reach into nested ones (`network.width`).

    Raises ValueError for a name that the recipe does not have, a number out of its range, and a change that does nothing.
    """
    if "architecture" in changes:  # before the options of its network, which may be others
        recipe = _of_architecture(recipe, changes["architecture"])
    for path, value in changes.items():
        recipe = _replace(recipe, path.split("."), value, path)
    check(recipe)
    schedule.lr_factor(0, 1, getattr(recipe, "schedule", "constant"))  # refuses an unknown one before any folder is made
    for path in changes:
        other, wanted = NEEDS.get(path.split(".")[0], ("", None))
        value = getattr(recipe, other, wanted)  # some have no such choice, and then nothing hangs on it
        if value in OFF or (wanted is not None and value != wanted):
            if wanted:
                stop_requested = f"give {other} {wanted} with it"
            else:
                stop_requested = f"choose another {other}" if isinstance(value, str) else f"turn {other} on"
            raise ValueError(f"The option {path} does nothing while {other} is {_said(value)}: {stop_requested}, or leave {path} out.")
        *above, last = path.split(".")
        beside, values = NEEDS_WITHIN.get(last, ("", ()))
        value = getattr(reduce(getattr, above, recipe), beside, None)
        if above and value is not None and value not in values:
            raise ValueError(
                f"The option {path} does nothing while {'.'.join([*above, beside])} is {value}: choose {' or '.join(values)} there, "
                f"or leave {path} out."
            )
    return recipe


def _of_architecture(recipe: Any, name: str) -> Any:
    """A recipe with the nets of an architecture: its own, or those that the architecture has by default."""
    recipe, home = _replace(recipe, ["architecture"], name, "architecture"), architecture(name)
    return recipe if isinstance(recipe.network, home.Config) else dataclasses.replace(recipe, network=home.Config())


def _replace(thing: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [f.name for f in dataclasses.fields(thing)]
    if path[0] not in names:
        raise ValueError(f"The recipe has no option {whole!r}: it has {', '.join(names)}.")
    new = value if len(path) == 1 else _replace(getattr(thing, path[0]), path[1:], value, whole)
    return dataclasses.replace(thing, **{path[0]: new})


def _said(value: Any) -> str:
    return "off" if value in (0, False) else str(value)


def check(thing: Any, prefix: str = "") -> None:
    """Raises ValueError for the first number of a dataclass, or of one in it, that lies outside its range."""
    for f in dataclasses.fields(thing):
        value, path = getattr(thing, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check(value, f"{path}.")
        elif f.name in RANGES and value is not None:
            low, high = RANGES[f.name]
            if not (low <= value <= high and isfinite(value)):
                stop_requested = f"{low} or more" if high in (inf, 10**15) else f"{low} to {high}"
                raise ValueError(f"The option {path} is {value}: give {stop_requested}.")

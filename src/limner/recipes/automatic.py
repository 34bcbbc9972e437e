"""`auto`: which recipe for which data, machine and budget, and what was measured to say so.

On two CPU cores (benchmarks/README.md): `spectral` shows its discriminator about 15 times as many pictures a second as `r3gan`
and is far ahead at equal time for every budget that was tried; at 32x32 width 32 beats 48 up to 300,000 images at equal
time, and at 64x64 a width of 24 beats 16 and 32 in the first minutes; a generator's lr of 2.4e-3 beside a discriminator's of
8e-4 is ahead of 8e-4 for both at 32x32 (median of three seeds, most in the first minutes) and of 1.2e-3 for both at 64x64
(one seed). On GPUs nothing was measured: the same recipe, wider, is a guess and is said to be one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.recipes.changes import NETWORKS, changed
from limner.recipes.config import Recipe
from limner.recipes.gan import PRESETS, SMALL_SET
from limner.runs.options import Options

LARGE = 48 * 48  # pixels above which a CPU is short of steps rather than of width
NAME = "spectral"  # what it always takes
LONG = 30.0  # minutes from which on it is not


def choose(
    spec: ImageSpec, count: int, options: Options, machine: Machine, changes: Collection[str] = (),
    recorded_request: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, Recipe, str]:
    """The recipe's name, the recipe, and the reason in one sentence, for `count` pictures of `spec`.

    changes: names of what the person decides instead, of which the sentence says nothing. recorded_request: what was asked of a run
    that this one would go on with, whatever the machine was that chose for it.
    """
    kept = recorded_request.get("options", {}).get("generator", {}).get("width") if recorded_request.get("recipe") == NAME else None
    minutes = float(options.minutes or 10.0)
    small = f"; a set of {count:,} is small, so the discriminator sees shifted pictures"
    small = small if count < SMALL_SET and "augmentation" not in changes else ""
    if kept is not None:
        width, why = kept, "the run was started with it"
    elif machine.device.type != "cpu":
        width, why = 64, "it was measured best on CPUs; on GPUs nothing was measured, so it is wider by guess"
    elif spec.height * spec.width > LARGE and options.images is None and minutes < LONG:
        width, why = 24, f"narrow nets see more of {spec.height}x{spec.width} pictures in {minutes:g} minutes on a CPU"
    else:
        width, why = 32, f"it gives the best {spec.height}x{spec.width} pictures that a CPU was measured to make in minutes"
    recipe = changed(PRESETS[NAME].make(), {"generator.width": width, "discriminator.width": width})
    own = [] if "architecture" in changes else [net for net in NETWORKS if not {net, f"{net}.width"} & {*changes}]
    of = "" if len(own) == len(NETWORKS) else f" of the {' and '.join(own)}"
    told = f", width {width}{of}: {why}" if own else ""
    return NAME, recipe, f"auto chose {NAME}{told}{small}."

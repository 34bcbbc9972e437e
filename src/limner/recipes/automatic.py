"""`auto`: the choice of a recipe by data, machine and budget, with the measurements it is based on.

On two CPU cores (benchmarks/README.md): `spectral` trains its discriminator on about 15 times as many pictures per second as
`r3gan` and is far better at equal time for every budget that was tried; at 32x32 width 32 beats 48 up to 300,000 images at
equal time, and at 64x64 a width of 24 beats 16 and 32 in the first minutes; a generator's lr of 2.4e-3 with a discriminator's
of 8e-4 is better than 8e-4 for both at 32x32 (median of three seeds, most in the first minutes) and than 1.2e-3 for both at
64x64 (one seed). On GPUs nothing was measured: the same recipe, wider, is a guess, and the message calls it one.
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

LARGE_IMAGE = 48 * 48  # pixels; above it, a CPU gains more from iterations than from width
NAME = "spectral"  # the recipe of every choice
LONG_BUDGET = 30.0  # minutes; from it on, a large image gets the full width


def choose(
    spec: ImageSpec, count: int, options: Options, machine: Machine, changes: Collection[str] = (),
    recorded_request: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, Recipe, str]:
    """Return the recipe's name, the recipe, and the reason in one sentence, for `count` pictures of `spec`.

    changes: names of the options that the user sets, which the sentence leaves out. recorded_request: that of a run to be
    resumed, whose width is kept on any machine.
    """
    kept = recorded_request.get("options", {}).get("generator", {}).get("width") if recorded_request.get("recipe") == NAME else None
    minutes = float(options.minutes or 10.0)
    small = f"; a set of {count:,} is small, so the discriminator sees shifted pictures"
    small = small if count < SMALL_SET and "augmentation" not in changes else ""
    if kept is not None:
        width, why = kept, "the run was started with it"
    elif machine.device.type != "cpu":
        width, why = 64, "it was measured best on CPUs; on GPUs nothing was measured, so it is wider by guess"
    elif spec.height * spec.width > LARGE_IMAGE and options.images is None and minutes < LONG_BUDGET:
        width, why = 24, f"narrow networks see more {spec.height}x{spec.width} pictures in {minutes:g} minutes on a CPU"
    else:
        width, why = 32, f"of the widths measured on a CPU it gave the best {spec.height}x{spec.width} pictures"
    recipe = changed(PRESETS[NAME].make(), {"generator.width": width, "discriminator.width": width})
    own = [] if "architecture" in changes else [net for net in NETWORKS if not {net, f"{net}.width"} & {*changes}]
    of = "" if len(own) == len(NETWORKS) else f" of the {' and '.join(own)}"
    reason = f", width {width}{of}: {why}" if own else ""
    return NAME, recipe, f"auto chose {NAME}{reason}{small}."

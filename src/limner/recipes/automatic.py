"""`auto`: the choice of a recipe by data, machine and budget, with the measurements it is based on.

On two CPU cores (benchmarks/README.md): `spectral` trains its discriminator on about 15 times as many pictures per second as
`r3gan` and is far better at equal time for every budget that was tried; at 32x32 width 32 beats 48 up to 300,000 images at
equal time; a generator's lr of 2.4e-3 with a discriminator's of 8e-4 is better than 8e-4 for both (median of three seeds, most in
the first minutes). Larger pictures are computed in patches of about 1/32 of the short side, with upsampling by nearest neighbors
and a gain of 6 on the discriminator's input, the generator at half the rate: at 64x64, after equal CPU time, the distance on ImageNet features is less than half
of that without the three (emoji, one seed). Small pictures without classes are sorted into 30 groups, which halves the distance of
Fashion-MNIST at equal images; larger ones into groups of two, whose vectors the networks are conditioned on: at 64x64 that halves the
distance of shapes (emoji, one seed). At 128x128 the discriminator sees patches of 2x2, the generator draws 4x4: a distance of 489 on
ImageNet features against 567 with 4x4 for both, and 566 without any patches or groups (openmoji, one seed).
On GPUs nothing was measured: the same recipe, wider, is a guess, and the message
calls it one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import log2
from types import MappingProxyType
from typing import Any

from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.recipes.changes import NETWORKS, changed
from limner.recipes.config import Recipe
from limner.recipes.gan import PRESETS, SMALL_SET
from limner.runs.options import Options

SIDE = 32  # pixels; the short side of a larger image is divided into about as many patches
GAIN, LR = 6.0, 1.2e-3  # the discriminator's gain and the generator's learning rate for a larger image
GROUPS, PICTURES_PER_GROUP = 30, 100  # of small pictures without classes; the least pictures of a group on average
PICTURES_PER_VECTOR, MOST_VECTORS = 2, 2_000  # of larger ones: a group's pictures on average, and the most groups, whose vectors are conditioned on
LEAST_PICTURES = 1_000  # of a set of larger ones: groups of a smaller set would nearly name single pictures
NAME = "spectral"  # the recipe of every choice
LONG_BUDGET = 30.0  # minutes; from it on, a large image gets the full width


def choose(
    spec: ImageSpec, count: int, options: Options, machine: Machine, changes: Collection[str] = (),
    recorded_request: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, Recipe, str]:
    """Return the recipe's name, the recipe, and the reason in one sentence, for `count` pictures of `spec`.

    changes: names of the options that the user sets, which the sentence leaves out. recorded_request: that of a run to be
    resumed, whose width is kept on any machine, and its groups with any number of pictures.
    """
    recorded = recorded_request.get("options", {}) if recorded_request.get("recipe") == NAME else {}
    kept = recorded.get("generator", {}).get("width")
    minutes = float(options.minutes or 10.0)
    patch, seen = patches_of(spec)
    small = f"; a set of {count:,} is small, so the discriminator sees shifted pictures"
    small = small if count < SMALL_SET and "augmentation" not in changes else ""
    if kept is not None:
        width, why = kept, "the run was started with it"
    elif machine.device.type != "cpu":
        width, why = 64, "it was measured best on CPUs; on GPUs nothing was measured, so it is wider by guess"
    elif patch > 1 and options.images is None and minutes < LONG_BUDGET:
        width, why = 16, f"narrow networks see more {spec.height}x{spec.width} pictures in {minutes:g} minutes on a CPU"
    else:
        width, why = 32, f"of the widths measured on a CPU it gave the best {spec.height}x{spec.width} pictures"
    values: dict[str, Any] = {"generator.width": width, "discriminator.width": width}
    if patch > 1:
        values |= {"generator.patch": patch, "discriminator.patch": seen, "generator.upsampling": "nearest", "discriminator.gain": GAIN, "generator_optimizer.lr": LR}
    if groups := groups_for(spec, count, patch, changes):
        values["groups"] = groups
    if "groups" in recorded:
        values["groups"] = recorded["groups"]
    recipe = changed(PRESETS[NAME].make(), values)
    own = [] if "architecture" in changes else [net for net in NETWORKS if not {net, f"{net}.width"} & {*changes}]
    of = "" if len(own) == len(NETWORKS) else f" of the {' and '.join(own)}"
    reason = f", width {width}{of}: {why}" if own else ""
    finer = f" (the discriminator: {seen}x{seen})" if seen != patch else ""
    patches = f", patches of {patch}x{patch} pixels{finer}" if patch > 1 and not {"architecture", "generator.patch", "discriminator.patch"} & {*changes} else ""
    return NAME, recipe, f"auto chose {NAME}{patches}{reason}{small}."


def groups_for(spec: ImageSpec, count: int, patch: int, changes: Collection[str] = ()) -> int:
    """Return the number of groups that stand for classes; 0 for pictures that have some, and for few pictures.

    Only the architecture of this recipe takes the vectors of many groups, and a classifier cannot learn them.
    """
    if spec.classes or (patch > 1 and {"architecture", "classifier"} & {*changes}):
        return 0
    if patch == 1:
        return GROUPS if count >= GROUPS * PICTURES_PER_GROUP else 0
    return min(MOST_VECTORS, count // PICTURES_PER_VECTOR) if count >= LEAST_PICTURES else 0


def patches_of(spec: ImageSpec) -> tuple[int, int]:
    """Return the sides of the patches in which the generator computes an image and the discriminator sees it: powers of two, both 1 if
    the short side has at most about 45 pixels.

    A discriminator that sees 4x4 pixels at once passes strokes that repeat every four pixels. One that sees 2x2 does not, and an
    iteration takes 1.05 to 1.09 times as long.
    """
    patch = int(2 ** max(0, round(log2(min(spec.size) / SIDE))))
    return patch, patch if patch <= 2 else patch // 2

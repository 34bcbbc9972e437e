"""Translators from one kind of picture to another: every decision of such a run, and the presets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core.images import ImageSpec, to_float, to_uint8
from limner.core.machine import Machine
from limner.data.pairs import Pairs
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.losses.penalties import gamma_for
from limner.methods.cut import CUT
from limner.methods.cycle import Cycle
from limner.methods.paired import Paired
from limner.methods.phase import Method
from limner.methods.pool import Pool
from limner.monitor import rules
from limner.monitor.doctor import Rule
from limner.monitor.family_probes import TranslatorProbe
from limner.networks import describe, nce_heads, patch, translators
from limner.recipes.config import CutRecipe, CycleRecipe, PairedRecipe
from limner.recipes.presets import TRANSLATORS
from limner.runs.options import Options
from limner.runs.run import Job, Trained, play
from limner.training.loop import Callback
from limner.training.state import OptimizerConfig

RECIPES = (PairedRecipe, CycleRecipe, CutRecipe)
PRESETS = TRANSLATORS


def build(recipe: Any, pairs: Pairs, device: torch.device) -> tuple[Method, Mapping[str, OptimizerConfig], dict[str, Any]]:
    """The game of a recipe, its optimizers, and how its translators are described on disk."""
    spec, moves = pairs.spec, {"translator": recipe.translator_optimizer}
    kind = "unet" if isinstance(recipe, PairedRecipe) else "resnet"
    directions = ["a2b", "b2a"] if isinstance(recipe, CycleRecipe) else ["a2b"]
    goal = objective(recipe.objective, PATCH_OBJECTIVES)

    def placed(net: Any) -> Any:
        return net.to(device, memory_format=torch.channels_last)

    nets = placed(translators(kind, spec, recipe.network, directions))
    method: Method
    if isinstance(recipe, PairedRecipe):
        discriminator = placed(patch.Discriminator(spec, recipe.discriminator, 2 * spec.channels)) if recipe.adversarial else None
        method = Paired(
            nets, discriminator, goal, pixels=recipe.l1, features=recipe.feature_matching, flip=recipe.flip, shift=recipe.shift
        )
        if recipe.adversarial:
            moves["discriminator"] = recipe.discriminator_optimizer
    elif isinstance(recipe, CycleRecipe):
        shape = (spec.channels, spec.height, spec.width)
        method = Cycle(
            nets,
            placed(patch.Discriminator(spec, recipe.discriminator)),
            placed(patch.Discriminator(spec, recipe.discriminator)),
            goal,
            {side: Pool(recipe.pool, shape, device) for side in ("a", "b")},
            cycle=recipe.cycle,
            identity=recipe.identity,
            penalty=recipe.penalty,
            gamma=_gamma(recipe, spec),
            flip=recipe.flip,
        )
        moves["discriminator"] = recipe.discriminator_optimizer
    else:
        method = CUT(
            nets,
            nce_heads.Heads(nets["a2b"].feature_widths).to(device),
            placed(patch.Discriminator(spec, recipe.discriminator)),
            goal,
            contrast=recipe.nce,
            identity=recipe.identity,
            patches=recipe.patches,
            penalty=recipe.penalty,
            gamma=_gamma(recipe, spec),
            flip=recipe.flip,
        )
        moves["discriminator"] = recipe.discriminator_optimizer
    return method, moves, describe(kind, recipe.network) | {"directions": directions}


def _gamma(recipe: CycleRecipe | CutRecipe, spec: ImageSpec) -> float:
    return gamma_for(*spec.size, recipe.batch) if recipe.gamma is None else recipe.gamma


def train(
    name: str,
    recipe: Any,
    pairs: Pairs,
    options: Options,
    machine: Machine,
    why: str = "",
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train translators on pairs of pictures; returns the run folder. Raises ValueError as `session.play` does."""
    torch.manual_seed(options.seed)
    method, moves, description = build(recipe, pairs, machine.device)
    translators = method.nets["translators"]
    examine = TranslatorProbe(translators, pairs, rules_for(recipe), recipe.micro_batch or recipe.batch, machine) if options.doctor else None

    job = Job(
        name=name,
        recipe=recipe,
        dataset=pairs,
        options=options,
        method=method,
        stream=lambda first, count: pairs.batch(first, count, options.seed),
        optimizers=moves,
        network=description,
        published="translators",
        kind="translator",
        preview=preview_of(pairs, machine.device),
        examine=examine,
        callbacks=callbacks,
        notes=[why] if why else [],
    )
    return play(job, machine)


def rules_for(recipe: PairedRecipe | CycleRecipe | CutRecipe) -> Sequence[Rule]:
    """What the doctor judges a translator by, with advice for the recipe at hand."""
    if isinstance(recipe, PairedRecipe):
        more = " and --discriminator-optimizer.lr" if recipe.adversarial else ""
        same = f"raise --l1, or lower --translator-optimizer.lr{more}."
        copied = f"raise --l1 or --translator-optimizer.lr{', or lower --discriminator-optimizer.lr' if recipe.adversarial else ''}."
    else:
        weight = "--cycle" if isinstance(recipe, CycleRecipe) else "--nce"
        same = f"raise {weight}, or lower --discriminator-optimizer.lr."
        copied = f"lower {weight} and --identity, or raise --translator-optimizer.lr and --discriminator-optimizer.lr."
    return (
        rules.same_output(same),
        rules.copies_input(copied),
        rules.learns_nothing(
            "translators", "the median picture", "change --translator-optimizer.lr, or take a wider network (--network.width)."
        ),
    )


def preview_of(pairs: Pairs, device: torch.device) -> Callable[[nn.Module], np.ndarray]:
    """Rows of eight: pictures, below each its translation, then its truth where pairs are known; then the way back."""
    rows = {side: torch.linspace(0, len(data) - 1, 8).long() for side, data in (("a", pairs.a), ("b", pairs.b))}
    a, b = pairs.a.images[rows["a"]], pairs.b.images[rows["b"]]

    @torch.no_grad()
    def preview(nets: nn.Module) -> np.ndarray:
        assert isinstance(nets, nn.ModuleDict)
        sheet = [a, to_uint8(nets["a2b"](to_float(a.to(device)))).cpu(), *([b] if pairs.paired else [])]
        if "b2a" in nets:
            sheet += [b, to_uint8(nets["b2a"](to_float(b.to(device)))).cpu()]
        return torch.cat(sheet).numpy()

    return preview

"""Translators from one kind of picture to another: every decision of such a run, and the presets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from limner.networks import describe, nce_heads, patch, resnet, translators, unet
from limner.runs.run import Job, Options, Preset, Trained, play
from limner.training.loop import Callback
from limner.training.state import OptimizerConfig


def _adam(lr: float = 4e-4) -> OptimizerConfig:
    """The published 2e-4 is for batches of one; what Adam bears grows with the root of the batch, here four."""
    return OptimizerConfig(lr=lr, beta1=0.5, beta2=0.999)


@dataclass(frozen=True, kw_only=True)
class _Shared:
    batch: int = 4  # pictures of each kind an iteration, over all ranks
    micro_batch: int = 0  # pictures a forward pass (0: all at once); less memory; same result but for dropout and spectral norm
    translator_optimizer: OptimizerConfig = field(default_factory=_adam)  # how the translators move
    discriminator_optimizer: OptimizerConfig = field(default_factory=_adam)  # how the discriminators move
    schedule: str = "cosine"  # how the learning rates fall: cosine, linear or constant (not at all)
    lr_decay_start: float = 0.5  # share of the budget after which they fall, to zero at its end
    lr_warmup: float = 0.0  # share of the budget over which they rise from zero at first
    ema_half_life: float = 2_000  # images over which the averaged translators forget half; a twentieth of those seen while that is less
    flip: bool = False  # mirror half of the pictures; not where left and right differ
    swap: bool = False  # exchange the two kinds of pictures
    clip: float = 0.0  # largest gradient norm of a turn (0: none)


@dataclass(frozen=True, kw_only=True)
class PairedRecipe(_Shared):
    """Paired translation: the truth is known for every picture."""

    network: unet.Config = field(default_factory=unet.Config)  # the translator
    discriminator: patch.Config = field(default_factory=lambda: patch.Config(width=32, norm="spectral"))  # the discriminator
    adversarial: bool = True  # whether there is a discriminator; without one the result is soft
    objective: str = "least-squares"  # of the discriminator: non-saturating, least-squares, hinge or relativistic
    pixels: float = 10.0  # weight of the distance to the truth; more is nearer and softer
    features: float = 10.0  # weight of the distance in the discriminator's features
    shift: bool = True  # move both sides of a pair by up to an eighth, against learning by heart


@dataclass(frozen=True, kw_only=True)
class CycleRecipe(_Shared):
    """Unpaired translation, both directions."""

    network: resnet.Config = field(default_factory=lambda: resnet.Config(keep=True))  # the translators
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: _adam(1e-3))  # the discriminators; fast, as they discriminator copies at first
    discriminator: patch.Config = field(default_factory=lambda: patch.Config(width=32))  # the discriminators
    objective: str = "least-squares"  # of the discriminators: non-saturating, least-squares, hinge or relativistic
    penalty: str = "none"  # on the discriminators' slope: none, r1, r2 or r1r2
    gamma: float | None = None  # weight of the penalty (default: from resolution and batch)
    cycle: float = 1.0  # weight of coming back to where one was; more keeps a picture nearer to what it was
    identity: float = 0.0  # weight of leaving alone what is already of the kind; costs half as much again
    pool: int = 50  # pictures of the past that each discriminator is shown


@dataclass(frozen=True, kw_only=True)
class CutRecipe(_Shared):
    """Unpaired translation, one direction, at less than half the cost.

    The published weights are 1 (Park et al. 2020, section 4). The official code takes the mean of both contrasts, and
    squares without the 1/2 of the least-squares objective here, so that its weights of 1 are 0.25 here.
    """

    network: resnet.Config = field(default_factory=lambda: resnet.Config(keep=True))  # the translator
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: _adam(1e-3))  # the discriminator; fast, as it judges copies at first
    discriminator: patch.Config = field(default_factory=lambda: patch.Config(width=32, norm="spectral"))  # the discriminator
    objective: str = "least-squares"  # of the discriminator: non-saturating, least-squares, hinge or relativistic
    penalty: str = "none"  # on the discriminator's slope: none, r1, r2 or r1r2
    gamma: float | None = None  # weight of the penalty (default: from resolution and batch)
    contrast: float = 0.25  # weight of each patch knowing its origin
    identity: float = 0.25  # the same for pictures that are already of the kind; 0 is faster
    patches: int = 256  # of each feature map that are compared


def pix2pix_2017() -> PairedRecipe:
    """Isola et al. 2017, section 3.3 and appendix 6.2."""
    return PairedRecipe(
        network=unet.Config(width=64, dropout=0.5),
        discriminator=patch.Config(width=64),
        objective="non-saturating",
        pixels=100.0,
        features=0.0,
        batch=1,
        schedule="constant",
        translator_optimizer=_adam(2e-4),
        discriminator_optimizer=_adam(2e-4),
    )


def cyclegan_2017() -> CycleRecipe:
    """Zhu et al. 2017, section 4 and appendix 7. The least-squares objective here carries the 1/2 that the paper leaves
    out for the translators, so a weight of 5 is the paper's 10. Its identity term is for paintings: --identity 2.5."""
    return CycleRecipe(
        network=resnet.Config(width=64),
        discriminator=patch.Config(width=64),
        cycle=5.0,
        batch=1,
        schedule="linear",
        translator_optimizer=_adam(2e-4),
        discriminator_optimizer=_adam(2e-4),
    )


RECIPES = (PairedRecipe, CycleRecipe, CutRecipe)

PRESETS = {
    "pix2pix": Preset(PairedRecipe, "translates, learned from pairs", unet.SOURCE),
    "cyclegan": Preset(CycleRecipe, "translates both ways, learned without pairs", resnet.SOURCE),
    "cut": Preset(CutRecipe, "translates one way, learned without pairs, faster", nce_heads.SOURCE),
    "pix2pix-2017": Preset(pix2pix_2017, "pix2pix as published", unet.SOURCE),
    "cyclegan-2017": Preset(cyclegan_2017, "CycleGAN as published", resnet.SOURCE),
}


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
            nets, discriminator, goal, pixels=recipe.pixels, features=recipe.features, flip=recipe.flip, shift=recipe.shift
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
            contrast=recipe.contrast,
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
    probe = TranslatorProbe(translators, pairs, rules_for(recipe), recipe.micro_batch or recipe.batch, machine) if options.doctor else None

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
        probe=probe,
        callbacks=callbacks,
        notes=[why] if why else [],
    )
    return play(job, machine)


def rules_for(recipe: PairedRecipe | CycleRecipe | CutRecipe) -> Sequence[Rule]:
    """What the doctor judges a translator by, with advice for the recipe at hand."""
    if isinstance(recipe, PairedRecipe):
        more = " and --discriminator-optimizer.lr" if recipe.adversarial else ""
        same = f"raise --pixels, or lower --translators.lr{more}."
        copied = f"raise --pixels or --translators.lr{', or lower --discriminator-optimizer.lr' if recipe.adversarial else ''}."
    else:
        weight = "--cycle" if isinstance(recipe, CycleRecipe) else "--contrast"
        same = f"raise {weight}, or lower --discriminator-optimizer.lr."
        copied = f"lower {weight} and --identity, or raise --translators.lr and --discriminator-optimizer.lr."
    return (
        rules.constant_output(same),
        rules.copies_input(copied),
        rules.learns_nothing(
            "translators", "the median picture", "change --translators.lr, raise --pixels, or take a wider network (--network.width)."
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

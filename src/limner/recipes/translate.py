"""Image translators: from a recipe and two sets of pictures to an experiment; the presets by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.data.decode import Progress
from limner.data.pairs import Pairs, prepare_pairs
from limner.data.request import DataRequest
from limner.data.split import split
from limner.evaluation import ImageSet
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.losses.penalties import gamma_for
from limner.methods.cut import CUT
from limner.methods.cycle import Cycle
from limner.methods.paired import Paired
from limner.methods.phase import Method
from limner.methods.pool import Pool
from limner.monitor import rules
from limner.monitor.doctor import Rule
from limner.monitor.family_probes import TranslatorProbe, spaced
from limner.networks import describe, nce_heads, patch, translators
from limner.recipes.config import CutRecipe, CycleRecipe, PairedRecipe
from limner.recipes.presets import TRANSLATORS
from limner.runs.experiment import Card, Experiment, Product, Validator
from limner.runs.options import Options
from limner.runs.validate import FEATURES, FIDELITY, PAIRS, Sample, choose_metric, fidelity, frechet
from limner.sampling.generate import Preview, transform
from limner.training import memory
from limner.training.state import OptimizerConfig

RECIPES = (PairedRecipe, CycleRecipe, CutRecipe)
PRESETS = TRANSLATORS


AnyRecipe = PairedRecipe | CycleRecipe | CutRecipe


def load_data(recipe: AnyRecipe, request: DataRequest, progress: Progress | None = None) -> Pairs:
    """Return the two sets of pictures of a translator. Raises ValueError for unreadable data and meaningless options."""
    request.refuse(("labels", "captions", "classes_from", "drop_duplicates", "unconditional"), "to a recipe that translates")
    return prepare_pairs(
        request.data, request.second, paired=isinstance(recipe, PairedRecipe), swap=recipe.swap, as_halves=request.halves,
        progress=progress, **request.shape(),
    )  # fmt: skip


def method_of(
    recipe: AnyRecipe, spec: ImageSpec, device: torch.device
) -> tuple[Method, dict[str, OptimizerConfig], dict[str, Any]]:
    """Return the method of a recipe with new networks on the device, the optimizer of each player, and the description of the
    translators for `limner.json`."""
    optimizers = {"translator": recipe.translator_optimizer}
    kind = "unet" if isinstance(recipe, PairedRecipe) else "resnet"
    directions = ["a2b", "b2a"] if isinstance(recipe, CycleRecipe) else ["a2b"]
    goal = objective(recipe.objective, PATCH_OBJECTIVES)

    def to_device(net: Any) -> Any:
        return net.to(device, memory_format=torch.channels_last)

    nets = to_device(translators(kind, spec, recipe.network, directions))
    algorithm: Paired | Cycle | CUT
    if isinstance(recipe, PairedRecipe):
        discriminator = to_device(patch.Discriminator(spec, recipe.discriminator, 2 * spec.channels)) if recipe.adversarial else None
        algorithm = Paired(
            nets, discriminator, goal, pixels=recipe.l1, features=recipe.feature_matching, flip=recipe.flip, shift=recipe.shift
        )
        if recipe.adversarial:
            optimizers["discriminator"] = recipe.discriminator_optimizer
    elif isinstance(recipe, CycleRecipe):
        shape = (spec.channels, spec.height, spec.width)
        algorithm = Cycle(
            nets,
            to_device(patch.Discriminator(spec, recipe.discriminator)),
            to_device(patch.Discriminator(spec, recipe.discriminator)),
            goal,
            {side: Pool(recipe.pool, shape, device) for side in ("a", "b")},
            cycle=recipe.cycle,
            identity=recipe.identity,
            penalty=recipe.penalty,
            gamma=_gamma(recipe, spec),
            flip=recipe.flip,
        )
        optimizers["discriminator"] = recipe.discriminator_optimizer
    else:
        algorithm = CUT(
            nets,
            nce_heads.Heads(nets["a2b"].feature_widths).to(device),
            to_device(patch.Discriminator(spec, recipe.discriminator)),
            goal,
            nce=recipe.nce,
            identity=recipe.identity,
            patches=recipe.patches,
            penalty=recipe.penalty,
            gamma=_gamma(recipe, spec),
            flip=recipe.flip,
        )
        optimizers["discriminator"] = recipe.discriminator_optimizer
    return algorithm.method, optimizers, describe(kind, recipe.network) | {"directions": directions}


def refuse_too_large(recipe: AnyRecipe, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    with torch.device("meta"):
        method, _, _ = method_of(recipe, spec, torch.device("meta"))
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
    translators = method.nets["translators"]
    pair = x.repeat(1, 2, 1, 1) if isinstance(recipe, PairedRecipe) else x  # the discriminator sees both sides of a pair
    passes = [memory.Pass(net, (x,)) for net in translators.children()]
    passes += [memory.Pass(net, (pair,)) for name, net in method.nets.items() if name.startswith("discriminator")]
    memory.refuse_too_large(passes, [translators], spec, recipe.batch, recipe.micro_batch, machine)


def _gamma(recipe: CycleRecipe | CutRecipe, spec: ImageSpec) -> float:
    return gamma_for(*spec.size, recipe.batch) if recipe.gamma is None else recipe.gamma


def build(name: str, recipe: AnyRecipe, pairs: Pairs, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict."""
    refuse_too_large(recipe, pairs.spec, machine)
    torch.manual_seed(options.seed)
    method, optimizers, description = method_of(recipe, pairs.spec, machine.device)
    metric = choose_metric(options.metric, FIDELITY if pairs.paired else FEATURES, "translator" if pairs.paired else "translator without pairs")
    training, held_out = split(pairs, options.seed) if options.doctor or metric else (pairs, None)
    notes = []
    if held_out is not None:
        count = f"{len(held_out):,} pairs" if pairs.paired else f"{len(held_out.a):,} and {len(held_out.b):,} pictures"
        notes.append(f"{count} are held out for validation; --no-doctor --metric none trains on them too.")
    chunk = recipe.micro_batch or recipe.batch
    translators = method.nets["translators"]
    return Experiment(
        name=name,
        recipe=recipe,
        data=pairs,
        batches=training,
        method=method,
        optimizers=optimizers,
        product=Product(
            kind="translator",
            network="translators",
            description=description | {"paired": pairs.paired},
            preview=preview_of(held_out or pairs, machine),
            card=CARD,
        ),
        validators=validators_of(recipe, pairs, held_out, metric, machine) if metric else [],
        probe=TranslatorProbe(translators, training, rules_for(recipe), chunk, machine, discriminators_of(recipe, method))
        if options.doctor
        else None,
        held_out_count=_count(held_out),
        notes=notes,
    )


def _count(pairs: Pairs | None) -> int:
    if pairs is None:
        return 0
    return len(pairs) if pairs.paired else len(pairs.a) + len(pairs.b)


def validators_of(
    recipe: AnyRecipe, pairs: Pairs, held_out: Pairs | None, metric: str, machine: Machine
) -> Sequence[Validator]:
    """Return validators: PSNR and SSIM of held-out pairs; for unpaired sets, the Fréchet distance of translations to the other set."""
    shown, of = (pairs, "training") if held_out is None else (held_out, "held-out")
    if pairs.paired:
        a, b = spaced(shown.a, PAIRS), spaced(shown.b, PAIRS)
        return [fidelity(lambda nets, x: nets["a2b"](x), a, b, metric, f"translated {of} pictures", machine)]  # type: ignore[index]
    directions = [("a2b", shown.a, pairs.b), ("b2a", shown.b, pairs.a)][: 2 if isinstance(recipe, CycleRecipe) else 1]
    found = []
    for direction, source, target in directions:
        reference = ImageSet(target.images, name=target.name)
        suffix = "" if direction == "a2b" else f"_{direction}"
        count = min(TRANSLATED, len(source))
        found.append(frechet(_translations(source, direction, machine), reference, metric, suffix, count))
    return [validator for validator in found if validator]


def _translations(source: Dataset | Subset, direction: str, machine: Machine) -> Sample:
    """Return a function (networks, n) -> translations of n evenly spaced pictures of the set, with repetition in a smaller set."""

    return lambda nets, n: transform(nets[direction], _evenly(source, n), machine, PREVIEWED)  # type: ignore[index]


def _evenly(side: Dataset | Subset, n: int) -> torch.Tensor:
    """Return n evenly spaced pictures uint8 [n,C,H,W] of a set, with repetition in a smaller one."""
    return side.rows(torch.linspace(0, len(side) - 1, n).long().numpy())["image"]


CARD = Card(
    tags="image-to-image",
    usage="""\
    limner translate THIS_FOLDER IN OUT

    import limner
    model = limner.load("THIS_FOLDER")
    model.translate("photo.jpg").save("translated.png")
""",
)


def discriminators_of(recipe: AnyRecipe, method: Method) -> Mapping[str, nn.Module]:
    """Return direction -> the discriminator of its outputs alone; empty for paired recipes, whose discriminator sees both sides."""
    if isinstance(recipe, CycleRecipe):
        return {"a2b": method.nets["discriminator_b"], "b2a": method.nets["discriminator_a"]}
    return {"a2b": method.nets["discriminator"]} if isinstance(recipe, CutRecipe) else {}


def rules_for(recipe: AnyRecipe) -> Sequence[Rule]:
    """Return the doctor's rules for a translator, with advice for the recipe."""
    if isinstance(recipe, PairedRecipe):
        more = " and --discriminator-optimizer.lr" if recipe.adversarial else ""
        same = f"raise --l1, or lower --translator-optimizer.lr{more}."
        copied = f"raise --l1 or --translator-optimizer.lr{', or lower --discriminator-optimizer.lr' if recipe.adversarial else ''}."
    else:
        weight = "--cycle" if isinstance(recipe, CycleRecipe) else "--nce"
        same = f"raise {weight}, or lower --discriminator-optimizer.lr."
        copied = f"lower {weight} and --identity, or raise --translator-optimizer.lr and --discriminator-optimizer.lr."
    ahead = "lower --discriminator-optimizer.lr, or penalize its gradient (--penalty r1)."
    unpaired = () if isinstance(recipe, PairedRecipe) else (rules.discriminator_too_strong(ahead),)
    return (
        rules.constant_output(same),
        rules.copies_input(copied),
        *unpaired,
        rules.learns_nothing(
            "translator", "the median picture", "change --translator-optimizer.lr, raise --l1, or use a wider network (--network.width)."
        ),
    )


TRANSLATED = 128  # pictures of a Fréchet distance: a translation costs as much as many samples
PREVIEWED = 8  # pictures of each set in a preview


def preview_of(pairs: Pairs, machine: Machine) -> Preview:
    """Return a preview in rows of eight: pictures, their translations, their targets if there are pairs; then the other direction."""
    a, b = _evenly(pairs.a, PREVIEWED), _evenly(pairs.b, PREVIEWED)

    def preview(nets: nn.Module) -> np.ndarray:
        assert isinstance(nets, nn.ModuleDict)
        sheet = [a, transform(nets["a2b"], a, machine), *([b] if pairs.paired else [])]
        if "b2a" in nets:
            sheet += [b, transform(nets["b2a"], b, machine)]
        return torch.cat(sheet).numpy()

    return preview

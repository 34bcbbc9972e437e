"""Restoration: from a recipe and clean pictures to an experiment; the presets by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core.device import on_meta
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data.crops import Crops
from limner.data.decode import MIN_SIDE, Progress, target_size
from limner.data.degrade import MIXED, Chain, Degradation, Degraded, degradation, parse_degradations
from limner.data.jpeg_quality import low_quality_note
from limner.data.native import Native
from limner.data.request import DataRequest
from limner.data.split import split
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.losses.perceptual import PerceptualLoss
from limner.methods.phase import Method
from limner.methods.restore import Restoration
from limner.monitor import rules
from limner.monitor.doctor import Rule
from limner.monitor.family_probes import RestorerProbe
from limner.networks import describe, patch, restorer
from limner.recipes.presets import RESTORERS
from limner.recipes.restore_config import AnyRestoration, ContextRecipe, RestorationRecipe
from limner.recipes.sources import CroppedPictures, load_native
from limner.runs.experiment import Card, Experiment, Product
from limner.runs.options import Options
from limner.runs.validate import AUTO, RESTORATION, choose_metric, restoration
from limner.sampling.generate import Preview
from limner.sampling.restore import restored, unrestored
from limner.training import memory
from limner.training.state import OptimizerConfig

RECIPES = (RestorationRecipe, ContextRecipe)
PRESETS = RESTORERS
CELLS = 32  # default side of a crop at the resolution that plain convolutions compute at: many small crops learn fastest
CONTEXT = 128  # default side in pixels for a U-Net
OWN_RECIPES = {"holes": "inpaint", "gray": "colorize", "downscale": "super-resolution"}  # degradations that no mix holds
VALIDATED = 64  # maximum number of held-out crops for the validator
PREVIEWED = 8


def load_data(recipe: AnyRestoration, request: DataRequest, progress: Progress | None = None) -> CroppedPictures:
    """Return the clean pictures of a restorer at their own sizes. Raises ValueError for unreadable data and meaningless options."""
    source, pictures = load_native(request, progress)
    size = crop_size(recipe, pictures) if request.size is None else request.size
    height, width = target_size(size, [])
    crops = Crops(pictures, size, flip=recipe.flip, rotate=recipe.rotate and height == width)
    return CroppedPictures(pictures, crops, low_quality_note(source))


def crop_size(recipe: AnyRestoration, pictures: Native) -> int:
    """Return the default side of a crop: CELLS or CONTEXT, but such that half of the pictures are no smaller."""
    if isinstance(recipe, RestorationRecipe):
        multiple = scale_of(recipe) * recipe.network.unshuffle
        side = CELLS * multiple
    else:
        multiple, side = 2**recipe.network.downsamplings, CONTEXT
    side = min(side, int(np.median(pictures.sizes.min(1))))
    least = -(-MIN_SIDE // multiple) * multiple
    return max(least, side // multiple * multiple)


def scale_of(recipe: AnyRestoration) -> int:
    """Return the factor by which a recipe enlarges."""
    return recipe.scale if isinstance(recipe, RestorationRecipe) and recipe.task == "super-resolution" else 1


def degradation_of(recipe: AnyRestoration) -> Degradation:
    """Return the degradation that a recipe undoes. Raises ValueError for reversed ranges and unknown names."""
    if isinstance(recipe, ContextRecipe):
        if recipe.task == "colorize":
            return degradation("gray")
        if recipe.task == "inpaint":
            return degradation("holes", fraction=_range("holes", recipe.holes_min, recipe.holes_max))
        step = degradation("low-light")
    elif recipe.task == "super-resolution":
        return degradation("real" if recipe.degradation == "real" else "downscale", factor=recipe.scale)
    elif recipe.task == "denoise":
        step = degradation("noise", sigma=_range("sigma", recipe.sigma_min, recipe.sigma_max))
    elif recipe.task == "deblur":
        step = degradation("blur", sigma=(0.2, recipe.blur_max))
    elif recipe.task == "dejpeg":
        step = degradation("jpeg", quality=_range("quality", recipe.quality_min, recipe.quality_max))
    else:
        return _mix(recipe.degrade, recipe.clean)
    return Chain([step], clean=recipe.clean) if recipe.clean else step


def _range(name: str, least: float, most: float) -> tuple[float, float]:
    """Return the range of two options, name-min and name-max. Raises ValueError when it is reversed."""
    if least > most:
        raise ValueError(f"--{name}-min {least:g} is above --{name}-max {most:g}: exchange them.")
    return least, most


def _mix(names: str, clean: float) -> Degradation:
    """Return the mix of degradations of a list with commas. Raises ValueError for one that has a recipe of its own."""
    for name, own in OWN_RECIPES.items():
        if name in [part.strip() for part in names.split(",")]:
            raise ValueError(f"The degradation {name!r} is undone by a recipe of its own, {own}: leave it out of --degrade.")
    return parse_degradations(names, clean=clean, allowed=MIXED.keys() - OWN_RECIPES.keys())


def refuse_too_large(recipe: AnyRestoration, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    scale = scale_of(recipe)
    with on_meta():
        net: Any = network_of(recipe, spec)
        x = torch.empty(memory.ROWS, net.inputs, spec.height // scale, spec.width // scale)
        passes = [memory.Pass(net, (x,))]
        if recipe.adversarial > 0:
            y = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
            passes.append(memory.Pass(patch.Discriminator(spec, recipe.discriminator), (y,)))
    memory.refuse_too_large(passes, [net], spec, recipe.batch, recipe.micro_batch, machine)


def network_of(recipe: AnyRestoration, spec: ImageSpec) -> nn.Module:
    """Return a new network for the recipe's task."""
    return restorer(architecture_of(recipe), spec, recipe.network, scale_of(recipe), recipe.task)


def architecture_of(recipe: AnyRestoration) -> str:
    return "plain" if isinstance(recipe, RestorationRecipe) else "restoration-unet"


def method_of(
    recipe: AnyRestoration, spec: ImageSpec, device: torch.device
) -> tuple[Method, dict[str, OptimizerConfig]]:
    """Return the method of a recipe with new networks on the device, and the optimizer of each player.

    Raises ValueError for a perceptual loss without its extra.
    """
    features = PerceptualLoss(device) if recipe.perceptual > 0 else None
    net, optimizers = network_of(recipe, spec), {"restorer": recipe.restorer_optimizer}
    discriminator = None
    if recipe.adversarial > 0:
        discriminator = patch.Discriminator(spec, recipe.discriminator)
        discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizers["discriminator"] = recipe.discriminator_optimizer
    algorithm = Restoration(
        net.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        discriminator,
        objective(recipe.objective, PATCH_OBJECTIVES),
        features,
        loss=recipe.loss,
        pixel=recipe.pixel,
        perceptual=recipe.perceptual,
        adversarial=recipe.adversarial,
        start=recipe.sharpen_start,
    )
    return algorithm.method, optimizers


def build(name: str, recipe: AnyRestoration, pictures: CroppedPictures, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict."""
    if recipe.task == "colorize" and pictures.spec.channels != 3:
        raise ValueError("Colors are learned from color pictures without transparency: give those, or --channels 3.")
    pairs = Degraded(pictures.crops, degradation_of(recipe))
    refuse_too_large(recipe, pictures.spec, machine)
    torch.manual_seed(options.seed)
    method, optimizers = method_of(recipe, pictures.spec, machine.device)
    metric = choose_metric(options.metric, RESTORATION, "restorer")
    training, held_out = split(pairs, options.seed) if options.doctor or metric else (pairs, None)
    notes = []
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'picture is', 'pictures are')} held out for validation; --no-doctor --metric none trains on them too.")
    shown, of = (pairs, "training") if held_out is None else (held_out, "held-out")
    scale, net = scale_of(recipe), method.nets["restorer"]
    sharpens = recipe.adversarial > 0 or recipe.perceptual > 0
    validators = [restoration(shown.batch(0, VALIDATED, 0), scale, metric, f"{of} crops", machine)] if metric else []
    if sharpens and options.metric == AUTO:  # whose best PSNR is that of the blurred start
        validators = [replace(validator, keeps_best=False) for validator in validators]
    return Experiment(
        name=name,
        recipe=recipe,
        data=pictures,
        batches=training,
        method=method,
        optimizers=optimizers,
        product=Product(
            kind="restorer",
            network="restorer",
            description={
                **describe(architecture_of(recipe), recipe.network),
                "scale": scale,
                "task": recipe.task,
                "degradation": str(pairs.degradation),
            },
            preview=preview_of(shown, scale, machine),
            card=CARD,
        ),
        validators=validators,
        probe=RestorerProbe(net, training, rules_for(recipe), recipe.micro_batch or recipe.batch, scale, machine) if options.doctor else None,
        held_out_count=0 if held_out is None else len(held_out),
        notes=notes,
    )


CARD = Card(
    tags="image-to-image, image-restoration",
    usage="""\
    limner restore THIS_FOLDER IN OUT

    import limner
    model = limner.load("THIS_FOLDER")
    model.restore("photo.jpg").save("restored.png")
""",
)


def rules_for(recipe: AnyRestoration) -> Sequence[Rule]:
    """Return the doctor's rules for a restorer, with advice for the recipe."""
    if recipe.adversarial > 0 or recipe.perceptual > 0:
        return ()  # sharp pictures may be further from the targets than blurred ones
    return (rules.learns_nothing("restorer", "the degraded picture", "change --restorer-optimizer.lr."),)


def preview_of(pairs: Degraded, scale: int, machine: Machine) -> Preview:
    """Return a preview in rows of eight: degraded crops (enlarged), restored ones, clean ones."""
    batch = pairs.batch(0, PREVIEWED, 0)

    def preview(network: nn.Module) -> np.ndarray:
        return torch.cat([unrestored(batch, scale), restored(network, batch, machine), batch["target"]]).numpy()

    return preview



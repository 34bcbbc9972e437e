"""Codecs: from a recipe and pictures to an experiment; the presets by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.core.device import on_meta
from limner.core.images import ImageSpec, to_float, to_uint8
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data.crops import Crops
from limner.data.decode import Progress
from limner.data.native import Native
from limner.data.request import DataRequest
from limner.data.split import split
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.methods.codec import RateDistortion
from limner.methods.phase import Method
from limner.monitor import rules
from limner.monitor.codec_probe import CodecProbe
from limner.monitor.doctor import Rule
from limner.networks import describe, hyperprior, patch
from limner.networks.padding import crop_to, pad_to
from limner.recipes.config import CodecRecipe
from limner.recipes.presets import CODECS
from limner.recipes.sources import CroppedPictures, load_native
from limner.runs.experiment import Card, Experiment, Product
from limner.runs.options import Options
from limner.runs.validate import CODING, choose_metric, rate_distortion
from limner.sampling.generate import Preview
from limner.training import memory
from limner.training.state import OptimizerConfig

RECIPES = (CodecRecipe,)
PRESETS = CODECS
CROP = 192  # default side in pixels: 3x3 hyper-latents, of which one has no border; with 128, all four have one
VALIDATED = 64  # maximum number of held-out crops for the validator
PROBED = 16
PREVIEWED = 8


def load_data(recipe: CodecRecipe, request: DataRequest, progress: Progress | None = None) -> CroppedPictures:
    """Return the pictures of a codec at their own sizes. Raises ValueError for unreadable data and meaningless options."""
    _, pictures = load_native(request, progress)
    size = crop_size(pictures) if request.size is None else request.size
    return CroppedPictures(pictures, Crops(pictures, size, flip=recipe.flip))


def crop_size(pictures: Native) -> int:
    """Return the default side of a crop: at most CROP, a multiple of 64 where the pictures are large enough, and the short side
    of half of them at most."""
    side = min(CROP, int(np.median(pictures.sizes.min(1))))
    return side // hyperprior.MULTIPLE * hyperprior.MULTIPLE or side


def method_of(recipe: CodecRecipe, spec: ImageSpec, device: torch.device) -> tuple[Method, dict[str, OptimizerConfig]]:
    """Return the method of a recipe with new networks on the device, and the optimizer of each player."""

    def to_device(net: Any) -> Any:
        return net.to(device, memory_format=torch.channels_last)

    codec = to_device(hyperprior.Codec(spec, recipe.network))
    optimizers, discriminator = {"codec": recipe.codec_optimizer}, None
    if recipe.adversarial > 0:
        discriminator = to_device(patch.Discriminator(spec, recipe.discriminator))
        optimizers["discriminator"] = recipe.discriminator_optimizer
    algorithm = RateDistortion(
        codec, recipe.distortion, discriminator, objective(recipe.objective, PATCH_OBJECTIVES), adversarial=recipe.adversarial
    )
    return algorithm.method, optimizers


def refuse_too_large(recipe: CodecRecipe, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    with on_meta():
        method, _ = method_of(recipe, spec, torch.device("meta"))
        x = torch.empty(memory.ROWS, spec.channels, *(-(-side // hyperprior.MULTIPLE) * hyperprior.MULTIPLE for side in spec.size))
        passes = [memory.Pass(method.nets["codec"], (x, torch.zeros(memory.ROWS)))]
        if "discriminator" in method.nets:
            passes.append(memory.Pass(method.nets["discriminator"], (x,)))
    memory.refuse_too_large(passes, [method.nets["codec"]], spec, recipe.batch, recipe.micro_batch, machine)


def build(name: str, recipe: CodecRecipe, dataset: CroppedPictures, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict."""
    refuse_too_large(recipe, dataset.spec, machine)
    torch.manual_seed(options.seed)
    method, optimizers = method_of(recipe, dataset.spec, machine.device)
    codec = method.nets["codec"]
    metric = choose_metric(options.metric, CODING, "codec")
    training, held_out = split(dataset.crops, options.seed) if options.doctor or metric else (dataset.crops, None)
    notes = []
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'picture is', 'pictures are')} held out for validation; --no-doctor --metric none trains on them too.")
    shown, of = (training, "training") if held_out is None else (held_out, "held-out")
    pictures = fixed(shown, VALIDATED)
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=method,
        optimizers=optimizers,
        product=Product(
            kind="codec",
            network="codec",
            description=describe("hyperprior", recipe.network),
            preview=preview_of(fixed(shown, PREVIEWED, repeat=True), machine),
            card=Card("image-compression", USAGE),
        ),
        validators=[rate_distortion(pictures, f"{of} crops", machine)] if metric else [],
        probe=CodecProbe(codec, padded(fixed(training, PROBED)), rules_for(), recipe.micro_batch or recipe.batch, machine)
        if options.doctor
        else None,
        held_out_count=0 if held_out is None else len(held_out),
        notes=notes,
    )


def fixed(crops: Crops, count: int, repeat: bool = False) -> Tensor:
    """Return crops of different pictures, always the same: uint8 [at most count,C,H,W]. repeat: more of few, count in all."""
    plain = Crops(crops.pictures, crops.spec.size, kept=crops.kept)
    return plain.batch(0, count if repeat else min(count, len(crops)), 0)["image"]


def padded(pictures: Tensor) -> Tensor:
    """Return pictures uint8 [N,C,H,W] with sides that the codec takes."""
    return pad_to(pictures.float(), hyperprior.MULTIPLE).to(torch.uint8)


USAGE = """\
    limner compress THIS_FOLDER PICTURES OUT --quality 50
    limner decompress THIS_FOLDER OUT PICTURES_AGAIN
"""


def rules_for() -> Sequence[Rule]:
    """Return the doctor's rules for a codec."""
    return (
        rules.constant_output("lower --codec-optimizer.lr."),
        rules.learns_nothing("codec", "the mean picture", "lower --codec-optimizer.lr, or raise --network.least-lambda."),
    )


def preview_of(pictures: Tensor, machine: Machine) -> Preview:
    """Return a preview in rows of eight: pictures, then what decoding gives at the highest, the middle and the lowest quality."""
    x = to_float(padded(pictures)).to(machine.device)
    height, width = pictures.shape[2:]

    @torch.no_grad()
    def preview(codec: nn.Module) -> np.ndarray:
        best: Any = codec.qualities
        rows = [pictures]
        for quality in (best - 1, (best - 1) / 2, 0):
            decoded = codec(x, torch.full((len(x),), float(quality), device=x.device))
            rows.append(crop_to(to_uint8(decoded), (height, width)).cpu())
        return torch.cat(rows).numpy()

    return preview

"""Generators of clips: from a recipe and a folder of clips to an experiment; the presets by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from limner.core import latents
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data.clips import ClipPictures, Clips, prepare_clips
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.data.split import split
from limner.evaluation import load_image_set
from limner.losses.adversarial import objective
from limner.methods.motion import MotionGAN
from limner.methods.terms import Augmentation
from limner.monitor.probes import GANProbe
from limner.networks import describe, motion
from limner.networks.contracts import Moving
from limner.recipes.config import MotionRecipe
from limner.recipes.gan import augmentation_of, refuse_too_large, validators_of
from limner.recipes.presets import MOTION
from limner.recipes.sources import refuse_second
from limner.runs.experiment import Card, Experiment, Product
from limner.runs.options import Options
from limner.sampling.generate import Preview, generate
from limner.training import memory

PRESETS = MOTION
NOISE = "normal"  # the angle of two normal numbers, the time, is uniform
ROWS, COLUMNS = 8, 8  # clips of the preview, and frames of each
FEW = 20  # clips
MEANINGLESS = ("labels", "captions", "classes_from", "unconditional", "halves", "drop_duplicates")


def load_data(recipe: MotionRecipe, request: DataRequest, progress: Progress | None = None) -> ClipPictures:
    """Return the clips of a generator. Raises ValueError for unreadable data and meaningless options."""
    request.refuse(MEANINGLESS, "to a recipe that is trained on clips")
    refuse_second(request)
    return ClipPictures(prepare_clips(request.data, loop=recipe.loop, progress=progress, **request.shape()))


def build(name: str, recipe: MotionRecipe, dataset: ClipPictures, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is free."""
    spec, clips = dataset.spec, dataset.clips
    if recipe.generator.vectors or recipe.discriminator.vectors:
        raise ValueError("The vectors of classes are those of groups, which clips do not have: leave vectors out.")
    policy = augmentation_of(recipe.augmentation, clips.frames)
    refuse_too_large(
        recipe, spec, machine,
        lambda: method_of(recipe, spec, torch.device("meta")).method.nets, lambda nets: other_passes(spec, nets),
    )  # fmt: skip
    torch.manual_seed(options.seed)
    algorithm = method_of(recipe, spec, machine.device, policy)
    training, held_out = split(clips, options.seed) if options.doctor else (clips, None)
    shown = training.pictures()
    probe = None
    if options.doctor:
        nets = {name: algorithm.method.nets[name] for name in ("generator", "discriminator")}
        probe = GANProbe(nets, NOISE, shown, held_out.pictures() if held_out else None, False, options.seed, machine)
    network = describe("motion", recipe.generator) | {"noise": NOISE, "period": round(clips.period, 4)}
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=algorithm.method,
        optimizers={player: getattr(recipe, f"{player}_optimizer") for player in algorithm.method.players},
        product=Product(
            kind="generator", network="generator", description=network, preview=preview_of(algorithm.generator.z_size, machine), card=CARD
        ),
        validators=validators_of(clips.frames, load_image_set(clips.frames), NOISE, options, machine),
        probe=probe,
        held_out_count=len(held_out.pictures()) if held_out else 0,
        notes=notes_of(clips, held_out, policy),
    )


def method_of(recipe: MotionRecipe, spec: ImageSpec, device: torch.device, augmentation: str = "none") -> MotionGAN:
    """Return the algorithm of a recipe for frames of `spec`, with new networks on the device."""

    def on_device(net: nn.Module) -> nn.Module:
        return net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    generator = motion.Generator(spec, recipe.generator)
    on_device(generator)
    encoder = motion.Encoder(spec, generator.z_size, recipe.encoder) if recipe.reconstruction else None
    if encoder:
        on_device(encoder)
    return MotionGAN(
        generator,
        on_device(motion.Discriminator(spec, recipe.discriminator)),
        on_device(motion.pair_discriminator(spec, recipe.pair_discriminator)),
        objective(recipe.objective),
        encoder=encoder,
        pair_weight=recipe.pair_weight,
        reconstruction=recipe.reconstruction,
        kl=recipe.kl,
        augmentation=Augmentation(augmentation, flip=recipe.flip),
    )


def other_passes(spec: ImageSpec, nets: Mapping[str, nn.Module]) -> list[memory.Pass]:
    """Return the passes of an iteration besides one of the generator and one of the discriminator, on the current device."""
    n, (height, width) = memory.ROWS, spec.size
    z = torch.empty(n, int(nets["generator"].z_size))  # type: ignore[arg-type]
    pair, distance = torch.empty(n, 2 * spec.channels, height, width), motion.distance_features(torch.zeros(n))
    return [
        memory.Pass(nets["generator"], (z,)),  # of the second frame
        memory.Pass(nets["pair_discriminator"], (pair, distance)),
        *([memory.Pass(nets["encoder"], (pair, distance, torch.zeros(n)))] if "encoder" in nets else []),
    ]


def preview_of(z_size: int, machine: Machine) -> Preview:
    """Rows of frames: each row is a clip of one period, from a fixed latent."""
    return lambda network: clip_rows(network, latents.draw(np.random.default_rng(0), ROWS, z_size, NOISE), COLUMNS, machine)


def clip_rows(network: nn.Module, z: Tensor, frames: int, machine: Machine) -> np.ndarray:
    """Return frames evenly spaced in a period, uint8 [n*frames,C,H,W], those of the first latent first. z: [n,Z]"""
    assert isinstance(network, Moving)
    t = torch.arange(frames).repeat(len(z)) / frames
    return generate(network, network.moved(z.repeat_interleave(frames, 0), t), None, machine.device, machine.precision).numpy()


def notes_of(clips: Clips, held_out: Clips | None, policy: str) -> list[str]:
    """Return sentences for people about the data. policy: of augmentation."""
    notes = []
    if len(clips) < FEW:
        notes.append(f"{counted(len(clips), 'clip is', 'clips are')} few: expect motions that stay close to them.")
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'clip is', 'clips are')} held out for the doctor; --no-doctor trains on them too.")
    return [*notes, *([f"Augmentation {policy}."] if policy != "none" else [])]


CARD = Card(
    tags="video-generation, gan",
    usage="""\
    limner sample THIS_FOLDER -n 16 --out clips.gif --loop
    limner animate THIS_FOLDER photo.png --out moving.gif
""",
)

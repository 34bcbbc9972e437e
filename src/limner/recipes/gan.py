"""Adversarial generators: every decision of such a run, and the presets that people choose by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core import latents
from limner.core.device import autocast
from limner.core.images import ImageSpec, to_uint8
from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.scan import too_few
from limner.losses.adversarial import objective
from limner.losses.penalties import weight_for
from limner.methods.gan import GAN
from limner.methods.memory import Adaptive
from limner.monitor import probes
from limner.networks import architecture, describe
from limner.networks.classifier import Classifier
from limner.networks.contracts import StyleBased, UsesReferenceBatch
from limner.recipes.config import Recipe
from limner.recipes.presets import GANS
from limner.runs.options import Options
from limner.runs.run import Job, Trained, play
from limner.training import memory
from limner.training.loop import Callback

SMALL_SET = 5_000  # pictures; fewer than this and the discriminator sees augmented ones
AT_ONCE = 32  # samples of one pass beside training: what fits while training fits


RECIPES = (Recipe,)

PRESETS = GANS


def train(
    name: str,
    recipe: Recipe,
    dataset: Dataset,
    options: Options,
    machine: Machine,
    why: str = "",
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train a generator on the dataset; returns its run folder. Raises ValueError as `session.play` does."""
    spec = dataset.spec
    policy = recipe.augmentation
    if policy == "auto":
        policy = "light" if len(dataset) < SMALL_SET else "none"
    refuse_too_large(recipe, spec, machine)
    torch.manual_seed(options.seed)
    method = game(recipe, spec, machine.device, policy)
    generator: Any = method.nets["generator"]

    pictures, held = probes.held_out_of(dataset, options.seed) if options.doctor else (dataset, None)
    examine = None
    if options.doctor:
        examine = probes.GameCheckup(method, pictures, held, spec.classes > 0, options.seed, machine)

    def stream(first: int, count: int) -> dict[str, torch.Tensor]:
        images, labels = pictures.batch(first, count, options.seed)
        return {"image": images} if labels is None or not spec.classes else {"image": images, "label": labels}

    notes = [note for note in (too_few(len(dataset)), why) if note]
    if recipe.penalty != "none":
        notes.append(f"Penalty {recipe.penalty} with gamma {method.gamma:.3g}.")
    if held is not None:
        notes.append(f"{len(held):,} pictures are kept aside for the doctor; --no-doctor trains on them too.")
    if policy != "none":
        notes.append(
            f"Augmentation {policy}: the set is small." if recipe.augmentation == "auto" else f"Augmentation {policy}."
        )
    job = Job(
        name=name,
        recipe=recipe,
        dataset=dataset,
        options=options,
        method=method,
        stream=stream,
        optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        network=describe(recipe.architecture, recipe.generator) | {"noise": recipe.noise},
        published="generator",
        kind="generator",
        preview=preview_of(generator.z_size, spec.classes, recipe.noise, machine.device),
        generate=generator_of(dataset.labels if spec.classes else None, recipe.noise, machine),
        notes=notes,
        examine=examine,
        held_out_count=len(held) if held is not None else 0,
        callbacks=callbacks,
    )
    return play(job, machine)


def refuse_too_large(recipe: Recipe, spec: ImageSpec, machine: Machine) -> None:
    """Raises ValueError where training needs more memory than is free, before any of it is asked for."""
    with torch.device("meta"):
        nets = players(recipe, spec)
        z = torch.empty(memory.ROWS, int(nets["generator"].z_size))  # type: ignore[arg-type]
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
        y = torch.zeros(memory.ROWS, dtype=torch.long) if spec.classes else None
        labels = y if not recipe.classifier else None
        kept = memory.of_activations(nets["generator"], (z, y)) + memory.of_activations(nets["discriminator"], (x, labels))
    share = -(-recipe.batch // machine.ranks.world)
    rows = min(recipe.micro_batch or share, share)
    width = 2 if machine.precision == torch.float32 else 4  # activations may be half as wide as on the meta device
    pictures = recipe.batch * z.shape[1] * 4 + share * spec.channels * spec.height * spec.width * 5
    memory.refuse_beyond(
        {
            "weights and their optimizers": (memory.of_parameters(nets.values(), [nets["generator"]]), "--generator.width, --discriminator.width or --size"),
            "what one pass keeps": (rows * kept * 2 // width, "--batch, --size, --generator.width or --discriminator.width, or pass fewer at once (--micro-batch 8)"),
            "a batch": (pictures, "--batch"),
        },
        machine.device,
    )


def players(recipe: Recipe, spec: ImageSpec) -> dict[str, nn.Module]:
    """The networks of a recipe for pictures of `spec`: generator, discriminator, and a classifier where one is asked for.

    Raises ValueError for options of another architecture, for styles mixed where there are none, and for a classifier of
    data without classes.
    """
    home = architecture(recipe.architecture)
    for name, form in (("generator", home.GeneratorConfig), ("discriminator", home.DiscriminatorConfig)):
        if not isinstance(getattr(recipe, name), form):
            raise ValueError(f"The options of the {name} are not those of {recipe.architecture}.")
    generator = home.Generator(spec, recipe.generator)
    if recipe.mixing and not isinstance(generator, StyleBased):
        raise ValueError(f"The generator of {recipe.architecture} has no styles to mix: choose --mixing 0.")
    if recipe.regularizer == "path-length" and not isinstance(generator, StyleBased):
        raise ValueError(
            f"The generator of {recipe.architecture} has no styles, of which path-length is the path: choose another "
            "--regularizer, or the recipe stylegan2."
        )
    if isinstance(generator, UsesReferenceBatch):
        generator.refer(lambda z: latents.transform(z, recipe.noise))
    if not recipe.classifier:
        return {"generator": generator, "discriminator": home.Discriminator(spec, recipe.discriminator)}
    if spec.classes < 2:
        raise ValueError(
            "The classifier names classes, and these pictures have none: put each class into a folder of its own, name "
            "them with --labels, or choose --classifier 0 (recipe acgan: another recipe, such as dcgan)."
        )
    discriminator = home.Discriminator(dataclasses.replace(spec, classes=0), recipe.discriminator)
    return {"generator": generator, "discriminator": discriminator, "classifier": Classifier(discriminator, spec.classes)}


def game(recipe: Recipe, spec: ImageSpec, device: torch.device, augmentation: str = "none") -> GAN:
    """The game of a recipe on pictures of `spec`, its networks fresh on the device. Raises ValueError as `players` does."""
    nets = players(recipe, spec)
    for net in nets.values():
        net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    gamma = recipe.gamma
    if gamma is None:
        gamma = weight_for(recipe.penalty, spec.height, spec.width, recipe.batch)
    return GAN(
        nets["generator"],
        nets["discriminator"],
        objective(recipe.objective),
        penalty=recipe.penalty,
        gamma=gamma,
        penalty_every=recipe.penalty_every,
        regularizer=recipe.regularizer,
        regularizer_weight=recipe.regularizer_weight,
        regularizer_every=recipe.regularizer_every,
        augmentation=augmentation,
        controller=Adaptive(recipe.ada_target, recipe.ada_images),
        flip=recipe.flip,
        discriminator_steps=recipe.discriminator_steps,
        clip_weights=recipe.weight_clip,
        historical=recipe.historical,
        mixing=recipe.mixing,
        noise=recipe.noise,
        classifier=nets.get("classifier"),
        classifier_weight=recipe.classifier,
    )


def preview_of(z_size: int, classes: int, noise: str, device: torch.device) -> Callable[[nn.Module], np.ndarray]:
    """Eight columns of samples from fixed latents; with classes, every row is one class (at most ten rows)."""
    rows = min(classes, 10) if classes > 1 else 8
    z = latents.draw(np.random.default_rng(0), rows * 8, z_size, noise).to(device)
    y = (torch.arange(rows, device=device) * classes // rows).repeat_interleave(8) if classes else None

    @torch.no_grad()
    def preview(generator: nn.Module) -> np.ndarray:
        some = z.split(AT_ONCE)
        labels = [None] * len(some) if y is None else y.split(AT_ONCE)
        parts = [to_uint8(generator(z, y)).cpu() for z, y in zip(some, labels, strict=True)]
        return torch.cat(parts).numpy()

    return preview


def generator_of(
    labels: torch.Tensor | None, noise: str, machine: Machine
) -> Callable[[nn.Module, int], np.ndarray]:
    """(generator, n) -> n samples from fixed latents, uint8 [n,C,H,W]; classes as frequent as in `labels`, the data's."""

    @torch.no_grad()
    def generate(generator: nn.Module, n: int) -> np.ndarray:
        rng, parts = np.random.default_rng(1), []
        for start in range(0, n, AT_ONCE):
            rows = min(AT_ONCE, n - start)
            z_size = int(generator.z_size)  # type: ignore[arg-type]
            z = latents.draw(rng, rows, z_size, noise).to(machine.device)
            drawn = None if labels is None else labels[torch.from_numpy(rng.integers(0, len(labels), rows))]
            y = None if drawn is None else drawn.to(machine.device)
            with autocast(machine.device, machine.precision):
                parts.append(to_uint8(generator(z, y)).cpu().numpy())
        return np.concatenate(parts)

    return generate

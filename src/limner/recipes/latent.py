"""Generators in the latents of an autoencoder: from a recipe and a data set to an experiment; the presets by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from limner.core.device import on_meta
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.split import split
from limner.evaluation import load_image_set
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.methods.latent_gan import LatentGAN, PictureDiscriminator
from limner.methods.terms import Augmentation, LatentSource
from limner.monitor.probes import GANProbe
from limner.networks import describe, latent
from limner.recipes.config import LatentRecipe
from limner.recipes.gan import augmentation_of, notes_of, product_of, validators_of
from limner.recipes.presets import LATENT_GANS
from limner.runs.experiment import Experiment
from limner.runs.options import Options
from limner.training import memory

PRESETS = LATENT_GANS


def build(name: str, recipe: LatentRecipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is free."""
    spec = dataset.spec
    policy = augmentation_of(recipe.augmentation, dataset)
    refuse_too_large(recipe, spec, machine)
    torch.manual_seed(options.seed)
    algorithm = method_of(recipe, spec, machine.device, policy)
    training, held_out = split(dataset, options.seed) if options.doctor else (dataset, None)
    probe = None
    if options.doctor:
        of_pictures = PictureDiscriminator(algorithm.encoder, algorithm.gan.discriminator)  # type: ignore[arg-type]
        nets = {"generator": algorithm.generator, "discriminator": of_pictures}
        probe = GANProbe(nets, recipe.noise, training, held_out, spec.classes > 0, options.seed, machine)
    share = f"The first {recipe.autoencoder_share:.0%} of the images train the autoencoder; until then samples show nothing."
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=algorithm.method,
        optimizers={
            "autoencoder": recipe.autoencoder_optimizer,
            "discriminator": recipe.discriminator_optimizer,
            "generator": recipe.generator_optimizer,
        },
        product=product_of(algorithm.generator, training, held_out, describe("latent", recipe.generator), recipe.noise, machine),
        validators=validators_of(dataset, load_image_set(dataset), recipe.noise, options, machine),
        probe=probe,
        held_out_count=0 if held_out is None else len(held_out),
        notes=[share, *notes_of(dataset, held_out, recipe.augmentation, policy)],
    )


def nets_of(recipe: LatentRecipe, spec: ImageSpec) -> tuple[latent.Generator, latent.Encoder, latent.Discriminator]:
    """Return the networks of a recipe for pictures of `spec`."""
    options = recipe.generator
    return latent.Generator(spec, options), latent.Encoder(spec, options), latent.Discriminator(spec, options, recipe.discriminator)


def method_of(recipe: LatentRecipe, spec: ImageSpec, device: torch.device, augmentation: str = "none") -> LatentGAN:
    """Return the algorithm of a recipe for pictures of `spec`, with new networks on the device."""
    nets: tuple[Any, ...] = nets_of(recipe, spec)
    generator, encoder, discriminator = (net.to(device, memory_format=torch.channels_last) for net in nets)
    gan = GAN(generator.latents, discriminator, objective(recipe.objective), latent=LatentSource(recipe.noise))
    return LatentGAN(
        generator, encoder, gan,
        share=recipe.autoencoder_share, noise=recipe.latent_noise, augmentation=Augmentation(augmentation, flip=recipe.flip),
    )  # fmt: skip


def refuse_too_large(recipe: LatentRecipe, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    with on_meta():
        generator, encoder, _ = nets_of(recipe, spec)
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
        latents = torch.empty(memory.ROWS, recipe.generator.latent_channels, *latent.latent_size(spec, recipe.generator))
    passes = [memory.Pass(encoder, (x,)), memory.Pass(generator.decoder, (latents,))]
    kept: list[nn.Module] = [generator]
    memory.refuse_too_large(passes, kept, spec, recipe.batch, recipe.micro_batch, machine)

"""Generative adversarial networks: from a recipe and a data set to an experiment; the presets by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sized
from typing import Any

import torch
from torch import nn

from limner.core import latents
from limner.core.condition import Condition
from limner.core.device import on_meta
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.data.scan import too_few
from limner.data.split import split
from limner.evaluation import ImageSet, load_image_set
from limner.losses.adversarial import objective
from limner.losses.penalties import weight_for
from limner.methods.gan import GAN
from limner.methods.memory import Adaptive
from limner.methods.terms import Augmentation, ClassifierTerm, LatentSource, PenaltyTerm, RegularizerTerm
from limner.monitor import probes
from limner.networks import architecture, describe
from limner.networks.classifier import Classifier
from limner.networks.contracts import StyleBased, UsesReferenceBatch
from limner.recipes.config import MotionRecipe, Recipe, TextRecipe
from limner.recipes.groups import KeepGroups, give_vectors, grouped, into_groups, with_vectors
from limner.recipes.presets import GANS
from limner.runs.copies import copy_check
from limner.runs.experiment import Card, Experiment, Product, Validator
from limner.runs.options import Options
from limner.runs.run import run_folder
from limner.runs.validate import FEATURES, Sample, choose_metric, frechet
from limner.sampling.generate import preview_of, sampler_of
from limner.training import memory

SMALL_SET = 5_000  # pictures; augmentation `auto` augments smaller sets

PRESETS = GANS


def build(name: str, recipe: Recipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is free."""
    reference = load_image_set(dataset)  # no features are learned from groups
    kept: KeepGroups | None = None
    if recipe.groups:
        dataset, kept = into_groups(dataset, recipe.groups, run_folder(options, dataset, name))
        recipe = with_vectors(recipe, kept.groups)
    elif getattr(recipe.generator, "vectors", 0) or getattr(recipe.discriminator, "vectors", 0):
        raise ValueError("The vectors of classes are those of groups: give --groups 1000, and leave vectors out.")
    spec = dataset.spec
    policy = augmentation_of(recipe.augmentation, dataset)
    refuse_too_large(recipe, spec, machine, lambda: players(recipe, spec))
    torch.manual_seed(options.seed)
    gan = gan_of(recipe, spec, machine.device, policy)
    if kept:
        for net in (gan.generator, gan.discriminator):
            give_vectors(net, kept.groups)
    training, held_out = split(dataset, options.seed) if options.doctor else (dataset, None)
    if kept and isinstance(held_out, Dataset):  # a validation split of the data's own
        held_out = grouped(held_out, kept.groups.of(held_out.images), len(kept.groups.centers))
    product = product_of(gan.generator, training, held_out, describe(recipe.architecture, recipe.generator), recipe.noise, machine)
    if kept:
        stand_in = f"{len(dataset.classes)} groups of similar pictures, found before the training, stand for classes."
        product = dataclasses.replace(product, card=dataclasses.replace(product.card, classes=stand_in))
    notes = [f"Penalty {recipe.penalty} with gamma {gan.penalty.weight:.3g}."] if gan.penalty else []
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=gan.method,
        optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        product=product,
        validators=validators_of(dataset, reference, recipe.noise, options, machine),
        probe=probes.GANProbe(gan.method.nets, gan.latent.distribution, training, held_out, spec.classes > 0, options.seed, machine) if options.doctor else None,
        held_out_count=0 if held_out is None else len(held_out),
        callbacks=[kept] if kept else [],
        notes=[*notes, *notes_of(dataset, held_out, recipe.augmentation, policy)],
    )


def augmentation_of(policy: str, dataset: Sized) -> str:
    """Return the augmentation policy, with the choice of `auto`."""
    return ("light" if len(dataset) < SMALL_SET else "none") if policy == "auto" else policy


def product_of(
    generator: nn.Module,
    training: Dataset | Subset,
    held_out: Dataset | Subset | None,
    description: dict[str, Any],
    noise: str,
    machine: Machine,
) -> Product:
    """Return the product of a run: a generator. training, held_out: its pictures. description: of its network, as `networks.describe`
    gives it."""
    spec = training.spec
    sample = sampler_of(training.labels if spec.classes else None, noise, machine)
    return Product(
        kind="generator",
        network="generator",
        description=description | {"noise": noise},
        preview=preview_of(int(generator.z_size), spec.classes, noise, machine),  # type: ignore[arg-type]
        card=CARD,
        copies=copy_check(sample, training, held_out),
    )


def validators_of(dataset: Dataset, reference: ImageSet, noise: str, options: Options, machine: Machine) -> list[Validator]:
    """Return the validators of generators of classes as frequent as in the data: `distances_of` from the reference."""
    sample = sampler_of(dataset.labels if dataset.spec.classes else None, noise, machine)
    return distances_of(sample, reference, options)


def distances_of(sample: Sample, reference: ImageSet, options: Options) -> list[Validator]:
    """Return the Fréchet distance of samples from a reference as a validator, if it is wanted and there are pictures enough."""
    features = choose_metric(options.metric, FEATURES, "generator")
    validator = frechet(sample, reference, features) if features else None
    return [validator] if validator else []


def notes_of(dataset: Sized, held_out: Sized | None, augmentation: str, policy: str) -> list[str]:
    """Return sentences for people about the data. augmentation: as in the recipe; policy: what it means for this data."""
    notes = [note for note in (too_few(len(dataset)),) if note]
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'picture is', 'pictures are')} held out for the doctor; --no-doctor trains on them too.")
    if policy != "none":
        notes.append(f"Augmentation {policy}: the set is small." if augmentation == "auto" else f"Augmentation {policy}.")
    return notes


CARD = Card(
    tags="image-generation, gan",
    usage="""\
    limner sample THIS_FOLDER -n 64 --out grid.png

    import limner
    model = limner.load("THIS_FOLDER")
    model.sample(16, seed=0).save("grid.png")
""",
)


def refuse_too_large(
    recipe: Recipe | TextRecipe | MotionRecipe,
    spec: ImageSpec,
    machine: Machine,
    nets_of: Callable[[], Mapping[str, nn.Module]],
    others: Callable[[Mapping[str, nn.Module]], list[memory.Pass]] = lambda nets: [],
) -> None:
    """Raise ValueError when training needs more memory than is free.

    nets_of: builds the networks, a generator and a discriminator among them, on the current device. others: the passes of an
    iteration besides one of each of those two.
    """
    with on_meta():
        nets = nets_of()
        generator, discriminator = nets["generator"], nets["discriminator"]
        z = torch.empty(memory.ROWS, int(generator.z_size))  # type: ignore[arg-type]
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
        c = spec.condition.examples(memory.ROWS)
        passes = [memory.Pass(generator, (z, c)), memory.Pass(discriminator, (x, None if "classifier" in nets else c)), *others(nets)]
    memory.refuse_too_large(passes, [generator], spec, recipe.batch, recipe.micro_batch, machine)


def players(recipe: Recipe, spec: ImageSpec) -> dict[str, nn.Module]:
    """Return the networks of a recipe for pictures of `spec`: generator, discriminator, and a classifier if it has one.

    Raises ValueError for options of another architecture, for style mixing without styles, and for a classifier of data
    without classes.
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
            f"The generator of {recipe.architecture} has no styles, which path-length regularizes: choose another --regularizer, "
            "or the recipe stylegan2."
        )
    if isinstance(generator, UsesReferenceBatch):
        generator.refer(lambda z: latents.transform(z, recipe.noise))
    if not recipe.classifier:
        return {"generator": generator, "discriminator": home.Discriminator(spec, recipe.discriminator)}
    if spec.classes < 2:
        raise ValueError(
            "The classifier needs classes, and these pictures have none: put each class into a folder of its own, give them with "
            "--labels, or choose --classifier 0 (recipe acgan: another recipe, such as dcgan)."
        )
    discriminator = home.Discriminator(dataclasses.replace(spec, condition=Condition.none()), recipe.discriminator)
    return {"generator": generator, "discriminator": discriminator, "classifier": Classifier(discriminator, spec.classes)}


def gan_of(recipe: Recipe, spec: ImageSpec, device: torch.device, augmentation: str = "none") -> GAN:
    """Return the GAN of a recipe for pictures of `spec`, with new networks on the device. Raises ValueError as `players` does."""
    nets = players(recipe, spec)
    for net in nets.values():
        net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    gamma = recipe.gamma
    if gamma is None:
        gamma = weight_for(recipe.penalty, spec.height, spec.width, recipe.batch)
    ada = Adaptive(recipe.ada_target, recipe.ada_images)
    return GAN(
        nets["generator"],
        nets["discriminator"],
        objective(recipe.objective),
        penalty=PenaltyTerm.of(recipe.penalty, gamma, recipe.penalty_every),
        regularizer=RegularizerTerm.of(recipe.regularizer, recipe.regularizer_weight, recipe.regularizer_every),
        classifier=ClassifierTerm(nets["classifier"], recipe.classifier) if recipe.classifier else None,
        historical=recipe.historical,
        augmentation=Augmentation(augmentation, ada if augmentation == "ada" else None, recipe.flip),
        latent=LatentSource(recipe.noise, recipe.mixing),
        discriminator_steps=recipe.discriminator_steps,
        weight_clip=recipe.weight_clip,
    )

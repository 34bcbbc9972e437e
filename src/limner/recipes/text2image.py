"""Text-to-image generators: from a recipe and captioned pictures to an experiment; the presets by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core import latents
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.tokenizer import Tokenizer
from limner.core.wordllama import AnyTokenizer, WordLlama, installed
from limner.data import open_source, prepare
from limner.data.captioned import Captioned, with_captions
from limner.data.captions import read_captions
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.data.split import split
from limner.evaluation import ImageSet
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.methods.terms import Augmentation, LatentSource
from limner.methods.text_gan import TextGAN
from limner.monitor.probes import GANProbe
from limner.networks import describe, text2image
from limner.networks.inference import inference_form
from limner.recipes.automatic import GAIN, LR, patches_of
from limner.recipes.config import TextRecipe
from limner.recipes.gan import augmentation_of, distances_of, notes_of, refuse_too_large
from limner.recipes.presets import TEXT_TO_IMAGE
from limner.recipes.sources import refuse_second
from limner.runs.experiment import Card, Experiment, Product, Validator
from limner.runs.options import Options
from limner.sampling.generate import Preview, generate, sampler_of

RECIPES = (TextRecipe,)
PRESETS = TEXT_TO_IMAGE
SHOWN, COLUMNS = 8, 8  # captions of a preview, and pictures of each
CAPTIONS = 2_000  # that the samples of a validation are drawn for

CARD = Card(
    tags="text-to-image, gan",
    usage="""\
    limner sample THIS_FOLDER --text "{caption}" -n 16 --out samples.png

    import limner
    model = limner.load("THIS_FOLDER")
    model.sample(16, text="{caption}").save("samples.png")
""",
)


def load_data(recipe: TextRecipe, request: DataRequest, progress: Progress | None = None) -> Captioned:
    """Return captioned pictures. Raises ValueError for unreadable data, for pictures without captions, and for
    meaningless options."""
    request.refuse(("labels", "classes_from", "unconditional", "halves"), "to a recipe that is trained on captions")
    refuse_second(request)
    tokenizer = tokenizer_for(recipe)
    source = open_source(request.data, labels=False)
    dataset = prepare(source, drop_duplicates=request.drop_duplicates, progress=progress, **request.shape())
    captions, origin = read_captions(source, dataset.names, request.captions)
    return with_captions(dataset, captions, origin, tokenizer, request.captions)


def tokenizer_for(recipe: TextRecipe) -> AnyTokenizer:
    """Return the tokenizer of a recipe. Raises ValueError for frozen vectors that are not installed."""
    if recipe.embeddings == "hashed":
        return Tokenizer(recipe.vocabulary, recipe.words, recipe.generator.word_tokens)
    installed()
    return WordLlama(recipe.words)


def for_size(recipe: TextRecipe, spec: ImageSpec) -> TextRecipe:
    """Return the recipe with the patches, upsampling, gain and learning rate that `auto` chooses for larger pictures.

    What differs from the defaults stays as it is: those are for pictures of up to about 45 pixels.
    """
    (patch, seen), plain = patches_of(spec), TextRecipe()
    if patch == 1 or (recipe.generator.patch, recipe.discriminator.patch) != (1, 1):
        return recipe
    g, d, lr = recipe.generator, recipe.discriminator, recipe.generator_optimizer
    return dataclasses.replace(
        recipe,
        generator=dataclasses.replace(g, patch=patch, upsampling="nearest"),
        discriminator=dataclasses.replace(d, patch=seen, gain=GAIN if d.gain == plain.discriminator.gain else d.gain),
        generator_optimizer=dataclasses.replace(lr, lr=LR if lr == plain.generator_optimizer else lr.lr),
    )


def build(name: str, recipe: TextRecipe, dataset: Captioned, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict or need more memory than is
    free."""
    spec, recipe = dataset.spec, for_size(recipe, dataset.spec)
    policy = augmentation_of(recipe.augmentation, dataset)
    refuse_too_large(recipe, spec, machine, lambda: players(recipe, spec))
    torch.manual_seed(options.seed)
    algorithm = method_of(recipe, spec, machine.device, policy)
    training, held_out = split(dataset, options.seed) if options.doctor else (dataset, None)
    if not training.has_other:  # every picture with another caption was held out
        training, held_out = dataset, None
    nets = algorithm.method.nets
    shown = shown_captions(held_out or training)
    where = "captions of held-out pictures" if held_out else "captions of the pictures"
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=algorithm.method,
        optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        product=product_of(algorithm.generator, recipe, dataset.tokenizer, shown, machine),
        validators=validators_of(dataset, recipe.noise, options, machine),
        probe=GANProbe(nets, recipe.noise, training, held_out, True, options.seed, machine) if options.doctor else None,
        held_out_count=0 if held_out is None else len(held_out),
        notes=[
            *notes_of(dataset, held_out, recipe.augmentation, policy),
            f"The rows of the preview are {where}: {'; '.join(shown)}.",
        ],
    )


def shown_captions(pictures: Captioned) -> list[str]:
    """Return up to SHOWN different captions, spread evenly over the pictures, for the preview."""
    rows = np.linspace(0, len(pictures) - 1, min(4 * SHOWN, len(pictures))).astype(int)
    found = list(dict.fromkeys(pictures.captions[row][0] for row in rows))
    return [found[i] for i in np.linspace(0, len(found) - 1, min(SHOWN, len(found))).astype(int)]


def product_of(
    generator: nn.Module, recipe: TextRecipe, tokenizer: AnyTokenizer, shown: Sequence[str], machine: Machine
) -> Product:
    """Return the product of a run. shown: the captions of the preview, which a sample without a text uses too."""
    described: dict[str, Any] = describe("text2image", recipe.generator)
    described |= {"noise": recipe.noise, "tokenizer": tokenizer.to_json(), "captions": list(shown)}
    needed = "    pip install 'limner[text]'\n" if recipe.embeddings == "wordllama" else ""
    example = shown[0].replace('"', "'").replace("{", "(").replace("}", ")")
    return Product(
        kind="text-to-image generator",
        network="generator",
        description=described,
        preview=preview_of(tokenizer.encode(shown), recipe, machine),
        card=dataclasses.replace(CARD, usage=needed + CARD.usage.format(caption=example)),
    )


def preview_of(texts: torch.Tensor, recipe: TextRecipe, machine: Machine) -> Preview:
    """Rows of samples from fixed latents, the same in each row: a row for each of texts [R,...]."""
    z = latents.draw(np.random.default_rng(0), COLUMNS, recipe.generator.z_size, recipe.noise).repeat(len(texts), 1)
    c = texts.repeat_interleave(COLUMNS, 0)
    return lambda generator: generate(
        inference_form(generator, machine.precision), z, c, machine.device, machine.precision
    ).numpy()


def validators_of(dataset: Captioned, noise: str, options: Options, machine: Machine) -> list[Validator]:
    """Return a Fréchet distance of samples for captions of the set, if it is wanted and there are pictures enough."""
    sample = sampler_of(dataset.some_texts(CAPTIONS), noise, machine)
    return distances_of(sample, ImageSet(dataset.images, None, (), dataset.name), options)


def players(recipe: TextRecipe, spec: ImageSpec) -> dict[str, nn.Module]:
    """Return the generator and the discriminator of a recipe for pictures of `spec`."""
    discriminator = text2image.Discriminator(spec, recipe.discriminator, recipe.generator.word_tokens)
    return {"generator": text2image.Generator(spec, recipe.generator), "discriminator": discriminator}


def method_of(recipe: TextRecipe, spec: ImageSpec, device: torch.device, augmentation: str = "none") -> TextGAN:
    """Return the algorithm of a recipe for pictures of `spec`, with new networks on the device."""
    generator, discriminator = (net.to(device, memory_format=torch.channels_last) for net in players(recipe, spec).values())  # type: ignore[call-overload]
    gan = GAN(
        generator, discriminator, objective(recipe.objective),
        augmentation=Augmentation(augmentation, flip=recipe.flip), latent=LatentSource(recipe.noise),
    )  # fmt: skip
    return TextGAN(gan, recipe.mismatch)

"""Architectures, one file each: two networks, the config of each (`core.options`), their smallest configs and `SOURCE`.

    Generator(spec, config)      (z [N,Z], c | None) -> images [N,C,H,W] in [-1,1];   .z_size is Z
    Discriminator(spec, config)  (x [N,C,H,W], c | None) -> logits [N];   .last is the layer that takes the features

    Encoder, Discriminator    of latents, beside the Generator   (latent)
    SentenceEncoder           of texts, in both networks   (text2image)
    PairGenerator, pair_discriminator   of two frames, beside the Generator   (motion)
    Translator(spec, Config)  x [N,C,H,W] -> the same shape, of any size   (unet, resnet)
    Autoencoder(spec, Config) x -> its reconstruction; .encode(x), .decode(latent)   (vae, vqvae, instead of the two)
    Restorer(spec, Config, ...) x [N,I,H,W] -> [N,C,sH,sW], of any size   (plain, restoration-unet)
    Codec(spec, Config)       x, quality -> what decoding gives; .analysis, .prior, .synthesis ...   (hyperprior)
    Classifier(spec, Config)  x -> logits [N,K]; .features(x) [N,F]   (convnet)

`spec` (an `ImageSpec`) is what the data decides: any size from 16 up, 1, 3 or 4 channels, and the condition c, which
`networks.condition` embeds. `networks.contracts` states what each network must offer.
A new architecture is a new file and its name in `NAMES`, or an entry point of an installed package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from limner.core.device import on_meta
from limner.core.images import ImageSpec
from limner.core.options import parse
from limner.core.plugins import entries, entry
from limner.core.schema import Mismatch

NAMES = ("mlp", "dcgan", "conv", "sngan", "sagan", "biggan", "progan", "stylegan2", "r3gan", "fastgan")
LATENT = ("latent",)
TEXT_TO_IMAGE = ("text2image",)
MOTION = ("motion",)
AUTOENCODERS = ("vae", "vqvae")
TRANSLATORS = ("unet", "resnet")
CODECS = ("hyperprior",)
CLASSIFIERS = ("convnet",)
DIRECTIONS = ("a2b", "b2a")
RESTORERS = ("plain", "restoration-unet")
PARTS = ("Generator", "GeneratorConfig", "Discriminator", "DiscriminatorConfig")  # what the module of a GAN's architecture holds

C = TypeVar("C")


def architecture_names() -> tuple[str, ...]:
    """Every architecture of a GAN: the built-in ones, then those of installed packages."""
    return (*NAMES, *(added.name for added in entries("limner.architectures")))


def architecture(name: str) -> ModuleType:
    """The module of a GAN's architecture: a built-in one, or what an installed package adds by the entry point
    `limner.architectures`. Raises ValueError for an unknown name, and for a package's module that lacks a part."""
    added = None if name in NAMES else entry("limner.architectures", name)
    if added is None:
        return _one_of(architecture_names(), name)
    home = added.load(ModuleType)
    if missing := [part for part in PARTS if not hasattr(home, part)]:
        raise ValueError(f"{added.package} adds the architecture {name!r}, which has no {missing[0]}: fix or uninstall it.")
    return home


def describe(name: str, config: Any) -> dict[str, Any]:
    """Return the description on disk from which the network can be rebuilt."""
    return {"architecture": name, "config": dataclasses.asdict(config)}


def rebuild_generator(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The generator of a description, on the meta device: no memory is taken and no weight drawn.

    Raises ValueError when the description names an unknown architecture or options that it does not have.
    """
    name = str(description.get("architecture"))
    home = _one_of((*LATENT, *MOTION), name) if name in (*LATENT, *MOTION) else architecture(name)
    return rebuild(description, home.GeneratorConfig, lambda config: home.Generator(spec, config))


def rebuild_text_generator(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The text-to-image generator of a description, as `rebuild_generator` gives a generator.

    Raises ValueError for a description without texts as its condition, too.
    """
    home = _one_of(TEXT_TO_IMAGE, str(description.get("architecture")))
    if spec.condition.kind not in ("tokens", "vector"):
        raise ValueError("The run's limner.json is damaged: it describes a text-to-image generator without texts.")
    return rebuild(description, home.GeneratorConfig, lambda config: home.Generator(spec, config))


def rebuild_autoencoder(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The autoencoder of a description, as `rebuild_generator` gives a generator."""
    home = _one_of(AUTOENCODERS, str(description.get("architecture")))
    return rebuild(description, home.Config, lambda config: home.Autoencoder(spec, config))


def translators(name: str, spec: ImageSpec, config: Any, directions: Sequence[str]) -> nn.ModuleDict:
    """A translator for each direction."""
    home = _one_of(TRANSLATORS, name)
    if not directions or not set(directions) <= set(DIRECTIONS):
        raise ValueError(f"Translators go {' or '.join(DIRECTIONS)}, not {directions}.")
    return nn.ModuleDict({direction: home.Translator(spec, config) for direction in directions})


def rebuild_translators(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The translators of a description, as `rebuild_generator` gives a generator."""
    name = str(description.get("architecture"))
    home = _one_of(TRANSLATORS, name)
    return rebuild(description, home.Config, lambda config: translators(name, spec, config, description["directions"]))


def restorer_inputs(task: str, channels: int) -> int:
    """Input channels of the network of a task: a mask comes with the picture (inpaint), or its luma alone (colorize)."""
    return {"inpaint": channels + 1, "colorize": 1}.get(task, channels)


def restorer(name: str, spec: ImageSpec, config: Any, scale: int, task: str) -> nn.Module:
    """The restorer of an architecture, for a task. Raises ValueError for what the architecture does not do."""
    home = _one_of(RESTORERS, name)
    inputs = restorer_inputs(task, spec.channels)
    if name == "plain" and inputs == spec.channels:
        return home.Restorer(spec, config, scale)
    if name == "plain" or scale != 1:
        raise ValueError(f"The architecture {name!r} does not do {task} at scale {scale}.")
    return home.Restorer(spec, config, inputs)


def rebuild_restorer(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The restorer of a description, as `rebuild_generator` gives a generator."""
    name, scale = str(description.get("architecture")), description.get("scale")
    home = _one_of(RESTORERS, name)
    if not isinstance(scale, int):
        raise ValueError("The run's limner.json is damaged: 'network.scale' must be a whole number.")
    return rebuild(description, home.Config, lambda config: restorer(name, spec, config, scale, description["task"]))


def rebuild_codec(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The codec of a description, as `rebuild_generator` gives a generator."""
    home = _one_of(CODECS, str(description.get("architecture")))
    return rebuild(description, home.Config, lambda config: home.Codec(spec, config))


def rebuild_classifier(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The classifier of a description, as `rebuild_generator` gives a generator."""
    home = _one_of(CLASSIFIERS, str(description.get("architecture")))
    if not spec.classes:
        raise ValueError("The run's limner.json is damaged: it describes a classifier without classes.")
    return rebuild(description, home.Config, lambda config: home.Classifier(spec, config))


def rebuild(description: Mapping[str, Any], config_class: type[C], build: Callable[[C], nn.Module]) -> nn.Module:
    """The network that `build` makes of the config in a description, on the meta device.

    Raises ValueError when the description holds options that the config does not have, or values that no network can have.
    """
    try:
        config = parse(config_class, description["config"], "network.config")
        with on_meta():
            return build(config)
    except Mismatch as error:
        raise ValueError(f"The run's limner.json is damaged: {error}.") from error
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(
            "The run's limner.json describes a network that this Limner cannot build: update Limner, or the file is "
            "damaged."
        ) from error


def _one_of(names: tuple[str, ...], name: str) -> ModuleType:
    if name not in names:
        raise ValueError(f"The architecture {name!r} is unknown: choose one of {', '.join(names)}.")
    return import_module(f"limner.networks.{name.replace('-', '_')}")


def parameter_count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())

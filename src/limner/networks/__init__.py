"""Architectures, one file each: `Config` (what a person decides), `Generator` and `Discriminator`, `TINY`, `SOURCE`.

    Generator(spec, config)      (z [N,Z], c | None) -> images [N,C,H,W] in [-1,1];   .z_size is Z
    Discriminator(spec, config)  (x [N,C,H,W], c | None) -> logits [N];   .last is the layer that takes the features

    Translator(spec, config)  x [N,C,H,W] -> the same shape, of any size   (unet, resnet)
    Autoencoder(spec, config) x -> its reconstruction; .encode(x), .decode(latent)   (vae, vqvae, instead of the two)

`spec` (an `ImageSpec`) is what the data decides: any size from 16 up, 1, 3 or 4 channels, and the condition c, which
`networks.condition` embeds. `networks.contracts` states what each network must offer.
A new architecture is a new file and its name in `NAMES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, get_type_hints

import torch
from torch import nn

from limner.core.images import ImageSpec
from limner.core.plugins import entries, entry
from limner.core.schema import Mismatch, Range, conform

NAMES = ("mlp", "dcgan", "conv", "sngan", "sagan", "biggan", "progan", "stylegan2", "r3gan", "fastgan")
AUTOENCODERS = ("vae", "vqvae")
TRANSLATORS = ("unet", "resnet")
DIRECTIONS = ("a2b", "b2a")


def architecture(name: str) -> ModuleType:
    """The module of a GAN's architecture: a built-in one, or what an installed package adds by the entry point
    `limner.architectures`. Raises ValueError for an unknown name."""
    if name not in NAMES and (added := entry("limner.architectures", name)):
        return added.load()
    return _one_of((*NAMES, *(added.name for added in entries("limner.architectures"))), name)


def describe(name: str, config: Any) -> dict[str, Any]:
    """What a description on disk must hold to build the network again."""
    return {"architecture": name, "config": dataclasses.asdict(config)}


def rebuild_generator(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The generator of a description, on the meta device: no memory is taken and no weight drawn.

    Raises ValueError when the description names an unknown architecture or options that it does not have.
    """
    return _rebuilt(description, lambda: architecture(description["architecture"]), "Generator", spec)


def rebuild_autoencoder(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The autoencoder of a description, as `rebuild_generator` gives a generator."""
    return _rebuilt(description, lambda: _one_of(AUTOENCODERS, description["architecture"]), "Autoencoder", spec)


def translators(name: str, spec: ImageSpec, config: Any, directions: Sequence[str]) -> nn.ModuleDict:
    """A translator for each direction."""
    home = _one_of(TRANSLATORS, name)
    if not directions or not set(directions) <= set(DIRECTIONS):
        raise ValueError(f"Translators go {' or '.join(DIRECTIONS)}, not {directions}.")
    return nn.ModuleDict({direction: home.Translator(spec, config) for direction in directions})


def rebuild_translators(spec: ImageSpec, description: Mapping[str, Any]) -> nn.Module:
    """The translators of a description, as `rebuild_generator` gives a generator."""

    def build(spec: ImageSpec, config: Any) -> nn.Module:
        return translators(description["architecture"], spec, config, description["directions"])

    return _rebuilt(description, lambda: _one_of(TRANSLATORS, description["architecture"]), build, spec)


def _one_of(names: tuple[str, ...], name: str) -> ModuleType:
    if name not in names:
        raise ValueError(f"The architecture {name!r} is not known: say one of {', '.join(names)}.")
    return import_module(f"limner.networks.{name}")


def _rebuilt(description: Mapping[str, Any], home: Callable[[], ModuleType], part: Any, spec: ImageSpec) -> nn.Module:
    try:
        module = home()
        config = module.Config(**_checked(module.Config, description["config"]))
        with torch.device("meta"):
            return (part if callable(part) else getattr(module, part))(spec, config)
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(
            "The run's limner.json describes a network that this Limner cannot build: update Limner, or the file is "
            "damaged."
        ) from error


DEEPEST, WIDEST = 256, 65_536  # layers of a stage, and units of a layer, that a description may ask for
LAYERS, MAY_BE_ZERO = ("blocks", "mapping", "halvings"), ("blocks", "halvings", "discrimination")


def _checked(form: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network as a description holds them. Raises ValueError naming the first that is none of `form`'s or
    lies outside what any network takes: layers by the million would be built one by one."""
    hints = get_type_hints(form)
    for name, value in config.items():
        if name not in hints:
            raise ValueError(f"The run's limner.json is damaged: 'network.config' has no option {name!r}.")
        bounds = {int: Range(0 if name in MAY_BE_ZERO else 1, DEEPEST if name in LAYERS else WIDEST), float: Range(0, 1)}
        kind = hints[name]
        try:
            conform(value, Annotated[kind, bounds[kind]] if kind in bounds else kind, f"network.config.{name}")
        except Mismatch as error:
            raise ValueError(f"The run's limner.json is damaged: {error}.") from error
    return dict(config)


def parameter_count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())

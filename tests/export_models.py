"""Untrained models of every family and architecture at the smallest size, as the objects that `limner.load` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limner
from limner.core import artifact
from limner.core.condition import NONE, Condition
from limner.core.images import ImageSpec
from limner.core.tokenizer import Tokenizer
from limner.families import families
from limner.networks import (
    architecture,
    convnet,
    describe,
    hyperprior,
    plain,
    resnet,
    restoration_unet,
    restorer,
    text2image,
    translators,
    unet,
    vae,
    vqvae,
)

CLASSES = Condition.classes(3)


def saved(folder: Path, kind: str, network: nn.Module, name: str, described: dict[str, Any], spec: ImageSpec) -> Any:
    """The model object of a network, saved as a run and loaded again. Buffers and zero weights are random, so that all count."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_var.uniform_(0.5, 2)  # type: ignore[operator, union-attr]
            module.running_mean.normal_()  # type: ignore[operator, union-attr]
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    classes = [f"class {i}" for i in range(spec.classes)]
    description = {
        "limner": limner.__version__, "kind": kind, "recipe": {"name": "test", "discriminator": {}},
        "data": {"name": "noise", "origin": "random numbers", "count": 8, "spec": dataclasses.asdict(spec), "classes": classes},
        "network": {"name": name, **described}, "metrics": {}, "license": None,
        "training": {"images": 1, "budget": 1, "seconds": 1.0, "seed": 0, "machine": "CPU"},
    }  # fmt: skip
    card = "---\nlibrary_name: limner\nlicense: mit\n---\n\n# noise\n"
    artifact.save(folder, {name: network.eval()}, description, card)
    return limner.load(folder, "cpu")


def generator(folder: Path, name: str, condition: Condition = NONE, channels: int = 3, noise: str = "normal", **changes: Any) -> Any:
    home, spec = architecture(name), ImageSpec(channels, 16, 16, condition)
    config = dataclasses.replace(home.TINY_GENERATOR, **changes)
    network = home.Generator(spec, config)
    return saved(folder, "generator", network, "generator", describe(name, config) | {"noise": noise}, spec)


def text_generator(folder: Path, captions: Sequence[str] = ("a red heart", "a dark blue house"), channels: int = 3, **changes: Any) -> Any:
    tokenizer = Tokenizer(vocabulary=200, words=5, word_tokens=12)
    spec, config = ImageSpec(channels, 16, 16, tokenizer.condition), dataclasses.replace(text2image.TINY_GENERATOR, **changes)
    described = describe("text2image", config) | {"noise": "normal", "tokenizer": tokenizer.to_json(), "captions": list(captions)}
    return saved(folder, "text-to-image generator", text2image.Generator(spec, config), "generator", described, spec)


def autoencoder(folder: Path, name: str, condition: Condition = NONE) -> Any:
    home, spec = {"vae": vae, "vqvae": vqvae}[name], ImageSpec(3, 16, 16, condition)
    return saved(folder, "autoencoder", home.Autoencoder(spec, home.TINY), "autoencoder", describe(name, home.TINY), spec)


def translator(folder: Path, name: str) -> Any:
    home, spec = {"unet": unet, "resnet": resnet}[name], ImageSpec(3, 16, 16)
    network = translators(name, spec, home.TINY, ["a2b", "b2a"])
    return saved(folder, "translator", network, "translators", describe(name, home.TINY) | {"directions": ["a2b", "b2a"]}, spec)


def restored(folder: Path, name: str, task: str, scale: int = 1) -> Any:
    home, spec = {"plain": plain, "restoration-unet": restoration_unet}[name], ImageSpec(3, 16, 16)
    network = restorer(name, spec, home.TINY, scale, task)
    return saved(folder, "restorer", network, "restorer", describe(name, home.TINY) | {"scale": scale, "task": task}, spec)


def codec(folder: Path) -> Any:
    spec = ImageSpec(3, 64, 64)
    network = hyperprior.Codec(spec, hyperprior.TINY)
    return saved(folder, "codec", network, "codec", describe("hyperprior", hyperprior.TINY), spec)


def classifier(folder: Path, norm: str = "weight", channels: int = 3) -> Any:
    config, spec = dataclasses.replace(convnet.TINY, norm=norm), ImageSpec(channels, 16, 16, CLASSES)
    network = convnet.Classifier(spec, config)
    network.temperature.fill_(1.5)
    return saved(folder, "classifier", network, "classifier", describe("convnet", config), spec)


assert set(families()) >= {"generator", "autoencoder", "translator", "restorer", "codec", "classifier"}

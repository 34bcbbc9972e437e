"""Parts that make pictures of latents: generators, decoders of autoencoders, the synthesis of a codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.export.part import COLUMNS, Axes, Part, picture_rows
from limner.apps.export.wrap import (
    ClassStyleGraph,
    DecoderGraph,
    GeneratorGraph,
    PriorGraph,
    StyleGraph,
    SynthesisGraph,
)
from limner.core import latents
from limner.core.condition import TENSORS, Condition

PICTURE = "pixels"


def generator(model: Any) -> Part:
    """(z, the condition if there is one, truncation if style-based) -> pixels"""
    spec, condition = model.spec, model.spec.condition
    inputs: dict[str, Axes] = {"z": ("batch", model.z_size), **_condition_axes(condition)}
    module: nn.Module = GeneratorGraph(model.network, model.noise)
    defaults: dict[str, Tensor] = {}
    if model.has_styles and condition.kind in ("none", "classes"):
        groups = range(condition.size) if condition else [-1]
        model.calibrate(np.arange(condition.size) if condition else None)
        means = torch.stack([model._mean_styles[group] for group in groups])
        module = (ClassStyleGraph if condition else StyleGraph)(model.network, model.noise, means)
        inputs["truncation"], defaults["truncation"] = (1,), torch.ones(1)

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        return torch.from_numpy(latents.normal(rng, n, model.z_size)), *_conditions(condition, rng, n)

    outputs = {PICTURE: ("batch", spec.channels, *spec.size)}
    return Part("generator", module, inputs, outputs, draw, spec.size, defaults=defaults)


def _condition_axes(condition: Condition) -> dict[str, Axes]:
    more = {"none": (), "classes": (), "vector": (condition.size,), "tokens": (condition.length,)}[condition.kind]
    return {TENSORS[condition.kind]: ("batch", *more)} if condition else {}


def _conditions(condition: Condition, rng: np.random.Generator, n: int) -> tuple[Tensor, ...]:
    """Random conditions of n pictures, as networks take them; none where there is no condition."""
    if condition.kind == "classes":
        return (torch.from_numpy(rng.integers(0, condition.size, n)),)
    if condition.kind == "vector":
        return (torch.from_numpy(latents.normal(rng, n, condition.size)),)
    if condition.kind == "tokens":
        return (torch.from_numpy(rng.integers(0, condition.size, (n, condition.length))),)
    return ()


def prior_generator(model: Any) -> Part:
    """(z, chance, label if there are classes) -> pixels: samples of a variational autoencoder"""
    spec, condition = model.spec, model.spec.condition

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        z = torch.from_numpy(latents.normal(rng, n, model.z_size))
        return z, torch.from_numpy(rng.random(n, np.float32)), *_conditions(condition, rng, n)

    inputs: dict[str, Axes] = {"z": ("batch", model.z_size), "chance": ("batch",), **_condition_axes(condition)}
    outputs = {PICTURE: ("batch", spec.channels, *spec.size)}
    return Part("generator", PriorGraph(model.autoencoder), inputs, outputs, draw, spec.size)


def decoder(model: Any) -> Part:
    """latents, or codes -> pixels"""
    spec, network = model.spec, model.autoencoder
    example = network.encode(torch.zeros(1, spec.channels, *spec.size))
    codes = 0 if example.is_floating_point() else len(network.codebook.vectors)

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng, shape = np.random.default_rng(seed), (n, *example.shape[1:])
        made = rng.integers(0, codes, shape) if codes else rng.standard_normal(shape, np.float32)
        return (torch.from_numpy(made),)

    name = "codes" if codes else "latents"
    outputs = {PICTURE: ("batch", spec.channels, *spec.size)}
    return Part("decoder", DecoderGraph(network), {name: ("batch", *example.shape[1:])}, outputs, draw, spec.size)


CODING = "The entropy coder and the exact integers of the prior stay in Limner: `limner decompress` reads .limn files."


def synthesis(model: Any) -> Part:
    """(latents, quality) -> pixels: the last step of a codec's decoder"""
    network, channels = model.network, model.spec.channels
    inputs: dict[str, Axes] = {"latents": ("batch", network.latent_channels, "rows", "columns"), "quality": ("batch",)}

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng, side = np.random.default_rng(seed), (-(-size[0] // 16), -(-size[1] // 16))
        y = rng.standard_normal((n, network.latent_channels, *side), np.float32) * 8
        quality = rng.random(n, np.float32) * (network.qualities - 1)
        return torch.from_numpy(y).round(), torch.from_numpy(quality)

    outputs = {PICTURE: (COLUMNS[0], channels, *COLUMNS[2:])}
    return Part(
        "decoder", SynthesisGraph(network), inputs, outputs, draw, (128, 64), ((64, 64), (64, 192)), picture_rows((128, 64)),
        left_out=(CODING,),
    )  # fmt: skip

"""The parts of a trained model that can be exported: functions of tensors with names, and what their numbers mean.

Pictures are float32 [N,C,H,W] in [0,1], as most programs beside PyTorch take and give them; latents are standard normal whatever
distribution the network was trained on. So `rng.standard_normal` in, `* 255` out is all that a caller needs to know.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.export.wrap import GeneratorGraph, StyleGraph
from limner.core import latents

PIXELS = "pixels"
Draw = Callable[[int, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Part:
    """A function of a trained model.

    module: it, on the CPU in evaluation mode. inputs and outputs: the names of their axes, by name; an axis with a number has that
    size. draw: (n, seed) -> n rows of example inputs. defaults: inputs that may be left out, with the value they then have.
    pictures: names of inputs and outputs that are pictures in [0,1].
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, tuple[str | int, ...]]
    outputs: Mapping[str, tuple[str | int, ...]]
    draw: Draw
    defaults: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: tuple[str, ...] = (PIXELS,)
    left_out: tuple[str, ...] = ()  # what the model object does beside this function, in sentences


def part_of(model: Any, name: str | None = None) -> Part:
    """Return a part of a model by name, by default the one that its kind is used for.

    The part holds a copy of the networks. Raises ValueError for a kind or a name that has none.
    """
    kind = str(model.description["kind"])
    parts = PARTS.get(kind)
    if parts is None:
        raise ValueError(f"{model.folder} holds a {kind}, which Limner cannot export: use its own package.")
    if name is None:
        name = next(iter(parts))
    if name not in parts:
        raise ValueError(f"A {kind} has the parts {', '.join(parts)}, not {name!r}.")
    return parts[name](cpu_copy(model))


def cpu_copy(model: Any) -> Any:
    """Return a copy of a model object whose networks are on the CPU, in evaluation mode and contiguous."""
    copied = copy.deepcopy(model)
    for value in vars(copied).values():
        if isinstance(value, nn.Module):
            value.to("cpu", memory_format=torch.contiguous_format).eval().requires_grad_(False)  # type: ignore[call-overload]
    copied._device = torch.device("cpu")
    copied._precision = torch.float32
    return copied


def generator(model: Any) -> Part:
    """(z, condition if any, truncation if style-based) -> pixels"""
    spec, condition = model.spec, model.spec.condition
    inputs: dict[str, tuple[str | int, ...]] = {"z": ("batch", model.z_size)}
    name = {"classes": "label", "vector": "vector", "tokens": "tokens"}.get(condition.kind)
    if name:
        inputs[name] = ("batch", *{"classes": (), "vector": (condition.size,), "tokens": (condition.length,)}[condition.kind])
    module: nn.Module = GeneratorGraph(model.network, model.noise)
    defaults: dict[str, Tensor] = {}
    if model.has_styles and condition.kind in ("none", "classes"):
        model.calibrate(np.arange(condition.size) if condition else None)
        means = torch.stack([model._mean_styles[group] for group in (range(condition.size) if condition else [-1])])
        module = StyleGraph(model.network, model.noise, means)
        inputs["truncation"] = (1,)
        defaults["truncation"] = torch.ones(1)

    def draw(n: int, seed: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        z = torch.from_numpy(latents.normal(rng, n, model.z_size))
        if condition.kind == "classes":
            return z, torch.from_numpy(rng.integers(0, condition.size, n))
        if condition.kind == "vector":
            return z, torch.from_numpy(latents.normal(rng, n, condition.size))
        if condition.kind == "tokens":
            return z, torch.from_numpy(rng.integers(0, condition.size, (n, condition.length)))
        return (z,)

    return Part("generator", module, inputs, {PIXELS: ("batch", spec.channels, *spec.size)}, draw, defaults)


PARTS: Mapping[str, Mapping[str, Callable[[Any], Part]]] = {
    "generator": {"generator": generator},
}

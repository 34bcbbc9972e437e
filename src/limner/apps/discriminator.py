"""The discriminator of a trained generator, from its run's checkpoint, and the features of its layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limner.core import artifact
from limner.core.condition import NONE
from limner.networks import MOTION, architecture, motion, rebuild


def load_discriminator(model: Any) -> nn.Module:
    """Return the discriminator of a trained generator, frozen, on the model's device: (x [N,C,H,W], c | None) -> logits.

    An AC-GAN's predicts the class and is not given it: it ignores c. Raises ValueError when the run has no checkpoint, as
    where only its published files were copied.
    """
    recipe, spec = model.description["recipe"], model.spec
    if recipe.get("classifier"):
        spec = replace(spec, condition=NONE)
    name = str(model.description["network"]["architecture"])
    home = motion if name in MOTION else architecture(name)
    described = {"architecture": name, "config": recipe.get("discriminator")}
    net = rebuild(described, home.DiscriminatorConfig, lambda config: home.Discriminator(spec, config))
    artifact.load_from_checkpoint(model.folder, "discriminator", net, model._device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def last_input(net: Any, *inputs: Tensor) -> Tensor:
    """Return the input of the last layer in a forward pass: a row [N,F], or a map averaged over its positions."""
    found: list[Tensor] = []
    handle = net.last.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        net(*inputs)
    finally:
        handle.remove()
    row = found[0].float()
    return row.mean((2, 3)) if row.ndim == 4 else row.flatten(1)

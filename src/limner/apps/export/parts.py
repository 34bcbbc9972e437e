"""The parts of each kind of model that can be exported, the default first."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from limner.apps.export import latent_parts, picture_parts, text_parts
from limner.apps.export.part import Part
from limner.networks.fold import fold

Make = Callable[[Any], Part]


def parts_of(model: Any) -> Mapping[str, Make]:
    """Return the functions that make the parts of a model, by name. Raises ValueError for a kind that has none."""
    kind = str(model.description["kind"])
    if kind == "generator":
        return {"generator": latent_parts.generator, "encoder": picture_parts.encoder}
    if kind == "autoencoder":
        both = {"autoencoder": picture_parts.autoencoder, "encoder": picture_parts.encoder, "decoder": latent_parts.decoder}
        return {"generator": latent_parts.prior_generator, **both} if hasattr(model.autoencoder, "prior") else both
    if kind == "translator":
        return {direction: picture_parts.translator(direction) for direction in model.directions} | {"encoder": picture_parts.encoder}
    if kind == "restorer":
        return {"restorer": picture_parts.restorer, "encoder": picture_parts.encoder}
    if kind == "classifier":
        return {"classifier": picture_parts.classifier}
    if kind == "codec":
        return {"decoder": latent_parts.synthesis, "encoder": picture_parts.analysis}
    if kind == "text-to-image generator":
        return {"generator": text_parts.generator, "text_encoder": text_parts.text_encoder, "decoder": text_parts.decoder}
    raise ValueError(f"{model.folder} holds a {kind}, which Limner cannot export: use its own package.")


def part_of(model: Any, name: str | None = None) -> Part:
    """Return a part of a model by name, by default the first. It holds a copy of the networks. Raises ValueError for others."""
    parts = parts_of(model)
    name = next(iter(parts)) if name is None else name
    if name not in parts:
        raise ValueError(f"This {model.description['kind']} has the part{'s' if len(parts) > 1 else ''} {', '.join(parts)}, not {name!r}.")
    return parts[name](cpu_copy(model))


def folded(model: Any, name: str | None = None) -> Part:
    """Return a part whose computations on weights are done: the same function, for export."""
    part = part_of(model, name)
    fold(part.module.eval())
    return part


def cpu_copy(model: Any) -> Any:
    """Return a copy of a model object whose networks are on the CPU, in evaluation mode and contiguous, in float32."""
    copied = copy.deepcopy(model)
    vars(copied).pop("inference", None)  # of another precision
    for value in vars(copied).values():
        if isinstance(value, nn.Module):
            value.to("cpu", memory_format=torch.contiguous_format).eval().requires_grad_(False)  # type: ignore[call-overload]
    copied._device, copied._precision = torch.device("cpu"), torch.float32
    return copied

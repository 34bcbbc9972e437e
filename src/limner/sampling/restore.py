"""Restored pictures of training pairs, for previews and validators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limner.core.device import autocast
from limner.core.images import to_float, to_uint8
from limner.core.machine import Machine
from limner.networks.restoration import bicubic, composed, filled, network_input
from limner.sampling.generate import BATCH

Pairs = Mapping[str, Tensor]  # image uint8 [N,I,h,w], target uint8 [N,C,H,W], and mask [N,1,h,w] if there are holes


@torch.no_grad()
def restored(network: nn.Module, pairs: Pairs, machine: Machine, batch: int = BATCH) -> Tensor:
    """Return what a restorer in evaluation mode makes of the images: uint8 [N,C,H,W] on the CPU, composed where there are holes."""
    parts = []
    for start in range(0, len(pairs["image"]), batch):
        rows = slice(start, start + batch)
        image = to_float(pairs["image"][rows].to(machine.device))
        mask = pairs["mask"][rows].to(machine.device) if "mask" in pairs else None
        with autocast(machine.device, machine.precision):
            made = network(network_input(network, image, mask))
        parts.append(to_uint8(made if mask is None else composed(image, made, mask)).cpu())
    return torch.cat(parts)


def simplest(pairs: Pairs, scale: int) -> Tensor:
    """Return what takes no learning, as `unrestored`, and with holes filled smoothly from their borders: uint8 [N,C,H,W]."""
    image, mask = unrestored(pairs, scale), pairs.get("mask")
    return image if mask is None else to_uint8(filled(to_float(image), mask.float()))


def unrestored(pairs: Pairs, scale: int) -> Tensor:
    """Return the images as they are, or enlarged by bicubic interpolation, with the targets' channels: uint8 [N,C,H,W]."""
    image, channels = pairs["image"], pairs["target"].shape[1]
    image = image.expand(-1, channels, -1, -1) if image.shape[1] == 1 else image
    return to_uint8(bicubic(to_float(image), scale)) if scale > 1 else image

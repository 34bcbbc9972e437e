"""Pictures from networks, from latents or from other pictures, in batches and in the precision of the machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from limner.core import latents
from limner.core.device import autocast
from limner.core.images import to_float, to_uint8
from limner.core.machine import Machine
from limner.networks.inference import inference_form

BATCH = 32  # pictures of one forward pass beside training: what fits while training fits

Network = Callable[[Tensor, Tensor | None], Tensor]
"""(latents [n,Z], condition [n,...] or None) -> pictures [n,C,H,W] in [-1,1]"""

Preview = Callable[[nn.Module], np.ndarray]
"""network -> uint8 [N,C,H,W], of the same inputs at every call"""


@torch.no_grad()
def generate(
    network: Network, z: Tensor, c: Tensor | None, device: torch.device, precision: torch.dtype, batch: int = BATCH
) -> Tensor:
    """Pictures of latents.

    Parameters
    ----------
    network
        A generator in evaluation mode: (z [n,Z], c [n,...] or None) -> [n,C,H,W] in [-1,1].
    z
        Latents [N,Z] of the distribution that the network was trained on.
    c
        The condition of each picture, [N,...], or None.
    batch
        Pictures of one forward pass.

    Returns
    -------
    uint8 [N,C,H,W] on the CPU.
    """
    parts = []
    for start in range(0, len(z), batch):
        rows = slice(start, start + batch)
        with torch.inference_mode(), autocast(device, precision):
            pictures = network(z[rows].to(device), None if c is None else c[rows].to(device))
        parts.append(to_uint8(pictures).contiguous().cpu())
    return torch.cat(parts)


@torch.no_grad()
def transform(network: Callable[[Tensor], Tensor], pictures: Tensor, machine: Machine, batch: int = BATCH) -> Tensor:
    """Return what a network in evaluation mode, [n,C,H,W] -> [n,C',H',W'] in [-1,1], makes of pictures uint8 [N,C,H,W]: uint8
    [N,C',H',W'] on the CPU."""
    parts = []
    for part in pictures.split(batch):
        with autocast(machine.device, machine.precision):
            parts.append(to_uint8(network(to_float(part.to(machine.device)))).cpu())
    return torch.cat(parts)


def preview_of(z_size: int, classes: int, distribution: str, machine: Machine) -> Preview:
    """Eight columns of samples from fixed latents; with classes, every row is one class (at most ten rows)."""
    rows = min(classes, 10) if classes > 1 else 8
    z = latents.draw(np.random.default_rng(0), rows * 8, z_size, distribution)
    c = (torch.arange(rows) * classes // rows).repeat_interleave(8) if classes else None
    return lambda generator: generate(inference_form(generator, machine.precision), z, c, machine.device, machine.precision).numpy()


def sampler_of(labels: Tensor | None, distribution: str, machine: Machine) -> Callable[[nn.Module, int], Tensor]:
    """(generator, n) -> n samples uint8 [n,C,H,W] from fixed latents, for conditions drawn from `labels`: classes [M], or texts
    [M,...]."""

    def sample(generator: nn.Module, n: int) -> Tensor:
        rng = np.random.default_rng(1)
        z_size = int(generator.z_size)  # type: ignore[arg-type]
        z, c = [], []
        for start in range(0, n, BATCH):
            rows = min(BATCH, n - start)
            z.append(latents.draw(rng, rows, z_size, distribution))
            if labels is not None:
                c.append(labels[torch.from_numpy(rng.integers(0, len(labels), rows))])
        made = inference_form(generator, machine.precision)
        return generate(made, torch.cat(z), torch.cat(c) if c else None, machine.device, machine.precision)

    return sample

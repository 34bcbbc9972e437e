"""Generators for tests of directions: untrained ones of any architecture, and one whose latent is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import architecture


@dataclass
class Fake:
    """A generator model around any network, as the functions use it."""

    network: Any
    spec: ImageSpec
    folder: Path = Path("runs/fake")

    def __post_init__(self) -> None:
        self.description = {"network": {"name": "generator"}, "data": {}, "kind": "generator"}
        self.inference = self.network
        self.noise, self._device, self._precision = "normal", torch.device("cpu"), torch.float32
        self.classes = [f"class {k}" for k in range(self.spec.classes)]

    def labels(self, n: int, label: Any, rng: np.random.Generator) -> np.ndarray | None:
        count = self.spec.classes
        if not count:
            return None
        return rng.integers(0, count, n) if label is None else np.full(n, label)

    def latents(self, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        return rng.standard_normal((n, self.network.z_size), np.float32)


def fake(name: str, classes: int = 0, channels: int = 3) -> Fake:
    home = architecture(name)
    torch.manual_seed(0)
    spec = ImageSpec(channels, 32, 32, Condition.classes(classes))
    return Fake(home.Generator(spec, home.TINY_GENERATOR).eval(), spec)


class Painter(nn.Module):
    """A generator whose latent is known: z0 is brightness, z1 the place of a square across, z2 its height; the rest is unused."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.spec, self.z_size = spec, 8
        self.first = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0, 0, 0, 0, 0])))
        self.mix = nn.Conv2d(8, 8, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(8)[:, :, None, None])
        self.table = nn.Embedding(max(1, spec.classes), 1)
        with torch.no_grad():
            self.table.weight.copy_(torch.linspace(0, 0.2, max(1, spec.classes))[:, None])

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        y = self.mix(self.first(z)[:, :, None, None])[:, :, 0, 0]
        side = self.spec.height
        rows, columns = torch.linspace(-1, 1, side)[:, None], torch.linspace(-1, 1, side)[None]
        across, height = 0.2 * torch.tanh(y[:, 1] / 2), 0.2 * torch.tanh(y[:, 2])
        wide = torch.zeros(len(z))
        if c is not None:
            wide = (c @ self.table.weight if c.is_floating_point() else self.table(c))[:, 0]
        inside = torch.sigmoid(30 * (0.4 + wide[:, None, None] - (columns - across[:, None, None]).abs()))
        inside = inside * torch.sigmoid(30 * (0.4 - (rows - height[:, None, None]).abs()))
        light = 0.6 + 0.1 * torch.tanh(y[:, 0] / 3)
        return (light[:, None, None] * inside)[:, None] * 2 - 1


def painter(classes: int = 0) -> Fake:
    spec = ImageSpec(1, 32, 32, Condition.classes(classes))
    return Fake(Painter(spec).eval(), spec)

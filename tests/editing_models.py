"""Untrained generators as models, for tests of editing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from limner.apps.model import GeneratorModel
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import architecture


def model_of(name: str = "conv", classes: int = 0, seed: int = 0, noise: str = "normal") -> GeneratorModel:
    """Return an untrained generator of 16x16 pictures as a model; it lies in no folder."""
    torch.manual_seed(seed)
    spec = ImageSpec(1, 16, 16, Condition.classes(classes))
    home = architecture(name)
    network = home.Generator(spec, home.TINY_GENERATOR).eval().requires_grad_(False)
    description: dict[str, Any] = {
        "network": {"name": "generator", "architecture": name, "noise": noise}, "data": {"classes": [str(i) for i in range(classes)]},
    }
    return GeneratorModel(network, spec, description, torch.device("cpu"), Path("run"))

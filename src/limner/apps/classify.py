"""Uses of a trained classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from limner.core.images import ImageSpec


class Classifier:
    """A trained classifier: its network maps pictures to logits, and its classes are named in `description`."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network: Any = network.eval()
        self.spec, self.description, self.folder = spec, description, folder
        self.classes: list[str] = list(description["data"]["classes"])
        self._device = where

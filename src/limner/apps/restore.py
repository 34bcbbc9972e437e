"""A trained restorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from limner.core import device
from limner.core.images import ImageSpec


class Restorer:
    """A trained restorer. spec: of its training crops."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device, folder: Path) -> None:
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.scale, self.task = int(description["network"]["scale"]), str(description["network"]["task"])
        self._device, self._precision = where, device.precision(where)

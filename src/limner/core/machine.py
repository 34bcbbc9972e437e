"""The runtime of a run: device, precision, ranks, start time and command."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from limner.core import device, distributed


@dataclass
class Machine:
    """Device, precision and ranks of a run."""

    device: torch.device
    precision: torch.dtype  # a resumed run uses the precision of its first start
    ranks: distributed.Ranks
    started: float = field(default_factory=time.monotonic)  # `time.monotonic()` at the start of the command
    command: Mapping[str, Any] | None = None  # the command that resumes the run from its folder (runs.command)
    more: tuple[float | None, int | None] | None = None  # (minutes, images) to train beyond the budget

    def __str__(self) -> str:
        ranks = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        return f"{device.describe(self.device)}, {device.name_of(self.precision)}{ranks}"

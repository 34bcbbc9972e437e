"""Where a run happens: device, precision, ranks, and what the person's command asked of the process."""

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
    precision: torch.dtype  # this machine's choice; a resumed run replaces it by the one that it was started with
    ranks: distributed.Ranks
    started: float = field(default_factory=time.monotonic)  # `time.monotonic()` at which the command began
    command: Mapping[str, Any] | None = None  # what resumes the run by its folder (runs.command)
    more: tuple[float | None, int | None] | None = None  # (minutes, images) to train beyond the budget

    def __str__(self) -> str:
        ranks = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        return f"{device.describe(self.device)}, {device.name_of(self.precision)}{ranks}"

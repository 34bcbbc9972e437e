"""The hardware of a run: device, precision and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from limner.core import device, distributed


@dataclass
class Machine:
    """Device, precision and ranks of a run."""

    device: torch.device
    precision: torch.dtype  # a resumed run uses the precision of its first start
    ranks: distributed.Ranks

    def __str__(self) -> str:
        ranks = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        return f"{device.describe(self.device)}, {device.name_of(self.precision)}{ranks}"

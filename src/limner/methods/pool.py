"""The image pool: past generated pictures for the discriminator, which reduce oscillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.core import distributed
from limner.methods.phase import Batch


class Pool:
    """The last generated pictures, at most `capacity` (Shrivastava et al. 2017, section 2.3; Zhu et al. 2017, section 4: 50).

    Every rank holds the same pool of the pictures of all ranks; its content depends only on the batch's random numbers.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int], device: torch.device | str = "cpu") -> None:
        self.pictures = torch.zeros(capacity, *shape, device=device)
        self.filled = 0

    def exchange(self, made: Tensor, batch: Batch) -> Tensor:
        """Exchange generated pictures `made` [n,C,H,W], this batch's rows, for as many new and old ones.

        While the pool is not full, `made` is added and returned. Afterwards each picture is, with probability 1/2, swapped
        with a random one of the pool, and otherwise returned unchanged.
        """
        if not len(self.pictures):
            return made
        everyone = made.new_zeros(batch.total, *made.shape[1:])
        present = made.new_zeros(batch.total)
        everyone[batch.first : batch.first + len(made)] = made
        present[batch.first : batch.first + len(made)] = 1
        distributed.all_reduce_in_place([everyone, present])
        whole = replace(batch, tensors={"made": everyone}, first=0)  # every rank draws numbers for all rows
        chance, place = whole.uniform("exchange"), whole.integers("place", len(self.pictures))
        for row in present.nonzero().flatten().tolist():
            if self.filled < len(self.pictures):
                self.pictures[self.filled] = everyone[row]
                self.filled += 1
            elif chance[row] < 0.5:
                old = self.pictures[place[row]].clone()
                self.pictures[place[row]] = everyone[row]
                everyone[row] = old
        return everyone[batch.first : batch.first + len(made)]

    def state_dict(self) -> dict[str, Any]:
        return {"pictures": self.pictures, "filled": self.filled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pictures.copy_(state["pictures"])
        self.filled = state["filled"]

"""The doctor's probe of codecs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.images import to_float
from limner.core.machine import Machine
from limner.monitor.doctor import MIN_VARIETY, Rule
from limner.monitor.family_probes import coarse, evaluating, in_chunks, typical_distance, variety


class CodecProbe:
    """Computes the signals of a codec at its middle quality, from a few training pictures uint8 [N,C,H,W].

    variety: typical distance between pictures, relative to their norm; the only signal if pictures are nearly identical.
    explained: 1 - MSE(decoded picture) / MSE(mean picture): 1 is perfect, 0 no better than the mean picture.
    diversity: typical distance between decoded pictures, relative to that between pictures.
    """

    def __init__(self, net: nn.Module, pictures: Tensor, rules: Sequence[Rule], chunk: int, machine: Machine) -> None:
        self.net: Any = net
        self.pictures, self.rules, self.chunk, self.machine = pictures, rules, chunk, machine

    def __call__(self, seen: int) -> dict[str, float]:
        x = to_float(self.pictures.to(self.machine.device))
        signals = {"variety": variety(x)}
        if signals["variety"] <= MIN_VARIETY:
            return signals
        middle = torch.full((1,), (self.net.qualities - 1) / 2, device=x.device)
        with evaluating([self.net], self.machine):
            outputs = in_chunks(lambda part: self.net(part, middle.expand(len(part))), x, self.chunk).float()
        error, constant = (outputs - x).square().mean(), (x - x.mean(0)).square().mean()
        signals["explained"] = 1 - (error / constant).item()
        signals["diversity"] = (typical_distance(coarse(outputs)) / typical_distance(coarse(x))).item()
        return signals

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

"""A classifier without training, for tests of its uses: it tells pictures that are bright at the left, the right or nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.classify import Classifier
from limner.core.condition import Condition
from limner.core.images import ImageSpec

CLASSES = ("left, bright", 'right "bright"', "=dark")


class Sides(nn.Module):
    """Logits of three classes from the brightness of both halves of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(2.0))

    def features(self, x: Tensor) -> Tensor:
        return torch.stack([half.mean((1, 2, 3)) for half in x.chunk(2, 3)], 1)  # [N,2]

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.features(x).unbind(1)
        return 8 * torch.stack([left - right, right - left, -1.2 - left - right], 1)


def model_of(folder: Path, channels: int = 1, classes: tuple[str, ...] = CLASSES, **how: str) -> Classifier:
    spec = ImageSpec(channels, 16, 16, Condition.classes(len(classes)))
    description = {"kind": "classifier", "data": {"classes": list(classes), **how}, "training": {"seed": 0}}
    return Classifier(Sides().eval(), spec, description, torch.device("cpu"), folder)


def picture(side: int, rng: np.random.Generator, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """Gray [H,W], bright in the left half (0), the right half (1), or nowhere (2)."""
    image = rng.integers(0, 60, size, dtype=np.uint8)
    half = size[1] // 2
    if side < 2:
        image[:, side * half : (side + 1) * half] += 160
    return image

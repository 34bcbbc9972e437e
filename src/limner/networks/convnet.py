"""A small convolutional classifier, also the discriminator of semi-supervised training.

    x [N,C,H,W] -> stages of two 3x3 convolutions, the first of stride 2 -> mean over space -> features [N,F] -> logits [N,K]

Like the discriminators of Salimans et al. 2016, with weight normalization (Salimans & Kingma 2016), leaky ReLU and a
mean over space before the last layer; narrower, for a CPU. With weight normalization no layer is across rows, so labeled,
unlabeled and generated pictures may share a batch; batch normalization learns in fewer steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.layers import BatchNorm2d, levels

SOURCE = "Salimans et al. 2016, Improved techniques for training GANs"
NORMS = ("weight", "batch")
SMALLEST_MAP = 4  # side of the last feature map: levels(spec, SMALLEST_MAP) stages
GAIN = (2 / (1 + 0.2**2)) ** 0.5  # of leaky ReLU 0.2 (He et al. 2015, eq. 15)


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(24, "Channels of the first stage; doubled at each further one, at most 8x.", low=1, high=WIDEST)
    convolutions: int = option(2, "Convolutions of a stage.", low=1, high=DEEPEST)
    norm: str = option("weight", "Normalization: weight normalization, or batch normalization.", choices=NORMS)
    noise: float = option(0.0, "Standard deviation of the Gaussian noise that is added to the pictures in training (Salimans et al. 2016).", low=0, high=10)
    dropout: float = option(0.0, "Probability that a feature is dropped before the last layer.", low=0, high=0.99)


TINY = Config(width=8)


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose kernels have a learned norm (Salimans & Kingma 2016, "Weight normalization", eq. 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)
        self.gain = nn.Parameter(torch.full((outputs,), GAIN))  # unit variance is kept at the start
        nn.init.normal_(self.weight, 0, 0.05)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.weight.flatten(1).norm(dim=1).clamp_min(1e-8)
        return F.conv2d(x, self.weight * (self.gain / norm)[:, None, None, None], self.bias, self.stride, self.padding)


class Classifier(nn.Module):
    """x [N,C,H,W] in [-1,1] -> logits [N,K], K >= 2; softmax(logits / temperature) are the calibrated probabilities"""

    temperature: Tensor  # [], set before publication (Guo et al. 2017, section 4.2); 1 where it was not calibrated

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        check(config)
        widths = [config.width * min(8, 2**i) for i in range(levels(spec, SMALLEST_MAP))]
        layers: list[nn.Module] = []
        inputs = spec.channels
        for width in widths:
            for i in range(config.convolutions):
                stride = 1 if i else 2
                if config.norm == "weight":
                    layers.append(WeightNormConv2d(inputs, width, stride))
                else:
                    layers += [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), BatchNorm2d(width)]
                layers.append(nn.LeakyReLU(0.2))
                inputs = width
        self.layers, self.noise = nn.Sequential(*layers), config.noise
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(inputs, spec.classes)
        self.register_buffer("temperature", torch.ones(()))

    def features(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> the input of the last layer, float32 [N,F]"""
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        return self.layers(x).float().mean((2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Features [N,F] -> logits [N,K]"""
        return self.last(self.dropout(features)).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

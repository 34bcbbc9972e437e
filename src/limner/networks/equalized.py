"""Equalized learning rates and what goes with them: progressive growing and the style-based nets.

Karras et al. 2018, "Progressive growing of GANs", section 4.1: weights are drawn from N(0,1) and scaled by He's constant
at every use, so that an optimizer which normalizes its steps moves every layer at the same speed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.condition import Condition
from limner.networks.condition import LinearEmbedding, Projection

GAIN = 2**0.5  # of a leaky ReLU with slope 0.2: about the variance that came in (He et al. 2015)


class EqualLinear(nn.Module):
    """A linear map whose weights are N(0,1) and are scaled at use. [N,I] -> [N,O]

    lr_multiplier: multiplies the learning rate and leaves the start as it is (Karras et al. 2019, "A style-based generator",
    section C: 0.01 in the mapping network).
    """

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0, lr_multiplier: float = 1.0, bias: float | None = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = gain * lr_multiplier / inputs**0.5, lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        # scaling the rows in place of the weights: the same product, and there are mostly fewer of them
        return F.linear(x * self.scale, self.weight, None if self.bias is None else self.bias * self.lr_multiplier)


class EqualConv2d(nn.Module):
    """A convolution (stride 1, size kept) whose weights are N(0,1) and are scaled at use. [N,I,H,W] -> [N,O,H,W]"""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = gain / (inputs * kernel**2) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class RectifiedConv2d(EqualConv2d):
    """`EqualConv2d`, then `rectified`. The leaky ReLU is homogeneous, so its gain is applied to the weights, of which there are fewer."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * GAIN
        return F.leaky_relu(F.conv2d(x, self.weight * (self.scale * GAIN), bias, padding=self.weight.shape[-1] // 2), 0.2)


def equal_projection(condition: Condition, features: int, gain: float = 1.0) -> Projection:
    """The projection of a condition on features [N,features] by an equalized linear map."""
    return Projection(LinearEmbedding(condition, EqualLinear(condition.size, features, bias=None), gain))


def rectified(x: Tensor) -> Tensor:
    """Leaky ReLU 0.2 times sqrt 2: about the variance that came in (He et al. 2015)."""
    return F.leaky_relu(x, 0.2) * GAIN


def pixel_norm(x: Tensor) -> Tensor:
    """Every pixel's (or row's) channels to a mean square of one (Karras et al. 2018, section 4.2)."""
    return x * (x.float().square().mean(1, keepdim=True) + 1e-8).rsqrt().to(x.dtype)

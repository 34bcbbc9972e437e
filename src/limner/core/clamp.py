"""A clamp whose gradient can lead back into the range."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _ClampWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        back = ((x >= ctx.low) | (g < 0)) & ((x <= ctx.high) | (g > 0))  # descent goes against g
        return torch.where(back, g, 0), None, None


def clamp_with_gradient(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp x to [low,high]. Unlike `torch.clamp`, a gradient that leads back into the range passes where x is outside."""
    if not torch.is_grad_enabled():
        return x.clamp(low, high)
    return _ClampWithGradient.apply(x, low, high)  # type: ignore[no-untyped-call]

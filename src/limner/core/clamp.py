"""A clamp whose gradient can lead back into the range."""

from __future__ import annotations

import torch
from torch import Tensor


class _ClampWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        back = ((x >= ctx.low) | (g < 0)) & ((x <= ctx.high) | (g > 0))  # descent goes against g
        return torch.where(back, g, 0), None, None


def clamp_with_gradient(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp x to [low,high]. Unlike `torch.clamp`, a gradient that leads back into the range passes where x is outside."""
    return _ClampWithGradient.apply(x, low, high) if torch.is_grad_enabled() else x.clamp(low, high)

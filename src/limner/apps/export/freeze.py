"""Virtual batch normalization with its reference batch computed once, so that a page need not compute it for every picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.networks.layers import VirtualBatchNorm2d


class FrozenVirtualBatchNorm2d(nn.Module):
    """`networks.layers.VirtualBatchNorm2d` of rows that follow the reference. [N,C,H,W] -> the same

    moments: mean and mean square of the reference [2,1,C].
    """

    mean: Tensor
    square: Tensor

    def __init__(self, norm: VirtualBatchNorm2d, moments: Tensor) -> None:
        super().__init__()
        self.count, self.eps, self.weight, self.bias = norm.reference, norm.eps, norm.weight, norm.bias
        self.register_buffer("mean", moments[0])
        self.register_buffer("square", moments[1])

    def forward(self, x: Tensor) -> Tensor:
        mean = (self.mean * self.count + x.mean((2, 3))) / (self.count + 1)
        square = (self.square * self.count + x.square().mean((2, 3))) / (self.count + 1)
        scale = (square - mean.square()).clamp_min(0).add(self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return x * scale[:, :, None, None] + shift[:, :, None, None]


@torch.no_grad()
def freeze_reference(network: Any, inputs: tuple[Tensor, ...]) -> None:
    """Replace the virtual batch normalization of a generator, in place, by that with a frozen reference. inputs: any example."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, VirtualBatchNorm2d)}
    moments: dict[str, Tensor] = {}

    def note(name: str, x: Tensor, count: int) -> None:
        y = x[:count].float()
        moments[name] = torch.stack([y.mean((2, 3)), y.square().mean((2, 3))]).mean(1, keepdim=True)

    hooks = [
        module.register_forward_pre_hook(lambda own, x, name=name: note(name, x[0], own.reference)) for name, module in norms.items()
    ]
    if not norms:
        return
    network(*inputs)
    for hook in hooks:
        hook.remove()
    for name, module in norms.items():
        network.set_submodule(name, FrozenVirtualBatchNorm2d(module, moments[name]))
    network.reference = 0

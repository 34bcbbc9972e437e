"""Generators as they run fastest: norms folded into weights, weights in the precision of the machine. The function is the same up to
rounding. Training, and whatever needs the layers of an architecture, uses the network itself.

    z ─▶ first and norm ─▶ affine(c) ─▶ relu ─▶ up and norm ─▶ affine(c) ─▶ relu ─▶ ... ─▶ sub-pixel convolution ─▶ tanh ─▶ picture
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision
from limner.networks.condition import ConditionEmbedding
from limner.networks.contracts import BatchNormalized
from limner.networks.fold import FrozenVirtualNorm, fold
from limner.networks.layers import ConditionalBatchNorm2d

FEW = 4  # output channels up to which a sub-pixel convolution is faster than the transposed one, which computes them as one vector
NORMS = (nn.BatchNorm2d, FrozenVirtualNorm)


@torch.no_grad()
def inference_form(network: nn.Module, precision: torch.dtype) -> nn.Module:
    """Return a copy of a generator with fewer operations, for inference; a network that is not `BatchNormalized` is returned itself.

    network: in evaluation mode, in float32. precision: in which the copy holds its weights and computes, with or without autocast.
    """
    if not isinstance(network, BatchNormalized):
        return network
    made: Any = fold(copy.deepcopy(network).eval())
    names = {module: name for name, module in made.named_modules()}
    for layer, norm in made.normalized_layers():
        _fold_norm(layer, norm)
        made.set_submodule(names[norm], nn.Identity())
    for name, module in list(made.named_modules()):
        if isinstance(module, ConditionalBatchNorm2d) and module.scale is not None:
            made.set_submodule(name, ConditionalAffine(module))
        elif isinstance(module, nn.ConvTranspose2d) and _doubles(module) and module.out_channels <= FEW:
            made.set_submodule(name, SubPixelConv2d(module))
    return Inference(made, precision)


class Inference(nn.Module):
    """A generator with its weights in one precision. (z [N,Z], c | None) -> float32 [N,C,H,W]

    Autocast, which would convert the same tensors again in every forward pass, is off inside. Statistics of norms stay in float32.
    """

    def __init__(self, network: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        kept = {x for m in network.modules() if isinstance(m, NORMS) for x in (*m.parameters(), *m.buffers())}
        for x in {*network.parameters(), *network.buffers()} - kept:
            x.data = x.data.to(precision) if x.is_floating_point() else x.data
        network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.precision = network, precision

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        with full_precision(z.device):
            c = c.to(self.precision) if c is not None and c.is_floating_point() else c
            made: Tensor = self.network(z.to(self.precision), c)
            return made


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the affine map of each channel, [C] and [C], that a batch normalization computes in evaluation mode."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    return scale, (0 if norm.bias is None else norm.bias) - norm.running_mean * scale


def _fold_norm(layer: nn.Module, norm: nn.Module) -> None:
    """Change the weight and bias of a linear map, in place, to those of the map followed by the normalization.

    The outputs of a linear layer are a map [H*W*C] (`layers.to_map`): the factors repeat with every pixel.
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # of the outputs
    scale, shift = (value.repeat(weight.shape[axis] // len(value)) for value in _scale_and_shift(norm))
    layer.weight = nn.Parameter(weight * scale.view([-1 if i == axis else 1 for i in range(weight.ndim)]))
    layer.bias = nn.Parameter(shift if bias is None else bias * scale + shift)  # type: ignore[operator]


class ConditionalAffine(nn.Module):
    """The scale and shift of a `ConditionalBatchNorm2d` as one embedding of the condition. [N,C,H,W], c -> [N,C,H,W]

    A norm that was not folded into the layer before it is part of the embedding, which is linear in the condition:
    s(c) (a x + b) + t(c) = (s(c) a) x + (s(c) b + t(c)).
    """

    def __init__(self, norm: ConditionalBatchNorm2d) -> None:
        super().__init__()
        assert norm.scale is not None and norm.shift is not None
        condition, channels = norm.scale.condition, norm.scale.table.weight.shape[1]
        folded = isinstance(norm.norm, nn.Identity)
        a, b = (torch.ones(channels), torch.zeros(channels)) if folded else _scale_and_shift(norm.norm)
        a, b = a.to(norm.scale.table.weight.device), b.to(norm.scale.table.weight.device)

        def joined(scale: Tensor, shift: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.cat([scale * a, scale * b + shift], -1))

        self.embedding = ConditionEmbedding(condition, 2 * channels)
        self.embedding.table.weight = joined(norm.scale.table.weight, norm.shift.table.weight)
        if norm.scale.bias is not None and norm.shift.bias is not None:
            self.embedding.bias = joined(norm.scale.bias, norm.shift.bias)

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        scale, shift = self.embedding(c).to(x.dtype)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, scale)


def _doubles(layer: nn.ConvTranspose2d) -> bool:
    return layer.kernel_size == (4, 4) and layer.stride == (2, 2) and layer.padding == (1, 1) and layer.groups == 1


class SubPixelConv2d(nn.Module):
    """A transposed convolution (4x4, stride 2, padding 1) as a 3x3 convolution to the four pixels of each 2x2 block (Shi et al. 2016,
    "Real-time single image and video super-resolution", section 2.2). [N,I,H,W] -> [N,O,2H,2W]

    Output pixel 2i+p sees the input pixels i+a of which p+1-2a is a tap, 0 to 3: two of three along each axis, so that 20 of 36
    weights are zeros. Those cost less than vectors of few outputs.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.in_channels = inputs = layer.in_channels
        outputs = layer.out_channels
        weight = layer.weight.new_zeros(outputs, 2, 2, inputs, 3, 3)
        taps = [(p, a, p + 1 - 2 * a) for p in (0, 1) for a in (-1, 0, 1) if 0 <= p + 1 - 2 * a < 4]
        for p, a, i in taps:
            for q, b, j in taps:
                weight[:, p, q, :, a + 1, b + 1] = layer.weight[:, :, i, j].T
        self.conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1, bias=layer.bias is not None, device="meta")
        self.conv.weight = nn.Parameter(weight.flatten(0, 2))
        if layer.bias is not None:
            self.conv.bias = nn.Parameter(layer.bias.repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)

"""A program of the browser runtime computed in PyTorch, with the weights as they are stored: checks an export where no browser is.

It shares nothing with the traced network but the program, so a wrong mapping shows as a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.export.program import (
    BINARY_KINDS,
    FUSED,
    PAD_MODES,
    Activation,
    Code,
    Conv,
    Function,
    Op,
    Program,
    Size,
    rounded,
    unfolded,
)
from limner.networks.layers import fold_upsampling

FUNCTIONS: dict[Activation, Callable[[Tensor, float, float], Tensor]] = {
    Activation.IDENTITY: lambda x, a, b: x,
    Activation.LEAKY: lambda x, a, b: F.leaky_relu(x, a) * b,
    Activation.TANH: lambda x, a, b: torch.tanh(x),
    Activation.SIGMOID: lambda x, a, b: torch.sigmoid(x),
    Activation.SILU: lambda x, a, b: F.silu(x),
    Activation.CLAMP: lambda x, a, b: x.clamp(a, b),
    Activation.RSQRT: lambda x, a, b: x.rsqrt(),
    Activation.SQUARE: lambda x, a, b: x.square(),
    Activation.SQRT: lambda x, a, b: x.sqrt(),
    Activation.EXP: lambda x, a, b: x.exp(),
    Activation.AFFINE: lambda x, a, b: a * x + b,
    Activation.ABS: lambda x, a, b: x.abs(),
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div}


@torch.no_grad()
def emulate(program: Program, inputs: Mapping[str, np.ndarray], bits: int = 24) -> np.ndarray:
    """Return the output float32 [h,w,c] for inputs [h,w,c] by name (rows of numbers have any shape)."""
    values: dict[int, Tensor] = {}  # [1,C,H,W]
    for i, buffer in enumerate(program.buffers):
        if buffer.constant is not None:
            values[i] = _map(torch.from_numpy(buffer.constant).flatten(), buffer.size)
    for name, array in inputs.items():
        size = program.buffers[program.inputs[name]].size
        shape: Size = array.shape if array.ndim == 3 else size  # a picture may have another size
        values[program.inputs[name]] = _map(torch.from_numpy(np.ascontiguousarray(array, np.float32)).flatten(), shape)
    for op in program.ops:
        made = _computed(op, [values[i] for i in op.inputs], program.buffers[op.out].size, bits)
        values[op.out] = _applied(made, op.function) if op.code in FUSED else made
    return values[program.output][0].permute(1, 2, 0).numpy()


def _map(flat: Tensor, size: Size) -> Tensor:
    """Numbers in the order of a map [h,w,c] -> [1,C,H,W]"""
    return flat.reshape(1, *size).permute(0, 3, 1, 2)


def _flat(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 0).reshape(-1)


def _applied(x: Tensor, function: Function) -> Tensor:
    code, a, b = function
    return FUNCTIONS[code](x, a, b)


def _convolved(x: Tensor, conv: Conv, bits: int) -> Tensor:
    small = unfolded(conv.weight) if conv.doubles else None
    stored = conv.weight if small is None else small
    weight = torch.from_numpy(rounded(stored.reshape(len(stored), -1), bits).reshape(stored.shape)).float()
    bias = None if conv.bias is None else torch.from_numpy(np.asarray(conv.bias)).float()
    if not conv.transposed:
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    if small is not None:
        weight = fold_upsampling(weight)
    else:  # [O,I/g,kh,kw] -> [I,O/g,kh,kw]
        weight = weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1)
    return F.conv_transpose2d(x, weight, bias, conv.stride, conv.padding, 0, conv.groups, conv.dilation)


def _computed(op: Op, x: list[Tensor], size: Size, bits: int) -> Tensor:
    first, numbers = x[0], [int(n) for n in op.numbers]
    match op.code:
        case Code.CONV:
            assert op.conv is not None
            return _convolved(first, op.conv, bits)
        case Code.ACTIVATE:
            return _applied(first, op.function)
        case Code.BINARY:
            return BINARY[BINARY_KINDS[numbers[0]]](first, x[1])
        case Code.MULTIPLY_ADD:
            return first * x[1] + x[2]
        case Code.UPSAMPLE:
            return F.interpolate(first, scale_factor=numbers[0], mode="bilinear" if numbers[1] else "nearest")
        case Code.POOL:
            return F.max_pool2d(first, numbers[0]) if numbers[1] else F.avg_pool2d(first, numbers[0])
        case Code.SHUFFLE:
            return F.pixel_shuffle(first, numbers[0]) if numbers[1] else F.pixel_unshuffle(first, numbers[0])
        case Code.INSTANCE_NORM:
            return F.instance_norm(first, weight=x[1].flatten(), bias=x[2].flatten(), eps=float(op.numbers[0]))
        case Code.CONCATENATE:
            return torch.cat(x, 1)
        case Code.REDUCE:
            dims = (2, 3) if numbers[0] else (1,)
            return first.mean(dims, keepdim=True) if numbers[1] else first.sum(dims, keepdim=True)
        case Code.SOFTMAX:
            return first.softmax(1)
        case Code.MATMUL:  # [1,K,1,N], [1,K,1,M] -> [1,M,1,N]
            return torch.einsum("akbn,akbm->ambn", first, x[1])
        case Code.PAD:
            top, bottom, left, right, mode = numbers
            return F.pad(first, (left, right, top, bottom), mode=PAD_MODES[mode])
        case Code.COPY:
            flat = _flat(first).contiguous()
            return _map(torch.as_strided(flat, size, numbers[1:], numbers[0]).flatten(), size)
        case Code.SLICE:
            return first[:, numbers[0] : numbers[0] + numbers[1]]
        case Code.RESHAPE:
            return _map(_flat(first), size)

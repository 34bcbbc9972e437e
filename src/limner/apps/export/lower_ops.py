"""What each ATen operator becomes; `lowering` applies the table. Tensors are logical [1,C,H,W], [1,A,B] or [1,F]."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.export.lowering import Call, ClassInput, Lowering, Mapped, Unsupported, Value
from limner.apps.export.program import BINARY_KINDS, PAD_MODES, Activation, Code, Conv, Function

aten = torch.ops.aten
_same: Callable[..., Any] = lambda x, *_, **__: x  # noqa: E731

# operators that only move numbers, applied to the index tensor
VIEWS: dict[str, Callable[..., Any]] = {
    "<built-in function getitem>": operator.getitem,
    "view.default": torch.reshape,
    "reshape.default": torch.reshape,
    "_unsafe_view.default": torch.reshape,
    "permute.default": torch.permute,
    "transpose.int": torch.transpose,
    "t.default": torch.t,
    "unsqueeze.default": torch.unsqueeze,
    "squeeze.dim": torch.squeeze,
    "expand.default": lambda x, size, **_: x.expand(size),
    "expand_as.default": lambda x, other: x.expand_as(other),
    "slice.Tensor": aten.slice.Tensor,
    "select.int": torch.select,
    "unbind.int": torch.unbind,
    "split_with_sizes.default": torch.split,
    "split.Tensor": torch.split,
    "chunk.default": torch.chunk,
    "flatten.using_ints": torch.flatten,
    "unflatten.int": lambda x, dim, sizes: x.unflatten(dim, sizes),
    "alias.default": _same,
    "clone.default": _same,
    "contiguous.default": _same,
    "detach.default": _same,
    "dropout.default": _same,
    "to.dtype": _same,
    "to.device": _same,
    "to.dtype_layout": _same,
    "type_as.default": _same,
}


def _function(code: Activation, a: float = 0.0, b: float = 0.0) -> Mapped:
    return lambda lowering, call: apply(lowering, call.args[0], (code, a, b))


def apply(lowering: Lowering, x: Value, function: Function) -> Value:
    return lowering.emit(Code.ACTIVATE, [lowering.buffer(x)], x.index.shape, function=function)


def _scalar(x: Any) -> float | None:
    """Return a number, or a constant tensor of one, as a float; None for anything else."""
    if isinstance(x, int | float):
        return float(x)
    return float(x) if isinstance(x, Tensor) and x.numel() == 1 else None


def _binary(kind: str) -> Mapped:
    def mapped(lowering: Lowering, call: Call) -> Value:
        if call.kwargs.get("alpha", 1) != 1:
            raise Unsupported(f"{call.name} with a factor")
        return combine(lowering, kind, call.args[0], call.args[1])

    return mapped


def combine(lowering: Lowering, kind: str, x: Any, y: Any) -> Value:
    """x + y, x - y, x y or x / y, of values, tensors and numbers."""
    a, b = _scalar(x), _scalar(y)
    if b is not None and isinstance(x, Value):
        factor, shift = {"add": (1.0, b), "subtract": (1.0, -b), "multiply": (b, 0.0), "divide": (1 / b if b else np.nan, 0.0)}[kind]
        return apply(lowering, x, (Activation.AFFINE, factor, shift))
    if a is not None and isinstance(y, Value) and kind != "divide":
        return apply(lowering, y, (Activation.AFFINE, *{"add": (1.0, a), "subtract": (-1.0, a), "multiply": (a, 0.0)}[kind]))
    x, y = (torch.tensor(float(v)) if isinstance(v, int | float) else v for v in (x, y))
    shapes = [tuple(v.index.shape if isinstance(v, Value) else v.shape) for v in (x, y)]
    shape = tuple(torch.broadcast_shapes(*shapes))
    inputs = [lowering.buffer(lowering.aligned(v, len(shape))) for v in (x, y)]
    return lowering.emit(Code.BINARY, inputs, shape, [BINARY_KINDS.index(kind)])


def multiply_add(lowering: Lowering, x: Any, scale: Any, shift: Any, shape: tuple[int, ...]) -> Value:
    inputs = [lowering.buffer(lowering.aligned(v, len(shape))) for v in (x, scale, shift)]
    return lowering.emit(Code.MULTIPLY_ADD, inputs, shape)


def _reversed(lowering: Lowering, call: Call) -> Value:
    return combine(lowering, "subtract", call.args[1], call.args[0])


def _leaky(lowering: Lowering, call: Call) -> Value:
    return apply(lowering, call.args[0], (Activation.LEAKY, float(call.arg(1, 0.01, "negative_slope")), 1.0))


def _clamp(lowering: Lowering, call: Call) -> Value:
    limit = 3e38
    low, high = call.arg(1, None, "min"), call.arg(2, None, "max")
    if "clamp_max" in call.name:
        low, high = None, low
    ends = (-limit if low is None else float(low), limit if high is None else float(high))
    return apply(lowering, call.args[0], (Activation.CLAMP, *ends))


def _addcmul(lowering: Lowering, call: Call) -> Value:
    if call.kwargs.get("value", 1) != 1:
        raise Unsupported("addcmul with a factor")
    shift, x, scale = call.args[:3]
    return multiply_add(lowering, x, scale, shift, call.shape)


def _lerp(lowering: Lowering, call: Call) -> Value:
    start, end, weight = call.args[:3]
    weight = torch.tensor(float(weight)) if isinstance(weight, int | float) else weight
    return multiply_add(lowering, combine(lowering, "subtract", end, start), weight, start, call.shape)


# ---- weights ---------------------------------------------------------------------------------------------------------


def _weights(x: Any) -> np.ndarray:
    if not isinstance(x, Tensor):
        raise Unsupported("weights that depend on the input")
    return x.detach().double().numpy()


def dense(lowering: Lowering, x: Value, weight: np.ndarray, bias: np.ndarray | None) -> Value:
    """x [...,I], weight [O,I], bias [O] -> [...,O]: a convolution of 1 x 1."""
    made = lowering.emit(Code.CONV, [lowering.buffer(x)], (*x.index.shape[:-1], len(weight)))
    lowering.program.ops[-1].conv = Conv(weight[:, :, None, None], bias)
    return made


def _linear(lowering: Lowering, call: Call) -> Value:
    bias = call.arg(2, None, "bias")
    return dense(lowering, call.args[0], _weights(call.args[1]), None if bias is None else _weights(bias))


def _matmul(lowering: Lowering, call: Call) -> Value:
    x, y = call.args[:2]
    if isinstance(y, Tensor) and y.ndim == 2:
        return dense(lowering, x, _weights(y).T, None)
    if not isinstance(x, Value) or not isinstance(y, Value) or len(call.shape) != 3:
        raise Unsupported(f"a product of matrices to {list(call.shape)}")
    transposed = Value(y.buffer, y.index.transpose(1, 2))
    return lowering.emit(Code.MATMUL, [lowering.buffer(x), lowering.buffer(transposed)], call.shape)


def _embedding(lowering: Lowering, call: Call) -> Value:
    table, number = call.args[:2]
    if not isinstance(number, ClassInput):
        raise Unsupported("a table that is not indexed by the class")
    return dense(lowering, number.value, _weights(table).T, None)


def _one_hot(lowering: Lowering, call: Call) -> Value:
    return call.args[0].value


def _pair(x: Any) -> tuple[int, int]:
    first, second = (x, x) if isinstance(x, int) else (x[0], x[-1])
    return int(first), int(second)


def _conv(lowering: Lowering, call: Call) -> Value:
    x, weight = call.args[:2]
    bias, stride, padding = call.arg(2, None, "bias"), call.arg(3, 1, "stride"), call.arg(4, 0, "padding")
    transposed = "transpose" in call.name
    w = _weights(weight)
    groups = int(call.arg(6, 1, "groups"))
    dilation = call.arg(7 if transposed else 5, 1, "dilation")
    if transposed:
        if any(_pair(call.arg(5, 0, "output_padding"))):
            raise Unsupported("a transposed convolution with output padding")
        inputs, outputs, *kernel = w.shape  # [I,O/g,kh,kw] -> [O,I/g,kh,kw]
        w = w.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernel)
    pictures = call.shape[0]  # the channels of several pictures are groups, all with the same weights
    w, bias, groups = np.tile(w, (pictures, 1, 1, 1)), None if bias is None else np.tile(_weights(bias), pictures), groups * pictures
    made = lowering.emit(Code.CONV, [lowering.buffer(x)], call.shape)
    lowering.program.ops[-1].conv = Conv(
        w, bias, _pair(stride), _pair(padding), _pair(dilation), groups, transposed
    )
    return made


# ---- normalization ---------------------------------------------------------------------------------------------------


def _batch_norm(lowering: Lowering, call: Call) -> Value:
    x, weight, bias, mean, variance, training, _, eps = call.args[:8]
    if training or mean is None:
        raise Unsupported("batch normalization by the batch's own statistics")
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    shift = (0 if bias is None else bias.double()) - mean.double() * scale
    shape = (1, -1) + (1,) * (len(call.shape) - 2)
    return multiply_add(lowering, x, scale.view(shape), shift.view(shape), call.shape)


def _instance_norm(lowering: Lowering, call: Call) -> Value:
    x, weight, bias = call.args[:3]
    eps, count = float(call.args[7]), call.shape[1]
    weight = torch.ones(count) if weight is None else weight
    bias = torch.zeros(count) if bias is None else bias
    inputs = [lowering.buffer(x), *(lowering.constant(v.reshape(1, count)) for v in (weight, bias))]
    return lowering.emit(Code.INSTANCE_NORM, inputs, call.shape, [eps])


def _reduce(mean: bool) -> Mapped:
    def mapped(lowering: Lowering, call: Call) -> Value:
        x, dims = call.args[0], call.arg(1, None, "dim")
        rank = x.index.ndim
        axes = sorted(d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank)))
        channel = 1 if rank == 4 else rank - 1
        if axes not in ([channel], [2, 3]) or (axes == [2, 3] and rank != 4):
            raise Unsupported(f"a mean or sum over the dimensions {axes}")
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.index.shape))
        made = lowering.emit(Code.REDUCE, [lowering.buffer(x)], kept, [int(axes == [2, 3]), int(mean)])
        return Value(made.buffer, made.index.reshape(call.shape))

    return mapped


def _softmax(lowering: Lowering, call: Call) -> Value:
    x = call.args[0]
    if x.index.ndim != 3 or call.args[1] % 3 != 2:
        raise Unsupported(f"a softmax over dimension {call.args[1]}")
    return lowering.emit(Code.SOFTMAX, [lowering.buffer(x)], call.shape)


# ---- maps ------------------------------------------------------------------------------------------------------------


def _upsample(bilinear: bool) -> Mapped:
    def mapped(lowering: Lowering, call: Call) -> Value:
        x = call.args[0]
        factor = call.shape[2] // x.index.shape[2]
        if tuple(call.shape[2:]) != tuple(factor * n for n in x.index.shape[2:]) or (bilinear and call.args[2]):
            raise Unsupported("enlarging by other than a whole factor")
        return lowering.emit(Code.UPSAMPLE, [lowering.buffer(x)], call.shape, [factor, int(bilinear)])

    return mapped


def _pool(maximum: bool) -> Mapped:
    def mapped(lowering: Lowering, call: Call) -> Value:
        x, (size, other) = call.args[0], _pair(call.args[1])
        stride = _pair(call.arg(2, None, "stride") or (size, other))
        if size != other or stride != (size, size) or any(_pair(call.arg(3, 0, "padding"))) or call.shape[2] * size > x.index.shape[2]:
            raise Unsupported("pooling whose windows are not square blocks next to each other")
        return lowering.emit(Code.POOL, [lowering.buffer(x)], call.shape, [size, int(maximum)])

    return mapped


def _shuffle(up: bool) -> Mapped:
    return lambda lowering, call: lowering.emit(
        Code.SHUFFLE, [lowering.buffer(call.args[0])], call.shape, [int(call.args[1]), int(up)]
    )


def _pad(lowering: Lowering, call: Call) -> Value:
    x, amounts, mode = call.args[0], call.args[1], call.arg(2, "constant", "mode")
    left, right, top, bottom = (*amounts, 0, 0)[:4]
    if mode not in PAD_MODES or min(amounts) < 0 or len(amounts) > 4 or call.arg(3, None, "value"):
        raise Unsupported(f"padding of the kind {mode}")
    return lowering.emit(Code.PAD, [lowering.buffer(x)], call.shape, [top, bottom, left, right, PAD_MODES.index(mode)])


def _concatenate(lowering: Lowering, call: Call) -> Value:
    parts, dim = call.args[0], call.arg(1, 0, "dim") % len(call.shape)
    if dim != (1 if len(call.shape) == 4 else len(call.shape) - 1):
        raise Unsupported(f"concatenation along dimension {dim}")
    return lowering.emit(Code.CONCATENATE, [lowering.buffer(part) for part in parts], call.shape)


def _glu(lowering: Lowering, call: Call) -> Value:
    x, dim = call.args[0], call.arg(1, -1, "dim")
    value, gate = (Value(x.buffer, part) for part in x.index.chunk(2, dim))
    return combine(lowering, "multiply", value, apply(lowering, gate, (Activation.SIGMOID, 0.0, 0.0)))


TABLE: dict[str, Mapped] = {
    "linear": _linear,
    "matmul": _matmul,
    "embedding": _embedding,
    "one_hot": _one_hot,
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "add": _binary("add"),
    "add_": _binary("add"),
    "sub": _binary("subtract"),
    "rsub": _reversed,
    "mul": _binary("multiply"),
    "div": _binary("divide"),
    "addcmul": _addcmul,
    "lerp": _lerp,
    "relu": _function(Activation.LEAKY, 0.0, 1.0),
    "relu_": _function(Activation.LEAKY, 0.0, 1.0),
    "leaky_relu": _leaky,
    "tanh": _function(Activation.TANH),
    "sigmoid": _function(Activation.SIGMOID),
    "silu": _function(Activation.SILU),
    "rsqrt": _function(Activation.RSQRT),
    "sqrt": _function(Activation.SQRT),
    "square": _function(Activation.SQUARE),
    "exp": _function(Activation.EXP),
    "abs": _function(Activation.ABS),
    "neg": _function(Activation.AFFINE, -1.0, 0.0),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "mean": _reduce(True),
    "sum": _reduce(False),
    "softmax": _softmax,
    "upsample_nearest2d": _upsample(False),
    "upsample_bilinear2d": _upsample(True),
    "avg_pool2d": _pool(False),
    "max_pool2d": _pool(True),
    "pixel_shuffle": _shuffle(True),
    "pixel_unshuffle": _shuffle(False),
    "pad": _pad,
    "cat": _concatenate,
    "glu": _glu,
}

"""Programs of the WebAssembly runtime (`runtime/program.c`): operators over buffers, and their binary form.

A buffer is a map [h,w,c], channels last; a row of F numbers is [1,1,F]. The batch is always one picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

MAGIC = 0x314D4C52
BITS = (8, 16, 24, 32)  # of a stored weight
Size = tuple[int, int, int]  # h, w, c


class Kind(IntEnum):
    """Kinds of buffers. A picture is an input whose height and width the page chooses."""

    CONSTANT = 0
    INPUT = 1
    PICTURE = 2
    COMPUTED = 3


class Code(IntEnum):
    """Operators; the same numbers in runtime.h."""

    CONV = 1
    ACTIVATE = 2
    BINARY = 3
    MULTIPLY_ADD = 4
    UPSAMPLE = 5
    POOL = 6
    SHUFFLE = 7
    INSTANCE_NORM = 8
    CONCATENATE = 9
    REDUCE = 10
    SOFTMAX = 11
    MATMUL = 12
    PAD = 13
    COPY = 14
    SLICE = 15
    RESHAPE = 16


class Activation(IntEnum):
    """Functions of one number with two parameters a and b; the same numbers in runtime.h."""

    IDENTITY = 0
    LEAKY = 1  # slope a below zero, times b
    TANH = 2
    SIGMOID = 3
    SILU = 4
    CLAMP = 5
    RSQRT = 6
    SQUARE = 7
    SQRT = 8
    EXP = 9
    AFFINE = 10  # a x + b
    ABS = 11


BINARY_KINDS = ("add", "subtract", "multiply", "divide")
PAD_MODES = ("constant", "reflect", "replicate")
Function = tuple[Activation, float, float]
IDENTITY: Function = (Activation.IDENTITY, 0.0, 0.0)
FUSED = (Code.CONV, Code.BINARY, Code.MULTIPLY_ADD, Code.INSTANCE_NORM)  # operators that apply a function to their output


@dataclass
class Conv:
    """A convolution: weight float64 [O,I/groups,kh,kw] (also where it is transposed), bias [O] or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    transposed: bool = False

    @property
    def doubles(self) -> bool:
        """Whether it doubles a map, as a resize-convolution does (`networks.layers.UpConv2d`)."""
        return self.transposed and (self.stride, self.padding, self.dilation, self.groups) == ((2, 2), (1, 1), (1, 1), 1)


@dataclass
class Op:
    """An operator. numbers: its arguments after the inputs, in the order of program.c. function: applied to the output."""

    code: Code
    inputs: list[int]
    out: int
    numbers: list[int | float] = field(default_factory=list)
    function: Function = IDENTITY
    conv: Conv | None = None


@dataclass
class Buffer:
    """A map. constant: its content float32 [h,w,c], if it is one."""

    kind: Kind
    size: Size
    constant: np.ndarray | None = None


@dataclass
class Program:
    """inputs: buffers by name. fixed: some operator holds sizes of the picture, so that it cannot have another."""

    buffers: list[Buffer] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    output: int = -1
    fixed: bool = False

    def add(self, kind: Kind, size: Size, constant: np.ndarray | None = None) -> int:
        """Add a buffer and return its number."""
        self.buffers.append(Buffer(kind, size, constant))
        return len(self.buffers) - 1


# ---- binary form -----------------------------------------------------------------------------------------------------


def unfolded(weight: np.ndarray) -> np.ndarray | None:
    """Return the kernel [O,I,3,3] from which `networks.layers.fold_upsampling` makes the transposed kernel [O,I,4,4], or None.

    Along one axis it makes (w2, w1 + w2, w0 + w1, w0), so the inverse is exact; it takes 9 numbers instead of 16.
    """
    if weight.shape[2:] != (4, 4):
        return None
    t = weight.astype(np.float64)
    for axis in (2, 3):
        t0, t1, t2, t3 = (np.take(t, i, axis) for i in range(4))
        if np.abs(t2 - (t3 + t1 - t0)).max() > 1e-6 * max(np.abs(t).max(), 1e-12):
            return None
        t = np.stack([t3, t1 - t0, t0], axis)
    return t


def _whole(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [O,N] as whole numbers int32 [O,N], the largest magnitude of a row the largest of `bits` bits, and its scales [O]."""
    high = 2 ** (bits - 1) - 1
    scales = (np.abs(rows).max(1) / high).astype(np.float32)
    return np.rint(rows / np.where(scales > 0, scales, 1).astype(np.float64)[:, None]).clip(-high, high).astype("<i4"), scales


def quantized(rows: np.ndarray, bits: int) -> tuple[bytes, np.ndarray]:
    """Return rows [O,N] as signed whole numbers of `bits` bits, little-endian, and the scale float32 [O] of each row.

    With 24 bits the rounding is that of float32; 32 bits are float32 themselves, without scales.
    """
    if bits == 32:
        return rows.astype("<f4").tobytes(), np.zeros(0, np.float32)
    whole, scales = _whole(rows, bits)
    return whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes(), scales


def rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Return rows [O,N] as they are after `quantized`, float32."""
    if bits == 32:
        return rows.astype(np.float32)
    whole, scales = _whole(rows, bits)
    return whole.astype(np.float32) * scales[:, None]


def _word(x: float) -> int:
    return int(np.float32(x).view(np.int32))


class Blob:
    """Constants behind each other, at multiples of 4 bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, content: bytes) -> int:
        """Append bytes and return their offset."""
        at = self.size
        self.parts.append(content + bytes(-len(content) % 4))
        self.size += len(self.parts[-1])
        return at

    def floats(self, values: np.ndarray) -> int:
        return self.add(values.astype("<f4").tobytes())


def packed(program: Program, bits: int = 24) -> tuple[bytes, bytes]:
    """Return the words of a program, int32 little-endian, and its blob of weights. bits: of each stored weight."""
    assert bits in BITS, bits
    blob = Blob()
    words: list[int] = [MAGIC, len(program.buffers), len(program.ops)]
    for buffer in program.buffers:
        at = 0 if buffer.constant is None else blob.floats(buffer.constant)
        words += [buffer.kind, *buffer.size, at]
    for op in program.ops:
        arguments = _arguments(op, blob, bits)
        words += [op.code, len(arguments) + 1, op.out, *arguments]
    return np.asarray(words, "<i4").tobytes(), b"".join(blob.parts)


def _arguments(op: Op, blob: Blob, bits: int) -> list[int]:
    function = [int(op.function[0]), _word(op.function[1]), _word(op.function[2])]
    numbers = [_word(x) if isinstance(x, float) else int(x) for x in op.numbers]
    if op.code == Code.CONV:
        assert op.conv is not None
        return [*op.inputs, *function, *_conv(op.conv, blob, bits)]
    if op.code == Code.CONCATENATE:
        return [len(op.inputs), *op.inputs]
    if op.code == Code.ACTIVATE:
        return [*op.inputs, *function]
    return [*op.inputs, *numbers, *(function if op.code in FUSED else [])]


def _conv(conv: Conv, blob: Blob, bits: int) -> list[int]:
    outputs, inputs, *kernel = conv.weight.shape
    small = unfolded(conv.weight) if conv.doubles else None
    weights, scales = quantized((conv.weight if small is None else small).reshape(outputs, -1), bits)
    return [
        outputs, inputs, *kernel, *conv.stride, *conv.padding, *conv.dilation, conv.groups, conv.transposed, small is not None,
        bits, blob.add(weights), blob.floats(scales), -1 if conv.bias is None else blob.floats(conv.bias),
    ]  # fmt: skip

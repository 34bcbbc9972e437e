"""A program while it is made from a traced network: its values, and how a graph of ATen operators is walked.

What depends on weights alone is computed at once; what only moves numbers is tracked as an index tensor and costs an operator
only where the next one needs another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.export.program import Code, Function, Kind, Op, Program, Size

Mapped = Callable[["Lowering", "Call"], Any]


@dataclass(frozen=True)
class Value:
    """A tensor that the program computes: element by element, index (int64, of the tensor's shape) says where it is in a buffer."""

    buffer: int
    index: Tensor


@dataclass(frozen=True)
class ClassInput:
    """The class number of the picture. The page gives weights [1,K] of the classes instead, 1 for one class and 0 for the others."""

    value: Value


@dataclass(frozen=True)
class Call:
    """An operator of the traced network: its name, its arguments, and the shape of its output."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...]

    def arg(self, place: int, default: Any = None, name: str = "") -> Any:
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)


def size_of(shape: Sequence[int]) -> Size:
    """Return the map [h,w,c] of a tensor: [N,C,H,W] has N C channels (N is 1 but within a network), a row or matrix is [1,A,B]."""
    shape = tuple(shape)
    if len(shape) == 4:
        return shape[2], shape[3], shape[0] * shape[1]
    if len(shape) <= 2 or (len(shape) == 3 and shape[0] == 1):
        *rest, last = (1, *shape)
        return 1, int(np.prod(rest)), last
    raise Unsupported(f"a tensor of the shape {list(shape)}")


def standard(shape: Sequence[int]) -> Tensor:
    """Return the index tensor of a tensor whose elements lie in the order of its map [h,w,c]."""
    h, w, c = size_of(shape)
    index = torch.arange(h * w * c)
    return index.view(h, w, *shape[:2]).permute(2, 3, 0, 1) if len(shape) == 4 else index.view(*shape)


class Unsupported(ValueError):
    """What the runtime has no operator for."""


class Lowering:
    """A program while it is made."""

    def __init__(self, table: Mapping[str, Mapped], views: Mapping[str, Callable[..., Any]]) -> None:
        self.program, self.table, self.views = Program(), table, views

    # ---- values ------------------------------------------------------------------------------------------------------

    def emit(self, code: Code, inputs: Sequence[int], shape: Sequence[int], numbers: Sequence[int | float] = (),
             function: Function | None = None) -> Value:  # fmt: skip
        """Add an operator whose output is a tensor of this shape."""
        out = self.program.add(Kind.COMPUTED, size_of(shape))
        op = Op(code, list(inputs), out, list(numbers))
        if function is not None:
            op.function = function
        self.program.ops.append(op)
        return Value(out, standard(shape))

    def input(self, name: str, shape: Sequence[int], kind: Kind = Kind.INPUT) -> Value:
        buffer = self.program.add(kind, size_of(shape))
        self.program.inputs[name] = buffer
        return Value(buffer, standard(shape))

    def constant(self, tensor: Tensor) -> int:
        """Add a tensor as a constant buffer and return its number."""
        array = tensor.detach().double().numpy()
        h, w, c = size_of(array.shape)
        array = array.transpose(2, 3, 0, 1) if array.ndim == 4 else array
        return self.program.add(Kind.CONSTANT, (h, w, c), np.ascontiguousarray(array.reshape(h, w, c)).astype(np.float32))

    def aligned(self, value: Value | Tensor, rank: int) -> Value | Tensor:
        """Add dimensions of 1 in front."""
        if isinstance(value, Tensor):
            return value.reshape((1,) * (rank - value.ndim) + tuple(value.shape))
        index = value.index
        return Value(value.buffer, index.reshape((1,) * (rank - index.ndim) + tuple(index.shape)))

    def buffer(self, value: Value | Tensor) -> int:
        """Return a buffer that holds a tensor in the order of its map, moving numbers if they lie otherwise."""
        if isinstance(value, Tensor):
            return self.constant(value)
        shape = tuple(value.index.shape)
        h, w, c = size_of(shape)
        index = value.index.permute(2, 3, 0, 1) if len(shape) == 4 else value.index
        flat, held = index.reshape(-1), self.program.buffers[value.buffer].size
        if len(flat) == int(np.prod(held)) and torch.equal(flat, torch.arange(len(flat))):
            if held == (h, w, c):
                return value.buffer
            self.program.fixed = True
            return self.emit(Code.RESHAPE, [value.buffer], shape).buffer
        start = int(flat[0])
        channels = (torch.arange(h * w)[:, None] * held[2] + start + torch.arange(c)).reshape(-1)
        if (h, w) == held[:2] and start + c <= held[2] and torch.equal(flat, channels):
            return self.emit(Code.SLICE, [value.buffer], shape, [start, c]).buffer
        if (found := _strided(flat)) is None:
            raise Unsupported(f"a reordering to {list(shape)}")
        self.program.fixed = True
        sizes, strides = found
        copied = self.emit(Code.COPY, [value.buffer], (1, sizes[2], *sizes[:2]), [start, *strides]).buffer
        return copied if sizes == (h, w, c) else self.emit(Code.RESHAPE, [copied], shape).buffer

    # ---- the traced graph --------------------------------------------------------------------------------------------

    def call(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], home: nn.Module) -> Any:
        """Return what a node gives: constants where it depends on none of the inputs, else what the program computes."""
        name = str(node.target).removeprefix("aten.")
        if name == "wrap_with_autocast":  # (device, type, enabled, cache, subgraph, arguments); computed in float32 here
            return self.interpret(node.args[4], args[5:], home)
        if not _has_values(args) and not _has_values(tuple(kwargs.values())):
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if name == "_assert_tensor_metadata.default":
            return None
        if (view := self.views.get(name)) is not None:
            if isinstance(args[0], ClassInput):
                return args[0]
            source = args[0] if isinstance(args[0], Value) else None
            if source is None:
                return view(*args, **kwargs)  # an element of a list of values
            made = view(source.index, *args[1:], **kwargs)
            return Value(source.buffer, made) if isinstance(made, Tensor) else [Value(source.buffer, part) for part in made]
        if (mapped := self.table.get(name.rpartition(".")[0] or name)) is None:
            raise Unsupported(f"the operator {name}")
        found = node.meta["val"]
        return mapped(self, Call(name, args, kwargs, tuple(found.shape) if isinstance(found, Tensor) else ()))

    def interpret(self, graph: Any, inputs: Sequence[Any], home: nn.Module) -> Any:
        """Run a traced graph over values. graph: a GraphModule, or the get_attr node of one in `home`."""
        module = getattr(home, str(graph.target)) if isinstance(graph, torch.fx.Node) else graph
        values: dict[torch.fx.Node, Any] = {}
        given = iter(inputs)
        for node in module.graph.nodes:
            args = torch.fx.map_arg(node.args, lambda n: values[n])
            kwargs = torch.fx.map_arg(node.kwargs, lambda n: values[n])
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = getattr(module, str(node.target))
            elif node.op == "output":
                return args[0]
            else:
                values[node] = self.call(node, args, kwargs, module)
        raise AssertionError("a traced graph ends with an output")


def _strided(flat: Tensor) -> tuple[Size, Size] | None:
    """Return sizes and strides of three nested loops that visit the indices [N] in order, or None if there are none."""
    sizes, strides, rest = [1, 1, 1], [0, 0, 0], flat
    for axis in (2, 1, 0):
        if len(rest) == 1:
            break
        steps = rest.diff()
        other = (steps != steps[0]).nonzero()
        count = int(other[0]) + 1 if len(other) else len(rest)
        if len(rest) % count:
            return None
        blocks = rest.view(-1, count)
        if not torch.equal(blocks, blocks[:, :1] + steps[0] * torch.arange(count)):
            return None
        sizes[axis], strides[axis], rest = count, int(steps[0]), blocks[:, 0]
    return None if len(rest) > 1 else ((sizes[0], sizes[1], sizes[2]), (strides[0], strides[1], strides[2]))


def _has_values(items: Any) -> bool:
    if isinstance(items, Value | ClassInput):
        return True
    return isinstance(items, list | tuple) and any(_has_values(item) for item in items)

"""Fusion: batch norms folded into convolutions, activations into the operators before them, unused operators removed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from limner.apps.export.program import BINARY_KINDS, FUSED, IDENTITY, Activation, Code, Kind, Op, Program


def fused(program: Program) -> Program:
    """Return the program with fewer operators; changed in place."""
    _drop_unused(program)
    _join_multiply_add(program)
    _fold_into_convolutions(program)
    _fuse_functions(program)
    _drop_unused(program)
    return _renumbered(program)


class _Graph:
    """Who makes and who reads each buffer."""

    def __init__(self, program: Program) -> None:
        self.maker = {op.out: op for op in program.ops}
        self.readers = Counter(i for op in program.ops for i in op.inputs)
        self.readers[program.output] += 1

    def only_source(self, buffer: int) -> tuple[Op | None, list[Op]]:
        """Return the operator whose output reaches a buffer and nothing else, past any RESHAPE, and those RESHAPEs."""
        passed: list[Op] = []
        while self.readers[buffer] == 1 and (op := self.maker.get(buffer)) is not None:
            if op.code != Code.RESHAPE:
                return op, passed
            passed.append(op)
            buffer = op.inputs[0]
        return None, passed


def _drop_unused(program: Program) -> None:
    needed = {program.output}
    kept = []
    for op in reversed(program.ops):
        if op.out in needed:
            needed |= set(op.inputs)
            kept.append(op)
    program.ops = kept[::-1]


def _replace(program: Program, old: int, new: int) -> None:
    """Let every reader of a buffer read another."""
    for op in program.ops:
        op.inputs = [new if i == old else i for i in op.inputs]
    if program.output == old:
        program.output = new


def _join_multiply_add(program: Program) -> None:
    """x y + z in one operator."""
    add, multiply = BINARY_KINDS.index("add"), BINARY_KINDS.index("multiply")
    for op in list(program.ops):
        if op.code != Code.BINARY or op.numbers != [add]:
            continue
        graph = _Graph(program)
        for product, shift in (op.inputs, op.inputs[::-1]):
            source = graph.maker.get(product)
            if source is None or graph.readers[product] != 1 or source.code != Code.BINARY or source.numbers != [multiply]:
                continue
            if program.buffers[product].size != program.buffers[op.out].size:
                continue
            op.code, op.numbers, op.inputs = Code.MULTIPLY_ADD, [], [*source.inputs, shift]
            program.ops.remove(source)
            break


def _fold_into_convolutions(program: Program) -> None:
    """A convolution (or linear map) followed by constant factors and shifts of its channels becomes one with other weights."""
    for op in list(program.ops):
        if op.code != Code.MULTIPLY_ADD or any(program.buffers[i].kind != Kind.CONSTANT for i in op.inputs[1:]):
            continue
        source, _ = _Graph(program).only_source(op.inputs[0])
        if source is None or source.code != Code.CONV or source.function != IDENTITY or op.function != IDENTITY:
            continue
        assert source.conv is not None
        scale, shift = (_per_output(program, source, op, i) for i in op.inputs[1:])
        if scale is None or shift is None:
            continue
        source.conv.weight = source.conv.weight * scale[:, None, None, None]
        source.conv.bias = shift if source.conv.bias is None else source.conv.bias * scale + shift
        _replace(program, op.out, op.inputs[0])
        program.ops.remove(op)


def _per_output(program: Program, source: Op, op: Op, constant: int) -> np.ndarray | None:
    """Return a constant [1,1,C] (or a number) for each output of a convolution [O]; None where it differs between pixels."""
    values = program.buffers[constant].constant
    assert values is not None and source.conv is not None
    outputs, held = len(source.conv.weight), program.buffers[source.out].size
    if values.size == 1:
        return np.full(outputs, float(values.reshape(())))
    h, w, c = program.buffers[op.inputs[0]].size
    if held == (h, w, c):
        return values.reshape(-1).astype(np.float64) if values.shape == (1, 1, c) else None
    if held != (1, 1, h * w * c):  # a row of numbers that is read as a map
        return None
    return np.broadcast_to(values, (h, w, c)).reshape(-1).astype(np.float64)


def _fuse_functions(program: Program) -> None:
    """An activation becomes part of the operator before it; a positive factor after a leaky ReLU becomes its gain."""
    for op in list(program.ops):
        if op.code != Code.ACTIVATE:
            continue
        source, _ = _Graph(program).only_source(op.inputs[0])
        if source is None or source.code not in (*FUSED, Code.ACTIVATE):
            continue
        code, a, b = op.function
        if source.function[0] == Activation.LEAKY and code == Activation.AFFINE and a > 0 and b == 0:
            source.function = (Activation.LEAKY, source.function[1], source.function[2] * a)
        elif source.function == IDENTITY:
            source.function = op.function
        else:
            continue
        _replace(program, op.out, op.inputs[0])
        program.ops.remove(op)


def _renumbered(program: Program) -> Program:
    """Drop buffers that no operator uses."""
    used = {program.output, *program.inputs.values(), *(i for op in program.ops for i in (*op.inputs, op.out))}
    number = {old: new for new, old in enumerate(sorted(used))}
    program.buffers = [program.buffers[old] for old in sorted(used)]
    for op in program.ops:
        op.inputs, op.out = [number[i] for i in op.inputs], number[op.out]
    program.inputs = {name: number[i] for name, i in program.inputs.items()}
    program.output = number[program.output]
    return program

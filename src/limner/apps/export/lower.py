"""Lowering: a network traced by `torch.export`, a few dozen ATen operators, becomes a `program.Program`.

`lowering` walks the traced graph, `lower_ops` maps its operators, `fuse` joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind

from limner.apps.export.fuse import fused
from limner.apps.export.lower_ops import TABLE, VIEWS
from limner.apps.export.lowering import ClassInput, Lowering, Unsupported
from limner.apps.export.program import Kind, Program


def lower(network: nn.Module, inputs: Mapping[str, Tensor], *, picture: bool = False) -> Program:
    """Return the program of a network with one output.

    inputs: example tensors of one picture by name, in the order of the network's arguments; an int64 tensor is a class number, and
    the program takes weights of the classes in its place (its name is "classes", and K numbers). picture: the first input is a
    picture of any size. Raises ValueError, one sentence, where the network needs an operator that the runtime lacks.
    """
    lowering = Lowering(TABLE, VIEWS)
    given: list[Any] = []
    for i, (name, tensor) in enumerate(inputs.items()):
        if tensor.dtype == torch.int64:
            # the class number's own value says how many classes there are: an example of the last class is given
            given.append(ClassInput(lowering.input(name, (1, int(tensor.max()) + 1))))
        else:
            given.append(lowering.input(name, tensor.shape, Kind.PICTURE if picture and i == 0 else Kind.INPUT))
    try:
        with torch.no_grad():
            traced = torch.export.export(network, tuple(inputs.values()), strict=False)
            users = iter(given)
            arguments = [
                next(users) if spec.kind == InputKind.USER_INPUT else traced.state_dict.get(str(spec.target), traced.constants.get(str(spec.target)))
                for spec in traced.graph_signature.input_specs
            ]
            made = lowering.interpret(traced.graph_module, arguments, traced.graph_module)
            lowering.program.output = lowering.buffer(made[0] if isinstance(made, list | tuple) else made)
    except Unsupported as error:
        raise ValueError(f"This network cannot run in a browser page: the runtime has nothing for {error}.") from error
    return fused(lowering.program)

"""`limner export RUN model.onnx`: a trained network as one ONNX file, checked against PyTorch before it is written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from limner.apps.export.check import compare
from limner.apps.export.metadata import metadata_of
from limner.apps.export.part import Part
from limner.apps.export.parts import folded, part_of
from limner.apps.export.quantize import smaller
from limner.apps.export.report import Report
from limner.apps.output import Progress
from limner.core.files import write_whole

OPSET = 18  # the highest that the browsers' and phones' runtimes of 2023 read; nothing newer is needed
MISSING = "Exporting needs the packages onnx, onnxscript and onnxruntime, which are not installed: `pip install 'limner[export]'` adds them."


def check_installed() -> None:
    """Raise ValueError unless the packages of the extra `export` are installed."""
    if not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise ValueError(MISSING)


def write(
    model: Any, out: Path, part: str | None = None, *, precision: str = "fp32", progress: Progress | None = None
) -> Report:
    """Export a part of a trained model as an ONNX file.

    The graph takes any number of rows. It is compared with PyTorch on 1,000 inputs in batches of 1, 3 and 64 before the file is
    written, atomically. precision: fp16 or int8 makes it smaller, and what that costs is in the report. Raises ValueError when the
    packages are missing, and when the comparison fails.
    """
    check_installed()
    exported = part_of(model, part)
    content = traced(folded(model, part), metadata_of(model, exported))
    error, notes = compare(exported, content, progress), exported.left_out
    if precision != "fp32":
        content, loss = smaller(content, precision, exported, model.folder)
        error, notes = loss.error, (str(loss), *notes)
    write_whole(out, content)
    return Report(out, len(content), error, notes)


def traced(part: Part, metadata: dict[str, str]) -> bytes:
    """Return the ONNX file of a part, with all weights inside. Raises ValueError when the exporter makes no valid graph."""
    from onnx import checker

    examples = (*part.examples(2, 0), *part.defaults.values())
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple({i: dynamic for i, axis in enumerate(axes) if isinstance(axis, str)} for axes in part.inputs.values())
    failure = ""
    for optimize in (True, False):  # the exporter's rewriting has left graphs that are out of order; onnxruntime rewrites them anyway
        with quiet():
            program = torch.onnx.export(
                part.module.eval(), examples, dynamo=True, dynamic_shapes=shapes, input_names=list(part.inputs),
                output_names=list(part.outputs), opset_version=OPSET, verbose=False, optimize=optimize,
            )  # fmt: skip
        assert program is not None
        proto = finished(program.model_proto, part, metadata)
        try:
            checker.check_model(proto)
        except checker.ValidationError as error:
            failure = str(error).splitlines()[0]
            continue
        content: bytes = proto.SerializeToString(deterministic=True)
        return content
    raise ValueError(f"PyTorch's exporter wrote a graph that is not valid, so nothing was written: {failure}.")


def finished(proto: Any, part: Part, metadata: dict[str, str]) -> Any:
    """Return a traced graph with names of axes, defaults of inputs and metadata."""
    import onnx

    for values, axes_of in ((proto.graph.input, part.inputs), (proto.graph.output, part.outputs)):
        for value in values:
            for dim, axis in zip(value.type.tensor_type.shape.dim, axes_of[value.name], strict=True):
                dim.Clear()
                if isinstance(axis, str):
                    dim.dim_param = axis
                else:
                    dim.dim_value = axis
    for name, default in part.defaults.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(default.numpy(), name))
    # notes of the exporter: stack traces, with paths of this machine, and shapes
    for item in (proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    del proto.graph.value_info[:]
    onnx.helper.set_model_props(proto, metadata)
    proto.producer_name = "limner"
    return proto


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which reports absent packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

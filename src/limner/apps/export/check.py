"""Comparison of an exported graph with PyTorch.

Exporters have written graphs that run and are wrong (pytorch issues 168224, 169178), so nothing is written that was not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.export.part import Part
from limner.apps.output import Progress

BATCHES = (64, 3, 1)
TOLERANCE = 1e-4  # of pixels in [0,1]: a fortieth of a level of 8 bits


def session(content: bytes, threads: int = 0) -> Any:
    """Return an onnxruntime session on the CPU. threads: 0 for as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def compare(part: Part, content: bytes, progress: Progress | None = None) -> float:
    """Return the largest difference of the graph's outputs from PyTorch's.

    It is taken over `part.rows` inputs, in batches of 1, 3 and 64, and where the graph takes pictures of any size, at further sizes.
    Raises ValueError when it is above TOLERANCE or not finite.
    """
    running, error, done = session(content), 0.0, 0
    total = part.rows * len(BATCHES) + 3 * len(part.sizes)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, total)

    for size in (part.size, *part.sizes):
        whole = size == part.size
        inputs = part.draw(part.rows if whole else 3, 1, size)
        truth = in_batches(part, inputs)
        scales = [max(1.0, float(t.abs().max())) for t in truth]
        for batch in BATCHES if whole else (3,):
            for some in _slices(len(inputs[0]), batch):
                made = run(running, part, tuple(x[some] for x in inputs))
                error = max(error, *(difference(a, t[some], scale, part.meaning) for a, t, scale in zip(made, truth, scales, strict=True)))
                advance(len(made[0]))
    if not error <= TOLERANCE:  # also for NaN
        raise ValueError(
            f"The exported graph differs from PyTorch by {error:.2g}, more than {TOLERANCE:g}, so nothing was written: "
            "update torch, onnxscript and onnxruntime, or report it."
        )
    return error


def run(running: Any, part: Part, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Return the outputs of a graph for inputs, without those that have defaults."""
    names = [name for name in part.inputs if name not in part.defaults]
    try:
        made: list[np.ndarray] = running.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    except Exception as error:  # onnxruntime's errors have no common class
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise ValueError(f"The exported graph does not run, so nothing was written: {str(error).splitlines()[0]}.") from error
    return made


def _slices(rows: int, batch: int) -> list[slice]:
    return [slice(start, start + batch) for start in range(0, rows, batch)]


def difference(made: np.ndarray, truth: Tensor, scale: float, meaning: Callable[[Tensor], Tensor] | None = None) -> float:
    """Return the largest absolute difference, divided by `scale`; infinite where the shapes differ.

    Of codes, which are whole numbers and stand for vectors, it is 0 if at most one vector in a thousand differs (two may be equally
    near to what they stand for), else infinite.
    """
    if made.shape != tuple(truth.shape):
        return float("inf")
    if meaning is not None:
        different = (meaning(torch.from_numpy(made)) != meaning(truth)).any(1).float()
        return 0.0 if float(different.mean()) <= 1e-3 else float("inf")
    return float(np.abs(made.astype(np.float64) - truth.double().numpy()).max() / scale)


def in_batches(part: Part, inputs: Sequence[Tensor], batch: int = 64) -> list[Tensor]:
    """Return the outputs of a part in PyTorch, for all rows of its inputs."""
    found = [part(*(x[some] for x in inputs)) for some in _slices(len(inputs[0]), batch)]
    return [torch.cat(rows) for rows in zip(*found, strict=True)]

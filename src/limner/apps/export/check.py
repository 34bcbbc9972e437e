"""Comparison of an exported graph with PyTorch.

Exporters have written graphs that run and are wrong (pytorch issues 168224, 169178), so nothing is written that was not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.export.parts import Part
from limner.apps.output import Progress

ROWS = 1000
BATCHES = (64, 3, 1)
TOLERANCE = 1e-4  # of pixels in [0,1]: a fortieth of a level of 8 bits


def session(content: bytes, threads: int = 0) -> Any:
    """Return an onnxruntime session on the CPU. threads: 0 for as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def compare(part: Part, content: bytes, progress: Progress | None = None, rows: int = ROWS) -> float:
    """Return the largest difference of the graph's outputs from PyTorch's, over `rows` inputs in batches of 1, 3 and 64.

    Raises ValueError when it is above TOLERANCE or not finite.
    """
    running, names, error = session(content), [name for name in part.inputs if name not in part.defaults], 0.0
    inputs = part.draw(rows, 1)
    truth = in_batches(part, inputs)
    scales = [max(1.0, float(t.abs().max())) for t in truth]
    done, total = 0, rows * len(BATCHES)
    for batch in BATCHES:
        for start in range(0, rows, batch):
            some = slice(start, start + batch)
            made = running.run(None, {name: x[some].numpy() for name, x in zip(names, inputs, strict=True)})
            error = max(error, *(difference(a, t[some], scale) for a, t, scale in zip(made, truth, scales, strict=True)))
            done += min(batch, rows - start)
            if progress:
                progress(done, total)
    if not error <= TOLERANCE:  # also for NaN
        raise ValueError(
            f"The exported graph differs from PyTorch by {error:.2g}, more than {TOLERANCE:g}, so nothing was written: "
            "update torch, onnxscript and onnxruntime, or report it."
        )
    return error


def difference(made: np.ndarray, truth: Tensor, scale: float) -> float:
    """Return the largest absolute difference, divided by `scale`; infinite where the shapes differ."""
    if made.shape != tuple(truth.shape):
        return float("inf")
    return float(np.abs(made.astype(np.float64) - truth.double().numpy()).max() / scale)


@torch.no_grad()
def in_batches(part: Part, inputs: Sequence[Tensor], batch: int = 64) -> list[Tensor]:
    """Return the outputs of a part in PyTorch, for all rows of its inputs."""
    found: list[list[Tensor]] = []
    for start in range(0, len(inputs[0]), batch):
        made = part.module(*(x[start : start + batch] for x in inputs), *part.defaults.values())
        found.append([made] if isinstance(made, Tensor) else list(made))
    return [torch.cat(rows) for rows in zip(*found, strict=True)]

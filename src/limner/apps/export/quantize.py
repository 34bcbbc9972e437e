"""Smaller numbers in an exported graph: float16, or int8 calibrated on the run's samples; what is lost is always measured.

int8: static quantization by onnxruntime (weights by channel, activations by tensor; ranges from 64 inputs). Its CPU has no int8
kernel for transposed convolutions: these become smaller files, not faster ones.
"""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from math import inf, log10
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.apps.export.check import in_batches, run, session
from limner.apps.export.part import Part
from limner.apps.export.report import megabytes
from limner.data.image import convert_channels

CALIBRATION = 64  # rows
MEASURED = 256  # rows
SECONDS = 1.0  # of a measurement of time
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Loss:
    """What smaller numbers cost. psnr: of the outputs against float32's, in dB, for outputs in [0,1] or relative to the largest.
    error: largest difference from PyTorch. sizes in bytes; ms of CPU time of one thread for one row; before and after."""

    precision: str
    psnr: float
    error: float
    sizes: tuple[int, int]
    ms: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"{self.precision}: {self.psnr:.1f} dB from float32, at most {self.error:.2g} from PyTorch; "
            f"{megabytes(self.sizes[1])} instead of {megabytes(self.sizes[0])}; "
            f"{self.ms[1]:.2f} ms instead of {self.ms[0]:.2f} ms of CPU time for one."
        )


def smaller(content: bytes, precision: str, part: Part, folder: Path) -> tuple[bytes, Loss]:
    """Return a graph in `fp16` or `int8`, and what it costs. folder: of the run, whose preview calibrates parts of pictures.

    Raises ValueError when the result is not finite.
    """
    made = half(content) if precision == "fp16" else quantized(content, calibration(part, folder))
    inputs = part.examples(min(MEASURED, part.rows), 2)
    truth, small = in_batches(part, inputs), outputs(made, part, inputs)
    scales = [max(1.0, float(t.abs().max())) for t in truth]
    exact = outputs(content, part, inputs)
    squares = [np.mean(((a - b) / scale) ** 2) for a, b, scale in zip(small, exact, scales, strict=True)]
    error = max(float(np.abs(a - t.numpy()).max() / scale) for a, t, scale in zip(small, truth, scales, strict=True))
    if not np.isfinite(error):
        raise ValueError(f"The outputs in {precision} are not finite, so nothing was written: export without it.")
    psnr = -10 * log10(max(squares)) if max(squares) else inf
    return made, Loss(precision, psnr, error, (len(content), len(made)), (milliseconds(content, part), milliseconds(made, part)))


def outputs(content: bytes, part: Part, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """Return the outputs of a graph, in batches of 64, as float64."""
    running = session(content)
    rows = [run(running, part, tuple(x[i : i + 64] for x in inputs)) for i in range(0, len(inputs[0]), 64)]
    return [np.concatenate(some).astype(np.float64) for some in zip(*rows, strict=True)]


def milliseconds(content: bytes, part: Part, batch: int = 1) -> float:
    """Return the least CPU time per row of a batch, with one thread, in milliseconds."""
    running, inputs, best, end = session(content, threads=1), part.examples(batch, 3), inf, time.monotonic() + SECONDS
    while time.monotonic() < end or best == inf:
        start = time.process_time()
        run(running, part, inputs)
        best = min(best, time.process_time() - start)
    return best * 1000 / batch


def half(content: bytes) -> bytes:
    """Return a graph whose weights and computations are float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: bytes = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True).SerializeToString(deterministic=True)
    return made


def quantized(content: bytes, rows: list[dict[str, np.ndarray]]) -> bytes:
    """Return a graph with int8 weights and uint8 activations, whose ranges come from the inputs `rows`."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(rows)

        def get_next(self) -> Any:
            return next(self.left, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            quantize_static(
                onnx.load_from_string(content), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            )  # fmt: skip
            return path.read_bytes()
    finally:
        logging.getLogger().setLevel(level)


def calibration(part: Part, folder: Path) -> list[dict[str, np.ndarray]]:
    """Return inputs one row each: latents, and pictures cut out of the run's preview where there is one."""
    inputs = list(part.examples(CALIBRATION, 4))
    names = [name for name in part.inputs if name not in part.defaults]
    if names[0] == "pixel_values" and (folder / "preview.png").exists():
        inputs[0] = cuttings(folder / "preview.png", inputs[0].shape, np.random.default_rng(5))
    return [{name: x[i : i + 1].numpy() for name, x in zip(names, inputs, strict=True)} for i in range(CALIBRATION)]


def cuttings(path: Path, shape: torch.Size, rng: np.random.Generator) -> Tensor:
    """Return random cuttings [N,C,H,W] in [0,1] of a picture, which is enlarged if it is smaller than they are."""
    n, channels, height, width = shape
    with Image.open(path) as opened:
        sheet = convert_channels(opened, channels, WHITE).copy()  # of the same mode it is the file itself, which closes
    if sheet.width < width or sheet.height < height:
        sheet = sheet.resize((max(sheet.width, width), max(sheet.height, height)), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(sheet).reshape(sheet.height, sheet.width, channels)).permute(2, 0, 1).float() / 255
    tops, lefts = rng.integers(0, sheet.height - height + 1, n), rng.integers(0, sheet.width - width + 1, n)
    return torch.stack([pixels[:, top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)])

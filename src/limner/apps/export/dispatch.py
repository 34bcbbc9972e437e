"""Where an export goes, by the suffix of its path."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

from limner.apps.export import html, hub, onnx
from limner.apps.export.report import Report
from limner.apps.output import Progress

BITS = {"fp32": 24, "fp16": 16, "int8": 8}  # of each weight in a page, which computes in float32


def export(
    model: Any, out: Path, part: str | None = None, precision: str = "fp32", progress: Progress | None = None
) -> Report:
    """Export a trained model to an .onnx file, an .html page, or a folder for a model hub.

    part: for .onnx. precision: fp32, fp16 or int8; a page stores its weights so. Raises ValueError.
    """
    suffix = "" if out.is_dir() else out.suffix.lower()
    if suffix not in (".onnx", ".html", ""):
        raise ValueError(f"A model is exported as .onnx, .html or a folder, not as {out.name!r}.")
    if part is not None and suffix != ".onnx":
        raise ValueError("A part is exported to an .onnx file: leave --part out, or give such a file.")
    if suffix == ".html":
        page = html.write(model, out, bits=BITS[precision], progress=progress)
        return Report(out, out.stat().st_size, nan, sentence=str(page))
    if suffix == ".onnx":
        return onnx.write(model, out, part, precision=precision, progress=progress)
    return hub.write(model, out, precision, progress=progress)

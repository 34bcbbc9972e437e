"""Where an export goes, by the suffix of its path."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from limner.apps.export import onnx
from limner.apps.export.report import Report
from limner.apps.output import Progress


def export(model: Any, out: Path, part: str | None = None, progress: Progress | None = None) -> Report:
    """Export a trained model to an .onnx file, an .html page, or a folder for a model hub. Raises ValueError."""
    suffix = out.suffix.lower()
    if suffix == ".onnx":
        return onnx.write(model, out, part, progress=progress)
    if suffix == ".html":
        report: Report = import_module("limner.apps.export.html").write(model, out, progress=progress)
        return report
    raise ValueError(f"A model is exported as .onnx, .html or a folder, not as {out.name!r}.")

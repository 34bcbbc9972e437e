"""Export of a run by its folder, or of a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limner.apps.export.dispatch import export as write
from limner.apps.export.report import Report
from limner.families.load import load


def export(run: Any, out: str | Path, part: str | None = None, precision: str = "fp32") -> Report:
    """Export a trained model for programs without PyTorch.

    It is compared with PyTorch before anything is written.

    Parameters
    ----------
    run
        A run folder that `limner train` wrote, or a model that `limner.load` returned.
    out
        An .onnx file, an .html page that runs offline, or a folder for a model hub.
    part
        For .onnx: the part of the model, such as "encoder"; by default what its kind is used for.
    precision
        "fp32", or "fp16" or "int8" for smaller files; what is lost is in the notes of the report (a page shows it).

    Returns
    -------
    Report
        Its path, size in bytes, largest difference from PyTorch, and notes.

    Raises
    ------
    ValueError
        When a package of the extra `export` is missing, for a kind, part or path that cannot be exported, and when the comparison
        with PyTorch fails.

    Examples
    --------
    After the example of `limner.train`:

    >>> import limner
    >>> report = limner.export("runs/noise", "noise.onnx")
    >>> report.path.name, report.error < 1e-4
    ('noise.onnx', True)
    """
    if precision not in ("fp32", "fp16", "int8"):
        raise ValueError(f"The precision {precision!r} is unknown: choose fp32, fp16 or int8.")
    model = load(run, "cpu") if isinstance(run, (str, Path)) else run
    return write(model, Path(out), part, precision)

"""Measured results of recipes on a CPU, from zoo.json beside this file (written by `benchmarks/zoo.py --publish`).

The file holds `protocol` (everything that determines the figures), `description` (the protocol as a sentence), `real` (the
figures of real pictures) and `rows` (a recipe's figures, or why it failed). Without a file there are no measurements.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("zoo.json")
FIGURE = "fd_own"


def measurements(file: Path = FILE) -> dict[str, Any]:
    """Return the content of the file; no rows if it is missing or damaged, so that the list of recipes is always available."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        real = {FIGURE: float(content["real"][FIGURE])}
        return {"description": str(content["description"]), "real": real, "rows": dict(content["rows"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"description": "", "real": {}, "rows": {}}


def format_row(found: dict[str, Any], name: str) -> str:
    """Return `fd_own 0.42`, `failed`, or `-` for a recipe that was not measured."""
    row = found["rows"].get(name)
    if row is None:
        return "-"
    return f"fd_own {row[FIGURE]:.3g}" if FIGURE in row else "failed"


def protocol(found: dict[str, Any]) -> str:
    """Return the caption of the measurements: what was measured, and the figure of real pictures."""
    return (
        f"fd_own, lower is better, real pictures {found['real'][FIGURE]:.2g}: {found['description']}. The order may differ for other "
        "pictures, longer training or another machine."
    )

"""What recipes were measured to give on a CPU, as `benchmarks/zoo.py --publish` wrote it into zoo.json beside this file.

The file holds `protocol` (everything that decided the figures), `told` (the same as a sentence), `real` (what real
pictures get) and `rows` (a recipe's figures, or why it failed). Where there is no file, nothing was measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("zoo.json")
FIGURE = "fd_own"


def measurements(file: Path = FILE) -> dict[str, Any]:
    """The content of the file; no rows when it is not there or not whole, for a list of recipes must print anyway."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        real = {FIGURE: float(content["real"][FIGURE])}
        return {"told": str(content["told"]), "real": real, "rows": dict(content["rows"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"told": "", "real": {}, "rows": {}}


def told(found: dict[str, Any], name: str) -> str:
    """`fd_own 0.42`, `failed`, or `-` for a recipe that was not measured."""
    row = found["rows"].get(name)
    if row is None:
        return "-"
    return f"fd_own {row[FIGURE]:.3g}" if FIGURE in row else "failed"


def protocol(found: dict[str, Any]) -> str:
    """The line below a list of figures: what was measured, and what real pictures get."""
    return (
        f"fd_own, lower is better, real pictures {found['real'][FIGURE]:.2g}: {found['told']}. Other pictures, longer "
        "training or another machine may order them otherwise."
    )

"""What a person should know of the pictures of a run before it starts, and the list of those that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from limner.core.files import write_whole
from limner.core.text import printable

SKIPPED = "skipped.txt"  # in the run folder


def facts(dataset: Any, folder: Path) -> list[str]:
    """What a person should know of the data before it is trained on: classes, skipped files, decisions."""
    said = []
    if dataset.labels is not None and dataset.spec.classes:
        counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
        told = [f"{name} {count:,}" for name, count in zip(dataset.classes, counts, strict=True)]
        more = f" and {len(told) - 20} more" if len(told) > 20 else ""
        said.append(f"{len(told)} classes: {', '.join(told[:20])}{more}.")
    said += dataset.notes
    if dataset.bad:
        said.append(f"{folder / SKIPPED} lists every picture that was left out, and why.")
    return said


def write_skipped(dataset: Any, folder: Path) -> None:
    """Write the pictures that this start leaves out, a line each, or no file where there are none."""
    if dataset.bad:
        write_whole(folder / SKIPPED, "".join(f"{printable(name)}: {why}\n" for name, why in dataset.bad))
    else:
        (folder / SKIPPED).unlink(missing_ok=True)

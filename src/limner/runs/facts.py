"""Notes on the pictures of a run before it starts, and the list of those that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limner.core.condition import class_counts
from limner.core.files import write_whole
from limner.core.text import printable
from limner.data.labels import TEXT_NOTE, text_like

SKIPPED = "skipped.txt"  # in the run folder


def facts(dataset: Any, folder: Path) -> list[str]:
    """Return sentences on the data, printed before training: classes, skipped files, decisions."""
    notes = []
    if dataset.labels is not None and dataset.spec.classes:
        counts = class_counts(dataset.labels, len(dataset.classes))
        classes = [f"{name} {count:,}" for name, count in zip(dataset.classes, counts, strict=True)]
        more = f" and {len(classes) - 20} more" if len(classes) > 20 else ""
        notes.append(f"{len(classes)} classes: {', '.join(classes[:20])}{more}.")
    notes += dataset.notes
    if text_like(dataset.name, dataset.classes):
        notes.append(TEXT_NOTE)
    if dataset.bad:
        notes.append(f"{folder / SKIPPED} lists every picture that was left out, and why.")
    return notes


def write_skipped(dataset: Any, folder: Path) -> None:
    """Write the pictures that are left out, one per line, or remove the file if there are none."""
    if dataset.bad:
        write_whole(folder / SKIPPED, "".join(f"{printable(name)}: {why}\n" for name, why in dataset.bad))
    else:
        (folder / SKIPPED).unlink(missing_ok=True)

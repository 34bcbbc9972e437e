"""The checkpoints of a run: which files there are, and what the newest readable one holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from limner.core.files import open_regular
from limner.core.schema import Mismatch

T = TypeVar("T")
LATEST, PREVIOUS, ROLLBACK = "latest", "previous", "rollback"
NEWEST_FIRST = (LATEST, PREVIOUS, ROLLBACK)


def run_of(folder: Path) -> Path:
    """Return the folder of a run whose `best/` was given; any other folder as it is. Only a run has checkpoints."""
    return folder.parent if folder.name == "best" else folder


def file_of(folder: Path, name: str) -> Path:
    """Return the file of a checkpoint. folder: of checkpoints."""
    return folder / f"{name}.safetensors"


def newest(
    folder: Path, read: Callable[[Any], T], names: Sequence[str] = NEWEST_FIRST, device: str = "cpu"
) -> tuple[T | None, list[str]]:
    """Return what `read` returns for the first readable checkpoint, and a clause for each one before it.

    folder: of checkpoints. read: takes an open safetensors file, and raises Mismatch (or SafetensorError, OSError, KeyError,
    TypeError) for one that does not fit. Returns None where there is no readable one; without a clause, there is none at all.
    Raises ValueError for a file that cannot be opened for another reason, such as its permissions.
    """
    problems: list[str] = []
    for path in (file_of(folder, name) for name in names):
        if not path.exists():
            continue
        try:
            open_regular(path).close()  # raises for a pipe, which would block
            with safe_open(path, "pt", device=device) as file:
                return read(file), problems
        except Mismatch as error:
            problems.append(f"in {path.name}, {error}")
        except (SafetensorError, OSError, KeyError, TypeError):
            problems.append(f"{path.name} is truncated or changed")
    return None, problems

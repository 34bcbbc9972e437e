"""The folder of a run: its lock, the command it belongs to, and the decisions made at its start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limner import __version__
from limner.core import process
from limner.core.artifact import DECISIONS, WEIGHTS
from limner.core.documents import Decisions
from limner.core.files import sweep, write_error, write_whole
from limner.core.schema import read

FIRST_SHEET = f"{0:09d}.png"  # in the folder samples: that of the untrained network
LARGE = ("checkpoint/latest.safetensors", "checkpoint/rollback.safetensors", WEIGHTS, f"best/{WEIGHTS}")  # in the folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the folder and lock it for this process. Raises ValueError when it is locked or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / process.LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another process is training in {folder}: wait for it, stop it, or choose another folder with --out."
        ) from error
    except OSError as error:
        raise write_error(error, folder) from error
    try:
        for name in LARGE:  # a kill during a write leaves a temporary file
            sweep(folder / name)
        process.record(folder)
        yield
    finally:
        process.erase(folder)
        lock.release()


def check_free(folder: Path) -> None:
    """Raise ValueError for a folder that is neither empty nor a run: its files are never overwritten.

    A run that was killed in its speed trial leaves a lock, the number of its process and its first sheet.
    """
    try:
        if (folder / DECISIONS).exists() or (folder / "checkpoint").exists() or not folder.is_dir():
            return
        left = {process.LOCK, process.FILE}
        if [path.name for path in sorted((folder / "samples").glob("*"))] == [FIRST_SHEET]:
            left.add("samples")
        found = next((path.name for path in sorted(folder.iterdir()) if path.name not in left), None)
    except OSError as error:
        raise write_error(error, folder) from error
    if found is not None:
        raise ValueError(
            f"{folder} holds other files, such as {found}, and is not a run: choose a new or an empty folder with --out."
        )


def recorded_request(folder: Path) -> Mapping[str, Any]:
    """Return the request that the run in this folder was started with; empty if there is none or it cannot be read."""
    try:
        return read(folder / DECISIONS, Decisions)["request"]
    except (OSError, ValueError):
        return {}


def read_decisions(folder: Path, request: Mapping[str, Any], other_pictures: Callable[[], str] = str) -> dict[str, Any] | None:
    """Return the decisions of the run's first start (`run.json`); None if this is the first start.

    request: everything of the command that changes the result; it must equal that of the first start. other_pictures:
    returns a text on the pictures that differ from those of the first start. Raises ValueError naming the first difference.
    """
    path = folder / DECISIONS
    try:
        kept = read(path, Decisions)
    except FileNotFoundError:
        if (folder / "checkpoint").exists():
            raise ValueError(f"{folder} holds checkpoints but no {DECISIONS}: choose another folder with --out.") from None
        return None
    except ValueError as error:
        raise ValueError(f"{error} Train into a new folder with --out.") from error
    before, decided = kept["request"], dict(kept["decided"])
    now = json.loads(json.dumps(request))  # tuples become lists, as in the file
    name = first_difference(before, now)
    if name and _NOTHING in (_at(before, name), _at(now, name)):
        raise ValueError(
            f"{folder} was started by another version of Limner ({kept['limner']}) with other options ({name}): finish it with "
            "that version, or choose another folder with --out."
        )
    if name == "data":
        raise ValueError(
            f"{folder} was started on other pictures{other_pictures()}: give those again to resume it, or choose another "
            "folder with --out."
        )
    if name:
        raise ValueError(
            f"{folder} was started with {name} {_at(before, name)}, now it is {_at(now, name)}: choose another folder "
            "with --out, or give the command it was started with to resume it."
        )
    return decided


def write_decisions(folder: Path, request: Mapping[str, Any], decided: Mapping[str, Any]) -> None:
    """Write `run.json`, which `read_decisions` reads."""
    write_whole(folder / DECISIONS, json.dumps({"limner": __version__, "request": request, "decided": decided}, indent=1) + "\n")


def first_difference(a: Any, b: Any, path: str = "") -> str:
    """Return the dotted name of the first value that differs between two nested mappings; empty if none does."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*b, *(k for k in a if k not in b)]:
            found = first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    return "" if a == b else path


_NOTHING = object()


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key, _NOTHING) if isinstance(tree, Mapping) else _NOTHING
    return tree

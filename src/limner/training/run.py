"""The folder of a run: who may write in it, which command it belongs to, and what was decided once at the start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limner import __version__
from limner.core.artifact import DECISIONS, WEIGHTS
from limner.core.documents import Decisions
from limner.core.files import sweep, write_error, write_whole
from limner.core.schema import read

LARGE = ("checkpoint/latest.safetensors", "checkpoint/mark.safetensors", WEIGHTS, f"best/{WEIGHTS}")  # in the folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder and keep it for this process. Raises ValueError when another trains in it or it is unwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another process is training in {folder}: wait for it, stop it, or choose another folder with --out."
        ) from error
    except OSError as error:
        raise write_error(error, folder) from error
    try:
        for name in LARGE:  # each kill in the middle of one leaves as much as it had written
            sweep(folder / name)
        yield
    finally:
        lock.release()


def check_free(folder: Path) -> None:
    """Raises ValueError for a folder that holds something and is no run: what lies there is never overwritten."""
    try:
        if (folder / DECISIONS).exists() or (folder / "checkpoint").exists() or not folder.is_dir():
            return
        found = next((path.name for path in sorted(folder.iterdir()) if path.name != ".lock"), None)
    except OSError as error:
        raise write_error(error, folder) from error
    if found is not None:
        raise ValueError(
            f"{folder} holds other files, such as {found}, and is no run: choose a new or an empty folder with --out."
        )


def recorded_request(folder: Path) -> Mapping[str, Any]:
    """What was asked of the run in this folder; nothing where there is none, or none that can be read."""
    try:
        return read(folder / DECISIONS, Decisions)["asked"]
    except (OSError, ValueError):
        return {}


def recall(folder: Path, asked: Mapping[str, Any], other_pictures: Callable[[], str] = str) -> dict[str, Any] | None:
    """What the run decided at its first start (`run.json`); None when this is the first start.

    asked: everything of the command that changes the result. The same command finds its decisions again and resumes;
    another command in the same folder is refused. other_pictures: says which pictures are not those that the run was
    started on. Raises ValueError naming the first difference.
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
    before, decided = kept["asked"], dict(kept["decided"])
    now = json.loads(json.dumps(asked))  # tuples become lists, as they did on disk
    name = first_difference(before, now)
    if name and _NOTHING in (_at(before, name), _at(now, name)):
        raise ValueError(
            f"{folder} was started by another version of Limner ({kept['limner']}), whose options are "
            f"others ({name}): finish it with that version, or choose another folder with --out."
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


def remember(folder: Path, asked: Mapping[str, Any], decided: Mapping[str, Any]) -> None:
    """Write `run.json`, which `recall` reads."""
    write_whole(folder / DECISIONS, json.dumps({"limner": __version__, "asked": asked, "decided": decided}, indent=1) + "\n")


def first_difference(a: Any, b: Any, path: str = "") -> str:
    """The dotted name of the first value that differs between two nested mappings; empty when none does."""
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

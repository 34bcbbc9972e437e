"""The folder of a run: who may write in it, which command it belongs to, and what was decided once at the start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limner.core.files import for_people, write_whole


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
        raise for_people(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def settled(folder: Path, asked: Mapping[str, Any], decide: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What the run decided at its first start (`run.json`), or now, by `decide`, when this is the first start.

    asked: everything of the command that changes the result. The same command finds its decisions again and resumes;
    another command in the same folder is refused. Raises ValueError naming the first difference.
    """
    path = folder / "run.json"
    asked = json.loads(json.dumps(asked))
    if path.exists():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            before, decided = kept["asked"], dict(kept["decided"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: train into a new folder with --out.") from error
        name = first_difference(before, asked)
        if name:
            old, new = _at(before, name), _at(asked, name)
            raise ValueError(
                f"{folder} was started with {name} {old}, now it is {new}: choose another folder with --out, or give "
                "the command it was started with to resume it."
            )
        return decided
    if (folder / "checkpoint").exists():
        raise ValueError(f"{folder} holds checkpoints but no run.json: choose another folder with --out.")
    decided = dict(decide())
    write_whole(path, json.dumps({"asked": asked, "decided": decided}, indent=1) + "\n")
    return decided


def first_difference(a: Any, b: Any, path: str = "") -> str:
    """The dotted name of the first value that differs between two nested mappings; empty when none does."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*b, *(k for k in a if k not in b)]:
            found = first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    return "" if a == b else path


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree

"""Run folders as the page shows them: found by their files alone, so that a new server finds what an earlier one started."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.apps.studio.launch import Launches, identity
from limner.core import artifact, process
from limner.core.documents import check_entry
from limner.core.files import read_bytes
from limner.core.schema import MAX_JSON_BYTES, Mismatch, parse

MARKS = (artifact.CARD, artifact.DECISIONS, "checkpoint")  # any of them in a folder makes it a run
SHEET = re.compile(r"\d{9,15}\.png")
MAX_RUNS = 1000
SPEED_SECONDS = 30.0  # of training that the time left is estimated from


def is_run(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in MARKS)


@dataclass
class Log:
    """A run's log.jsonl, read as it grows. generation: changes when lines that were read have been removed."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)
    generation: int = 0
    _position: int = 0
    _head: bytes = b""  # the last bytes that were read

    def update(self) -> None:
        """Read the lines that were added. A resumed run cuts lines off the end and may have written others since."""
        try:
            with self.path.open("rb") as file:
                if self._position:
                    file.seek(max(0, self._position - len(self._head)))
                    if file.read(len(self._head)) != self._head:
                        self.entries, self._position, self._head = [], 0, b""
                        self.generation += 1
                    file.seek(self._position)
                content = file.read(artifact.MAX_LOG_BYTES)
        except OSError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            return
        for line in whole.splitlines():
            try:
                self.entries.append(check_entry(parse(line)))
            except Mismatch:
                continue  # a damaged line: `limner doctor` names it
        self._position += len(whole)
        self._head = whole[-256:]


class Runs:
    """The runs of some folders. launches: what this or an earlier server started."""

    def __init__(self, folders: list[Path], launches: Launches) -> None:
        self.folders, self.launches = folders, launches
        self._logs: dict[Path, Log] = {}

    def found(self) -> dict[str, Path]:
        """Return the run folders by identity: those given, those directly in them, and those just started."""
        paths: dict[Path, None] = {}
        for folder in self.folders:
            if is_run(folder):
                paths[folder.absolute()] = None
                continue
            try:
                children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
            except OSError:
                continue
            paths |= {child.absolute(): None for child in children[:MAX_RUNS] if child.is_dir() and is_run(child)}
        paths |= {path.absolute(): None for path in self.launches.folders()}
        return {identity(path): path for path in paths}

    def path(self, name: str) -> Path:
        """Return the folder of a run. Raises KeyError for an unknown one."""
        return self.found()[name]

    def log(self, folder: Path) -> Log:
        """Return the log of a run, read to its end."""
        log = self._logs.setdefault(folder, Log(folder / "log.jsonl"))
        log.update()
        return log

    def describe(self, folder: Path) -> dict[str, Any]:
        """Return the state of a run, as JSON. The status is one of starting, training, paused, finished, failed, and stopped before its
        first checkpoint."""
        entries = self.log(folder).entries
        decided = _json(folder / artifact.DECISIONS)
        description = _json(folder / artifact.CARD)
        command = _json(folder / "checkpoint" / "command.json")
        seen = int(entries[-1]["images"]) if entries else 0
        budget = _budget(decided) or int(_at(description, "training", "budget") or 0)
        running = process.find(folder)
        launch = self.launches.of(folder, running is not None)
        status = "training" if entries else "starting"
        if running is None:
            published_at = int(_at(description, "training", "images") or 0)
            status = "finished" if budget and max(seen, published_at) >= budget else "paused"
            if launch is not None and launch.waiting and not entries:
                status = "starting"
            elif launch is not None and launch.failed:
                status = "failed" if status != "finished" else status
            elif not description:
                status = "stopped"
        speed = _speed(entries)
        spec = _at(description, "data", "spec") or {}
        return {
            "id": identity(folder), "name": folder.name, "path": str(folder), "status": status,
            "kind": description.get("kind") or (launch.kind if launch else ""), "recipe": _at(decided, "request", "recipe") or _at(description, "recipe", "name") or (launch.recipe if launch else ""),
            "data": _at(description, "data", "name") or (launch.data if launch else ""), "size": [spec.get("height"), spec.get("width")] if spec else None,
            "count": _at(description, "data", "count"), "classes": len(_at(description, "data", "classes") or []),
            "images": seen, "budget": budget, "seconds": float(entries[-1].get("seconds", 0.0)) if entries else 0.0,
            "speed": speed, "left": (budget - seen) / speed if speed and budget and status == "training" else None,
            "figures": _at(description, "metrics") or {}, "sheets": sheets(folder), "usable": (folder / artifact.WEIGHTS).exists() and bool(description),
            "updated": _modified(folder), "best": (folder / "best" / artifact.CARD).exists(),
            "message": self.launches.last_line(folder) if status in ("starting", "failed") or not entries else "",
            "command": launch.command if launch else _resumed(folder), "resumable": bool(command),
            "findings": [{"images": e["images"], **e["doctor"]} for e in entries if isinstance(e.get("doctor"), dict)][-20:],
        }  # fmt: skip


def sheets(folder: Path) -> list[dict[str, int]]:
    """Return the sheets of a run's history, in order: images seen, and the time each file was written, for its address."""
    try:
        with_times = [(path.name, path.stat().st_mtime_ns // 1000) for path in (folder / "samples").iterdir() if SHEET.fullmatch(path.name)]
    except OSError:
        return []
    return [{"images": int(name.partition(".")[0]), "version": version} for name, version in sorted(with_times)]


def sheet_path(folder: Path, images: int) -> Path:
    """Return the file of a sheet."""
    return folder / "samples" / f"{images:09d}.png"


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if there is none or it is damaged."""
    try:
        found = parse(read_bytes(path, MAX_JSON_BYTES))
    except (OSError, ValueError, Mismatch):
        return {}
    return found if isinstance(found, dict) else {}


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _budget(decided: dict[str, Any]) -> int:
    """Return the budget in images that is in effect, with the revisions by the clock."""
    revisions = _at(decided, "decided", "revisions")
    newest = revisions[-1] if isinstance(revisions, list) and revisions else _at(decided, "decided")
    images = _at(newest, "images")
    return images if isinstance(images, int) else 0


def _speed(entries: list[dict[str, Any]]) -> float | None:
    """Return the images per second of the last SPEED_SECONDS of training; None before there are two entries."""
    if len(entries) < 2:
        return None
    last = entries[-1]
    first = next((e for e in reversed(entries[:-1]) if last.get("seconds", 0) - e.get("seconds", 0) >= SPEED_SECONDS), entries[0])
    seconds = last.get("seconds", 0) - first.get("seconds", 0)
    return (last["images"] - first["images"]) / seconds if seconds > 0 else None


def _modified(folder: Path) -> float:
    for name in ("log.jsonl", artifact.CARD, "."):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _resumed(folder: Path) -> list[str]:
    return ["limner", "train", "--resume", str(folder)]

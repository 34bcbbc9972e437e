"""A data set as the page shows it before training: the report of `limner data`, its thumbnails, folders to choose from, and
folders that were dropped on the page."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from limner.core.files import write_error, write_whole
from limner.core.images import encode_png
from limner.core.text import printable
from limner.data import open_source, scan
from limner.data.image import SUFFIXES
from limner.data.open import expand_path
from limner.data.samples import SAMPLES
from limner.data.scan import DataReport

MAX_LISTED = 40  # folders or names in an answer
MAX_DROPPED = 50_000  # files of one drop
MAX_DEPTH = 6  # folders in a dropped file's name
DROPPED = "dropped"  # folder of them in `.studio`
PART = re.compile(r"[^\x00-\x1f/\\:*?\"<>|]{1,120}")
COLUMNS = 16  # thumbnails in a row of the sheet


@dataclass
class Inspection:
    """The inspection of a data set, in a thread of its own. error: a sentence, if it failed."""

    source: str
    done: int = 0
    total: int = 0
    report: DataReport | None = None
    error: str = ""
    finished: threading.Event = field(default_factory=threading.Event)

    def run(self, labels: bool, size: int | None) -> None:
        def progress(done: int, total: int) -> None:
            self.done, self.total = done, total

        try:
            self.report = scan(open_source(self.source, labels), size=size, progress=progress)
        except ValueError as error:
            self.error = str(error)
        except (MemoryError, OSError) as error:
            self.error = f"The pictures cannot be read: {error}."
        finally:
            self.finished.set()

    def describe(self) -> dict[str, Any]:
        """Return the state as JSON: progress, an error, or the report."""
        if not self.finished.is_set():
            return {"state": "reading", "done": self.done, "total": self.total}
        if self.report is None:
            return {"state": "failed", "error": self.error}
        report = self.report
        return {
            "state": "ready", "source": self.source, "origin": report.origin, "count": report.count, "spec": str(report.spec),
            "height": report.spec.height, "width": report.spec.width, "channels": report.spec.channels,
            "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in list(report.sizes.items())[:5]],
            "different_sizes": len(report.sizes), "classes": list(report.classes.items())[:MAX_LISTED], "class_count": len(report.classes),
            "bad": [[printable(name), reason] for name, reason in report.bad[:MAX_LISTED]], "bad_count": len(report.bad),
            "others": report.others, "duplicates": sum(len(group) - 1 for group in report.duplicates), "notes": report.notes,
            "attribution": report.attribution, "thumbnails": len(report.thumbnails), "columns": COLUMNS,
        }  # fmt: skip

    def sheet(self) -> bytes:
        """Return the thumbnails as the bytes of a PNG, COLUMNS in a row and without gaps: the page cuts it into pieces."""
        assert self.report is not None
        made = self.report.thumbnails
        n, c, h, w = made.shape
        rows = -(-n // COLUMNS)
        sheet = np.zeros((rows * COLUMNS, c, h, w), np.uint8)
        sheet[:n] = made
        whole = sheet.reshape(rows, COLUMNS, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, COLUMNS * w)
        return encode_png(whole)


def inspect(source: str, labels: bool = True, size: int | None = None) -> Inspection:
    """Start the inspection of a data set: a path, or the name of a sample."""
    found = Inspection(source)
    threading.Thread(target=found.run, args=(labels, size), daemon=True).start()
    return found


def complete(text: str) -> list[str]:
    """Return paths of folders, zips and array files that begin with a typed text, and samples."""
    names = [name for name in SAMPLES if name.startswith(text)] if "/" not in text else []
    try:
        path = expand_path(text or ".")
        folder, start = (path, "") if text.endswith(("/", os.sep)) or not text else (path.parent, path.name)
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name.lower())
        shown = [entry for entry in entries if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith("."))]
        found = [f"{entry}{os.sep if entry.is_dir() else ''}" for entry in shown[:1000] if entry.is_dir() or entry.suffix in (".zip", ".npz", ".npy")]
    except (OSError, ValueError):
        found = []
    return [*names, *found[:MAX_LISTED]]


class Drops:
    """Folders whose files the page sends one by one, kept in `.studio/dropped`. room: that folder's parent."""

    def __init__(self, room: Path) -> None:
        self.home = room / DROPPED
        self._counts: dict[str, int] = {}

    def begin(self, name: str) -> Path:
        """Return a new folder for a drop of that name."""
        stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "pictures"
        for number in range(1, 10_000):
            path = self.home / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise write_error(error, path) from error
            self._counts[path.name] = 0
            return path
        raise ValueError(f"There are too many drops in {self.home}: remove some.")

    def path(self, name: str) -> Path:
        """Return the folder of a drop. Raises KeyError for an unknown one."""
        if name not in self._counts:
            raise KeyError(name)
        return self.home / name

    def add(self, name: str, relative: str, content: bytes) -> None:
        """Keep a file of a drop by its relative name, whose folders may be classes. Raises ValueError for anything but pictures,
        labels and zips with plain names."""
        folder = self.path(name)
        parts = PurePosixPath(relative).parts
        plain = bool(parts) and all(PART.fullmatch(part) and not part.startswith(".") and part.strip(" .") == part for part in parts)
        if not plain or len(parts) > MAX_DEPTH + 1:
            raise ValueError("The file has a name that is not kept here.")
        if PurePosixPath(relative).suffix.lower() not in (*SUFFIXES, ".zip", ".csv", ".json", ".npz", ".npy"):
            raise ValueError("The file is no picture.")
        if self._counts[name] >= MAX_DROPPED:
            raise ValueError(f"At most {MAX_DROPPED:,} files can be dropped: type the path of the folder instead.")
        self._counts[name] += 1
        write_whole(folder.joinpath(*parts), content)

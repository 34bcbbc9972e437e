"""A folder of pictures as a Source, and the classification of files by name (shared with zips)."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from limner.core.artifact import CARD, DECISIONS
from limner.core.text import printable, shortened
from limner.data.image import SUFFIXES, UNREADABLE, reason
from limner.data.labels import LABEL_FILES, MAX_LABEL_BYTES, Table
from limner.data.layout import ArrangeOptions, Files, arrange, as_source
from limner.data.source import Rejected, Source, short_name

MAX_BUFFERED_BYTES = 1 << 20  # of a file that is read at once; larger ones are read only as far as needed
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "icon\r"}  # created by operating systems
RUN_FILES = {CARD, DECISIONS}  # a folder with one of these is a run folder
TEXTS = {".txt", ".csv", ".json", ".jsonl"}
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def ignored(part: str) -> bool:
    """Return whether a file or folder of this name is ignored: hidden, or created by an operating system."""
    return part.startswith(".") or part.lower() in SYSTEM_FILES


def is_text(name: str) -> bool:
    """Return whether a file of this name may hold captions."""
    return PurePosixPath(name).suffix.lower() in TEXTS


def looks_like_picture(head: bytes) -> bool:
    """Return whether the first bytes of a file without a suffix are those of a common picture format."""
    return head.startswith(MAGIC)

FileKind = Literal["picture", "labels", "other", "bare", "unreadable"]


def kind(name: str) -> tuple[FileKind, str]:
    """Return (the kind of a file by its name, for an unreadable picture the reason). Of "bare" files, which have no suffix,
    the content decides."""
    path = PurePosixPath(name)
    ending = path.suffix.lower()
    if path.name.lower() in LABEL_FILES:
        return "labels", ""
    if ending in SUFFIXES:
        return "picture", ""
    if ending in UNREADABLE:
        return "unreadable", UNREADABLE[ending]
    return "other" if ending else "bare", ""


def list_files(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Rejected], list[str]]:
    """Return (files below `root` as (relative name with "/", stat), damaged ones, run folders), sorted by name.

    Links are followed, each folder is listed once. Run folders are skipped: their previews change during training and are
    not data.
    """
    files: list[tuple[str, os.stat_result]] = []
    bad: list[Rejected] = []
    runs: list[str] = []
    seen: set[tuple[int, int]] = set()

    def children(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:  # a cyclic link
            return iter(())
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        if prefix and any(entry.name in RUN_FILES for entry in found):
            runs.append(prefix.rstrip("/"))
            return iter(())
        return iter([(prefix + entry.name, entry) for entry in found if not ignored(entry.name)])

    above = [children(root, "")]  # open folders, as a stack: recursion would limit the depth
    while above:
        name, entry = next(above[-1], (None, None))
        if name is None or entry is None:
            above.pop()
            continue
        try:
            if entry.is_dir():
                above.append(children(Path(entry.path), name + "/"))
            elif entry.is_file():
                files.append((name, entry.stat()))
            elif entry.is_symlink() and not Path(entry.path).exists():
                bad.append((name, "a link to nothing"))
            elif kind(name)[0] == "picture":  # opening a pipe would block, and reading a device may never end
                bad.append((name, "a pipe or a device, not a file"))
        except OSError as error:
            bad.append((name, reason(error)))
    return files, bad, runs


def open_folder(root: Path, options: ArrangeOptions) -> Source:
    """Open a folder of pictures, nested or not. Raises ValueError when it holds none."""
    try:
        if (root / CARD).is_file():
            raise ValueError(f"The folder {root} is a run, not a set of pictures: give each a folder of its own.")
        files, bad, runs = list_files(root)
    except OSError as error:
        raise ValueError(f"The folder {shortened(root)} cannot be read: {reason(error)}.") from error
    others: Counter[str] = Counter()
    stats: dict[str, os.stat_result] = {}
    for name, stat in files:
        what, why = kind(name)
        if what == "bare":
            try:
                with (root / name).open("rb") as file:
                    what = "picture" if looks_like_picture(file.read(8)) else "other"
            except OSError as error:
                what, why = "unreadable", reason(error)
        if what == "picture" and stat.st_size:
            stats[name] = stat
        elif what in ("picture", "other", "labels"):
            if what == "picture":
                bad.append((name, "empty file"))
            elif what == "other":
                others[PurePosixPath(printable(name)).suffix.lower() or "without ending"] += 1
        else:
            bad.append((name, why))
    if not stats:
        raise ValueError(no_pictures(f"The folder {root}", bad, others))
    beside = next((root / name for name in LABEL_FILES if (root / name).is_file()), None)
    table = options.labels if isinstance(options.labels, Path) else beside
    paths = [root / name for name in stats]
    small = [stat.st_size <= MAX_BUFFERED_BYTES for stat in stats.values()]

    def content(index: int) -> BinaryIO:
        path = paths[index]
        return io.BytesIO(path.read_bytes()) if small[index] else path.open("rb")

    found = Files(
        [printable(name) for name in stats], content,
        [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats.items()],
    )  # fmt: skip
    skipped = f"Run folders hold no data and are skipped: {', '.join(map(printable, runs))}."
    return as_source(
        found, arrange(found, label_file(table) if table else None, options), version=f"folder:{root.resolve()}",
        name=short_name(root.resolve().name), origin=f"the folder {printable(root.resolve().name)}", bad=bad, others=dict(others),
        notes=[skipped] if runs else [], text=_texts(root, [name for name, _ in files]),
    )  # fmt: skip


def _texts(root: Path, names: Sequence[str]) -> Callable[[str], bytes | None]:
    """Return the function that reads a text file below `root` by its printable relative name (`Source.text`)."""
    paths = {printable(name): root / name for name in names if is_text(name)}

    def text(name: str) -> bytes | None:
        try:
            return paths[name].read_bytes() if name in paths and paths[name].stat().st_size <= MAX_LABEL_BYTES else None
        except OSError:
            return None

    return text


def no_pictures(what: str, bad: Sequence[Rejected], others: dict[str, int]) -> str:
    """Return the error message for a place without a usable picture."""
    what = printable(what)
    if bad:
        return f"{what} holds no usable picture: {len(bad):,} cannot be read, such as {printable(bad[0][0])} ({bad[0][1]})."
    if others:
        listed = ", ".join(f"{count:,} {ending}" for ending, count in sorted(others.items(), key=lambda o: -o[1])[:4])
        return f"{what} holds no pictures, only other files ({listed}): give the folder that holds your pictures."
    return f"{what} is empty: give a folder that holds pictures (JPEG, PNG, WebP ...)."


def label_file(path: Path) -> Table:
    """Return a file of labels outside a zip; reading it raises ValueError."""

    def content() -> bytes:
        try:
            if (size := path.stat().st_size) > MAX_LABEL_BYTES:
                raise ValueError(f"The labels file {path} is too large ({size >> 20:,} MiB).")
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"The labels file {path} cannot be read: {reason(error)}.") from error

    return printable(path.name), content

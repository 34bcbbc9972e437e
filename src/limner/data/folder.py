"""A folder of pictures as a Source; and from the names of files, which are pictures at all (shared with zips)."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from limner.core.artifact import CARD, DECISIONS
from limner.core.text import printable, shortened
from limner.data.image import ENDINGS, UNREADABLE, reason
from limner.data.labels import LABEL_FILES, LARGEST, Table
from limner.data.layout import Files, Wish, arrange, as_source
from limner.data.source import Rejected, Source, short_name

SMALL = 1 << 20  # bytes; smaller files are read in one go, larger ones only as far as needed
QUIET = {"thumbs.db", "desktop.ini", "__macosx", "icon\r"}  # what systems leave behind
RUN = {CARD, DECISIONS}  # a folder with one of these was written by a training
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def ignored(part: str) -> bool:
    """Whether a file or folder of this name is no one's picture: hidden, or left behind by a system."""
    return part.startswith(".") or part.lower() in QUIET


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes of a file without an ending are those of a common picture format."""
    return head.startswith(MAGIC)


def kind(name: str) -> str:
    """"picture", "labels", "other", "bare" (no ending: look inside), or the reason why such a picture is unreadable."""
    path = PurePosixPath(name)
    ending = path.suffix.lower()
    if path.name.lower() in LABEL_FILES:
        return "labels"
    if ending in ENDINGS:
        return "picture"
    return UNREADABLE.get(ending, "other" if ending else "bare")


def walk(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Rejected], list[str]]:
    """Every file below `root` as (relative name with "/", stat), sorted by name; links followed, each folder once.

    Folders of runs are passed over and named last: the previews in them change while a run goes on, and are no data.
    """
    files: list[tuple[str, os.stat_result]] = []
    bad: list[Rejected] = []
    runs: list[str] = []
    seen: set[tuple[int, int]] = set()

    def children(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            return iter(())
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        if prefix and any(entry.name in RUN for entry in found):
            runs.append(prefix.rstrip("/"))
            return iter(())
        return iter([(prefix + entry.name, entry) for entry in found if not ignored(entry.name)])

    above = [children(root, "")]  # the folders entered and not yet finished: any depth, where recursion has an end
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
                bad.append((name, "a link that leads nowhere"))
            elif kind(name) == "picture":  # opening a pipe would wait for a writer, and reading a device has no end
                bad.append((name, "a pipe or a device, not a file"))
        except OSError as error:
            bad.append((name, reason(error)))
    return files, bad, runs


def open_folder(root: Path, stop_requested: Wish) -> Source:
    """A folder of pictures, nested or not. Raises ValueError in one sentence when it holds none."""
    try:
        if (root / CARD).is_file():
            raise ValueError(f"The folder {root} is a run and no set of pictures: give each a folder of its own.")
        files, bad, runs = walk(root)
    except OSError as error:
        raise ValueError(f"The folder {shortened(root)} cannot be read: {reason(error)}.") from error
    others: Counter[str] = Counter()
    stats: dict[str, os.stat_result] = {}
    for name, stat in files:
        what = kind(name)
        if what == "bare":
            try:
                with (root / name).open("rb") as file:
                    what = "picture" if looks_like_picture(file.read(8)) else "other"
            except OSError as error:
                what = reason(error)
        if what == "picture" and stat.st_size:
            stats[name] = stat
        elif what in ("picture", "other", "labels"):
            if what == "picture":
                bad.append((name, "empty file"))
            elif what == "other":
                others[PurePosixPath(printable(name)).suffix.lower() or "without ending"] += 1
        else:
            bad.append((name, what))
    if not stats:
        raise ValueError(no_pictures(f"The folder {root}", bad, others))
    beside = next((root / name for name in LABEL_FILES if (root / name).is_file()), None)
    table = stop_requested.labels if isinstance(stop_requested.labels, Path) else beside
    paths = [root / name for name in stats]
    small = [stat.st_size <= SMALL for stat in stats.values()]

    def content(index: int) -> BinaryIO:
        path = paths[index]
        return io.BytesIO(path.read_bytes()) if small[index] else path.open("rb")

    found = Files(
        [printable(name) for name in stats], content,
        [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats.items()],
    )  # fmt: skip
    passed = f"Folders of runs hold no data and are passed over: {', '.join(map(printable, runs))}."
    return as_source(
        found, arrange(found, label_file(table) if table else None, stop_requested), mark=f"folder:{root.resolve()}",
        name=short_name(root.resolve().name), origin=f"the folder {printable(root.resolve().name)}", bad=bad, others=dict(others),
        notes=[passed] if runs else [],
    )  # fmt: skip


def no_pictures(what: str, bad: Sequence[Rejected], others: dict[str, int]) -> str:
    """The one sentence for a place without a usable picture."""
    what = printable(what)
    if bad:
        return f"{what} holds no usable picture: {len(bad):,} cannot be read, such as {printable(bad[0][0])} ({bad[0][1]})."
    if others:
        listed = ", ".join(f"{count:,} {ending}" for ending, count in sorted(others.items(), key=lambda o: -o[1])[:4])
        return f"{what} holds no pictures, only other files ({listed}): give the folder that holds your pictures."
    return f"{what} is empty: put your pictures (JPEG, PNG, WebP ...) there, or give the folder that holds them."


def label_file(path: Path) -> Table:
    """A file of labels outside a zip; reading it raises ValueError in one sentence."""

    def content() -> bytes:
        try:
            if (size := path.stat().st_size) > LARGEST:
                raise ValueError(f"The labels file {path} is too large to be one ({size >> 20:,} MiB).")
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"The labels file {path} cannot be read: {reason(error)}.") from error

    return printable(path.name), content

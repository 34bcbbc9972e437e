"""A folder of pictures as a Source; and from the names of files, which are pictures at all (shared with zips)."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from limner.core.artifact import CARD, DECISIONS
from limner.data.decode import ENDINGS, UNREADABLE, reason
from limner.data.labels import LABEL_FILES, Labels, Table, by_folder, matched, numbered, read_labels
from limner.data.source import Bad, Source, for_display, short_name

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


def labelled(
    names: Sequence[str], table: Table | None, labels: Labels
) -> tuple[tuple[str, ...], np.ndarray | None, list[int], list[Bad], list[str]]:
    """Names, and a file of labels or None -> (classes, numbers, which pictures to keep, bad, notes).

    What is wrong with a file that the person named in `labels` is an error; one that merely lies there is passed over.
    """
    keep = list(range(len(names)))
    if labels is False:
        return (), None, keep, [], []
    notes: list[str] = []
    if table is not None:
        name, content = table
        try:
            found = matched(names, read_labels(content(), name, named=labels is not True))
            have = [label for label in found if label is not None]
            need = "it needs lines of file,label with the names of the pictures as they are"
            if not have:
                raise ValueError(f"{name} labels none of the pictures: {need}.")
            if (kinds := len(set(have))) > max(1, len(have) // 2):
                raise ValueError(f"{name} has nearly as many labels as pictures ({kinds:,} for {len(have):,}): {need}.")
        except ValueError as error:
            if labels is not True:
                raise
            notes.append(f"{error} It is not used.")
        else:
            classes, numbers = numbered(have)
            if len(classes) < 2:
                return (), None, keep, [], [f"{name} knows one class only, so pictures carry no label."]
            keep = [i for i, label in enumerate(found) if label is not None]
            bad = [(names[i], f"no label in {name}") for i, label in enumerate(found) if label is None]
            notes.append(f"Classes come from {name}.")
            return classes, numbers, keep, bad, notes
    by, note = by_folder(names)
    if note:
        notes.append(note)
    return (*(by or ((), None)), keep, [], notes)


def walk(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Bad], list[str]]:
    """Every file below `root` as (relative name with "/", stat), sorted by name; links followed, each folder once.

    Folders of runs are passed over and named last: the previews in them change while a run goes on, and are no data.
    """
    files: list[tuple[str, os.stat_result]] = []
    bad: list[Bad] = []
    runs: list[str] = []
    seen: set[tuple[int, int]] = set()

    def visit(folder: Path, prefix: str) -> None:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
            return
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        if prefix and any(entry.name in RUN for entry in children):
            runs.append(prefix.rstrip("/"))
            return
        for entry in children:
            name = prefix + entry.name
            if ignored(entry.name):
                continue
            try:
                if entry.is_dir():
                    visit(Path(entry.path), name + "/")
                elif entry.is_file():
                    files.append((name, entry.stat()))
                elif entry.is_symlink():
                    bad.append((name, "a link that leads nowhere"))
            except OSError as error:
                bad.append((name, reason(error)))

    visit(root, "")
    return files, bad, runs


def open_folder(root: Path, labels: Labels = True) -> Source:
    """A folder of pictures, nested or not. Raises ValueError in one sentence when it holds none."""
    try:
        if (root / CARD).is_file():
            raise ValueError(f"The folder {root} is a run and no set of pictures: give each a folder of its own.")
        files, bad, runs = walk(root)
    except OSError as error:
        raise ValueError(f"The folder {root} cannot be read: {reason(error)}.") from error
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
                others[PurePosixPath(for_display(name)).suffix.lower() or "without ending"] += 1
        else:
            bad.append((name, what))
    if not stats:
        raise ValueError(no_pictures(f"The folder {root}", bad, others))
    names, shown = list(stats), [for_display(name) for name in stats]
    beside = next((root / name for name in LABEL_FILES if (root / name).is_file()), None)
    table = beside if labels is True else labels or None
    classes, numbers, keep, unlabelled, notes = labelled(shown, label_file(table) if table else None, labels)
    if runs:
        notes.append(f"Folders of runs hold no data and are passed over: {', '.join(map(for_display, runs))}.")
    names, shown = [names[i] for i in keep], [shown[i] for i in keep]
    paths = [root / name for name in names]
    marks = [f"{name}\0{stats[name].st_size}\0{stats[name].st_mtime_ns}\n" for name in names]

    def content(index: int) -> BinaryIO:
        path = paths[index]
        if stats_small[index]:
            return io.BytesIO(path.read_bytes())
        return path.open("rb")

    stats_small = [stats[name].st_size <= SMALL for name in names]

    def mark() -> str:
        text = f"{root.resolve()}\n{''.join(marks)}"
        return "folder:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    return Source(
        name=short_name(root.resolve().name), origin=f"the folder {for_display(root.resolve().name)}",
        names=shown, content=content, mark=mark, classes=classes, labels=numbers,
        bad=[(for_display(name), why) for name, why in bad + unlabelled], others=dict(others), notes=notes,
    )


def no_pictures(what: str, bad: Sequence[Bad], others: dict[str, int]) -> str:
    """The one sentence for a place without a usable picture."""
    if bad:
        return f"{what} holds no usable picture: {len(bad):,} cannot be read, such as {bad[0][0]} ({bad[0][1]})."
    if others:
        listed = ", ".join(f"{count:,} {ending}" for ending, count in sorted(others.items(), key=lambda o: -o[1])[:4])
        return f"{what} holds no pictures, only other files ({listed}): give the folder that holds your pictures."
    return f"{what} is empty: put your pictures (JPEG, PNG, WebP ...) there, or give the folder that holds them."


def label_file(path: Path) -> Table:
    """A file of labels outside a zip; reading it raises ValueError in one sentence."""

    def content() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"The labels file {path} cannot be read: {reason(error)}.") from error

    return for_display(path.name), content

"""The two sides of pairs: two sets with equal names, two folders of one set, halves of one picture, or a CSV."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from limner.core.text import printable
from limner.data.image import SUFFIXES, UNREADABLE, Damaged, header, reason, upright
from limner.data.layout import common_folder, top_folders
from limner.data.open import is_file
from limner.data.source import Rejected, Source, short_name

WIDTH_TOLERANCE = 0.05  # relative deviation of a picture with two sides from twice as wide as tall
FOLDERS = {  # folders of a set that hold the two sides, lower case -> (split, side)
    "a": ("train", "a"), "b": ("train", "b"),
    **{split + side: (split, side) for split in ("train", "val", "test") for side in "ab"},
}
ASPECT_TOLERANCE = 0.02  # relative difference of the aspect ratios of the two pictures of a pair


def first_few(bad: list[Rejected]) -> str:
    """Return the first entries of `bad` as text, with the reasons."""
    return ", ".join(f"{name} ({why})" for name, why in bad[:3]) or "none"


# ---- two sets with equal names ---------------------------------------------------------------------------------------


def paired_pictures(a: Source, b: Source) -> tuple[Source, Source, list[Rejected]]:
    """Return the pictures with a partner in the other set, under the names of the first, and those left out with the reason.

    Raises ValueError when there is no pair.
    """
    pairs, unmatched_a, unmatched_b = matching(a.names, b.names)
    bad = [(a.names[i], "no partner in the second set") for i in unmatched_a]
    bad += [(b.names[j], "no partner in the first set") for j in unmatched_b]
    if not pairs:
        raise ValueError(
            f"No file of {a.origin} has the name of one of {b.origin}: pairs need equal names, or train `--recipe cut`."
        )
    kept, mismatched = [], []
    for i, j in pairs:
        if why := _mismatch(a, i, b, j):
            mismatched.append((a.names[i], why))
        else:
            kept.append((i, j))
    if not kept:
        raise ValueError(f"No pair of {a.origin} and {b.origin} is usable, such as {first_few(mismatched)}.")
    names = [a.names[i] for i, _ in kept]
    one, two = _part(a, [i for i, _ in kept], names), _part(b, [j for _, j in kept], names)
    if a.validation is None or b.validation is None:
        return replace(one, validation=None), replace(two, validation=None), bad + mismatched
    held_out = a.validation, b.validation
    return *_with_validation(one, two, lambda: paired_pictures(*held_out)), bad + mismatched


def _with_validation(
    a: Source, b: Source, held_out: Callable[[], tuple[Source, Source, list[Rejected]]]
) -> tuple[Source, Source]:
    """Return two sides with those of the held-out split as their `validation`, or without it if it holds no pair."""
    try:
        one, two, bad = held_out()
    except ValueError as error:
        note = f"The held-out split is not used: {error}"
        return replace(a, validation=None, notes=[*a.notes, note]), replace(b, validation=None)
    return replace(a, validation=replace(one, bad=[*one.bad, *bad])), replace(b, validation=two)


def matching(a: Sequence[str], b: Sequence[str]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Return (pairs of indices of matching names, in the order of a; indices of a without a match; and of b).

    Equal names match; of the others, the first that are equal without the suffix of a picture format.
    """
    found: dict[int, int] = {}
    unmatched_a, unmatched_b = list(range(len(a))), list(range(len(b)))
    for key in (str, _stem):
        one, two = ({key(names[i]): i for i in reversed(rest)} for names, rest in ((a, unmatched_a), (b, unmatched_b)))
        found |= {i: two[name] for name, i in one.items() if name in two}
        unmatched_a = [i for i in unmatched_a if i not in found]
        taken = set(found.values())
        unmatched_b = [j for j in unmatched_b if j not in taken]
    return sorted(found.items()), unmatched_a, unmatched_b


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _mismatch(a: Source, i: int, b: Source, j: int) -> str:
    """Return why two pictures cannot be a pair; empty if they can."""
    shapes = []
    for source, index in ((a, i), (b, j)):
        try:
            with source.open(index) as image:
                head = header(image)
        except Damaged as damage:
            return str(damage) if a.origin == b.origin else f"{damage}, in {source.origin}"
        shapes.append((head.height, head.width))
    (h, w), (k, v) = shapes
    return f"another aspect ratio than its partner, {h}x{w} and {k}x{v}" if abs(h * v / (w * k) - 1) > ASPECT_TOLERANCE else ""


def _part(source: Source, rows: list[int], names: list[str]) -> Source:
    """Return some pictures of a Source under other names."""
    content = source.content
    array = None if source.array is None else source.array[rows]
    return replace(source, names=names, content=lambda i: content(rows[i]), array=array, notes=[*source.notes])


# ---- one picture with two sides --------------------------------------------------------------------------------------


def side_folders(source: Source) -> tuple[Source, Source] | None:
    """Return the two sides of a set whose outermost folders are trainA and trainB, or A and B; None for another set.

    Of testA, testB, valA and valB beside them, valA and valB are used for validation, or else testA and testB.
    """
    where = top_folders(source.names)
    names = {top.lower() for top in where}
    if not ({"traina", "trainb"} <= names or names == {"a", "b"}) or not names <= FOLDERS.keys():
        return None
    shared = len(common_folder(source.names))

    def part(split: str, side: str) -> Source:
        rows = [i for i, top in enumerate(where) if FOLDERS[top.lower()] == (split, side)]
        folder = where[rows[0]]
        found = _part(source, rows, [source.names[i][shared + len(folder) + 1 :] for i in rows])
        return replace(found, origin=f"{folder} of {source.origin}", version=_version(source, split + side), validation=None)

    a, b = part("train", "a"), part("train", "b")
    if split := next((s for s in ("val", "test") if {f"{s}a", f"{s}b"} <= names), ""):
        a, b = (replace(one, validation=part(split, side)) for one, side in ((a, "a"), (b, "b")))
    spare = sorted({top for top in where if FOLDERS[top.lower()][0] != "train"})
    held_out = f"; {' and '.join(spare)} are held out" if spare else ""
    a.notes.append(f"The two sides are the folders {a.origin.split(' of ')[0]} and {b.origin.split(' of ')[0]}{held_out}.")
    return a, b


def _version(source: Source, side: str) -> Callable[[], str]:
    return lambda: f"{source.version()} {side}"  # equal names of the two sides need different cache keys


def halves(source: Source, paired: bool = True, as_halves: bool = True) -> tuple[Source, Source, list[Rejected]]:
    """Return the left and the right half of each picture; pictures of odd width are left out.

    Raises ValueError when most pictures are not about twice as wide as tall, unless as_halves is set.
    """
    kept, bad, ordinary = [], [], 0
    for i, name in enumerate(source.names):
        try:
            with source.open(i) as image:
                head = header(image)
                width = head.width
        except Damaged as damage:
            bad.append((name, str(damage)))
            continue
        if not as_halves and abs(width / (2 * head.height) - 1) > WIDTH_TOLERANCE:
            bad.append((name, f"{head.height}x{width}, which is not twice as wide as tall"))
            ordinary += 1
        elif width % 2:
            bad.append((name, f"{width} pixels wide, which has no two equal halves"))
        else:
            kept.append(i)
    if ordinary > len(kept):
        other = "two folders of equal names" if paired else "a second set to translate to"
        raise ValueError(
            f"{source.origin[:1].upper()}{source.origin[1:]} holds ordinary pictures and nothing to translate them to: give "
            f"{other}, one folder with trainA and trainB in it, a CSV of pairs, or pictures of two sides, twice as wide as "
            "tall (--halves for other widths)."
        )
    if not kept:
        raise ValueError(
            f"No picture of {source.origin} has two sides: give pictures of even width, two folders, or a CSV of pairs."
        )

    def side(right: bool) -> Callable[[int], np.ndarray]:
        def content(i: int) -> np.ndarray:
            with source.open(kept[i]) as image:
                array = np.asarray(upright(image))
            array = array[..., None] if array.ndim == 2 else array
            half = array.shape[1] // 2
            return np.ascontiguousarray(array[:, half:] if right else array[:, :half])

        return content

    names = [source.names[i] for i in kept]
    note = "Each picture holds two sides: the left half is translated to the right half."
    left = replace(
        source, names=names, content=side(False), array=None, version=lambda: source.version() + " left",
        notes=[*source.notes, note],
    )  # fmt: skip
    right = replace(left, content=side(True), version=lambda: source.version() + " right")
    if (held_out := source.validation) is not None:
        left, right = _with_validation(left, right, lambda: halves(held_out, paired, as_halves))
    return left, right, bad


# ---- a CSV -----------------------------------------------------------------------------------------------------------


def from_csv(path: Path) -> tuple[Source, Source, list[Rejected]]:
    """Return the two sides of a CSV of two columns of files, relative to its folder, with or without a header. Raises ValueError."""
    if path.exists() and not is_file(path):
        raise ValueError(f"The CSV {path} is a pipe, a device or a folder, not a file.")
    try:
        rows = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"The CSV {path} cannot be read: {reason(error)}.") from error
    if any(len(row) < 2 for row in rows):
        raise ValueError(f"The CSV {path} needs two columns, the files of each pair.")
    cells = [(row[0].strip(), row[1].strip()) for row in rows]
    if cells and not any(_is_file(path.parent / cell) or _picture(cell) for cell in cells[0]):
        cells = cells[1:]  # a header
    bad = [(printable(f"{a}, {b}"), "the file is missing") for a, b in cells if not _both_exist(path, a, b)]
    cells = list(dict.fromkeys(pair for pair in cells if _both_exist(path, *pair)))
    if not cells:
        raise ValueError(f"The CSV {path} names no pair of files that exist beside it.")
    names = [printable(f"{a}, {b}") for a, b in cells]
    one, two = (_files(path, [path.parent / cell[k] for cell in cells], names) for k in (0, 1))
    kept = []
    for i, name in enumerate(names):
        if why := _mismatch(one, i, two, i):
            bad.append((name, why))
        else:
            kept.append(i)
    if not kept:
        raise ValueError(f"No pair of the CSV {path} is usable, such as {first_few(bad)}.")
    names = [names[i] for i in kept]
    return _part(one, kept, names), _part(two, kept, names), bad


def _picture(name: str) -> bool:
    ending = PurePosixPath(name).suffix.lower()
    return ending in SUFFIXES or ending in UNREADABLE


def _both_exist(path: Path, a: str, b: str) -> bool:
    return _is_file(path.parent / a) and _is_file(path.parent / b)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or an unreachable path
        return False


def _files(table: Path, paths: list[Path], names: list[str]) -> Source:
    def content(i: int) -> BinaryIO:
        return io.BytesIO(paths[i].read_bytes())

    def version() -> str:
        stats = [(str(p), p.stat()) for p in paths]
        text = "".join(f"{name}\0{s.st_size}\0{s.st_mtime_ns}\n" for name, s in stats)
        return "csv:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    return Source(name=short_name(table.stem), origin=f"the CSV {printable(table.resolve().name)}", names=names, content=content, version=version)

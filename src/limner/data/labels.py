"""Classes of pictures from a CSV or JSON file (classes from folders: data.layout)."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from limner.core.condition import UNLABELED
from limner.core.text import printable

LABEL_FILES = ("labels.csv", "labels.json", "dataset.json", "metadata.csv")  # in order of precedence
MAX_LABEL_BYTES = 128 << 20  # of a labels file; that of ImageNet's 1.3 million pictures has half of it
FILE_COLUMNS = ("file", "filename", "file_name", "name", "image", "path")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
UNLABELED_FOLDERS = ("unlabeled", "unlabelled")  # names in lower case; where classes may be partial, their pictures have none
TEXT_LIKE = re.compile(
    r"mnist|svhn|glyph|captcha|handwrit|(?<![a-z])(digit|letter|alphabet|font|text)s?(?![a-z])", re.IGNORECASE
)
Labeled = tuple[tuple[str, ...], np.ndarray]  # (classes, int64 [N])
Table = tuple[str, Callable[[], bytes]]  # a labels file: its name, and a function that reads it or raises ValueError
Labels = Path | bool  # the labels file; True: the one that lies with the pictures; False: no labels


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts "2" before "10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.findall(r"\d+|\D+", text)]


def encode_classes(values: Sequence[str | None]) -> Labeled:
    """Return the distinct class names in natural order, and the index among them of each value; UNLABELED for None."""
    classes = sorted({v for v in values if v is not None}, key=lambda v: (natural_key(v), v))
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes)} | {None: UNLABELED}
    return tuple(classes), np.array([index[v] for v in values], np.int64)


def read_labels(content: bytes, name: str, named: bool = False) -> dict[str, str]:
    """Parse the bytes of a CSV or JSON file to {file: class name}; empty if it holds no labels.

    CSV: columns file and label (or common synonyms), or two columns without a header; separated by comma, semicolon or tab.
    named: the user gave the file as one of labels, so the column beside the files holds them whatever its title. JSON:
    {file: label}, [[file, label], ...] or {"labels": [[file, label], ...]} as of StyleGAN.
    Raises ValueError when it cannot be parsed.
    """
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"{name} is too large to be a table of labels ({len(content) >> 20:,} MiB).")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    found = _from_json(text, name) if name.lower().endswith(".json") else _from_csv(text, name, named)
    return {printable(file): printable(label) for file, label in found.items()}  # as the names of pictures


def _from_json(text: str, name: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is not valid JSON: correct it.") from None
    if isinstance(value, dict) and "labels" in value and not isinstance(value["labels"], (str, int)):
        value = value["labels"]
    pairs = list(value.items()) if isinstance(value, dict) else value or []
    if not isinstance(pairs, list) or not all(
        isinstance(p, (list, tuple)) and len(p) == 2 and isinstance(p[0], str) and isinstance(p[1], (str, int))
        for p in pairs
    ):
        raise ValueError(f'{name} should hold {{"file": label}} or [["file", label], ...], each label a name or number.')
    return {file: str(label) for file, label in pairs}


def _from_csv(text: str, name: str, named: bool) -> dict[str, str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
        if "\0" in text:
            raise csv.Error("UTF-16, or not a text")
    except csv.Error as error:
        raise ValueError(f"{name} cannot be read as a table ({error}): save it as CSV in UTF-8.") from error
    if not rows:
        return {}
    titles = [cell.strip().lower() for cell in rows[0]]
    file = next((titles.index(t) for t in FILE_COLUMNS if t in titles), None)
    label = next((titles.index(t) for t in LABEL_COLUMNS if t in titles), None)
    if named and file is not None and label is None and len(titles) == 2:
        label = 1 - file
    if file is not None and label is not None:
        rows = rows[1:]
    elif len(titles) == 2 and file is None and label is None and "." in titles[0]:
        file, label = 0, 1
    elif file is not None:
        return {}  # a table about the pictures without classes, such as captions
    else:
        raise ValueError(f"{name} needs the columns file and label in its first line, but has: {', '.join(titles)}.")
    return {row[file].strip(): row[label].strip() for row in rows if len(row) > max(file, label)}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def unmatched(names: Sequence[str], table: Mapping[str, str]) -> list[str]:
    """Return the files of `table` with a class that are none of the pictures, matched as `match_labels` does."""
    known = {key for name in map(_plain, names) for key in (name, PurePosixPath(name).name, PurePosixPath(name).stem)}
    files = [_plain(file) for file, label in table.items() if label != ""]
    return [file for file in files if not known & {file, PurePosixPath(file).name, PurePosixPath(file).stem}]


def match_labels(names: Sequence[str], table: Mapping[str, str]) -> list[str | None]:
    """Return each picture's class name in `table`, by its relative name, its file name, or its file name without suffix.

    A line that has the relative name of a picture is about that picture alone, not about others of its file name.
    """
    exact = {_plain(file): label for file, label in table.items() if label != ""}
    loose: dict[str, str | None] = {}
    here = set(map(_plain, names))
    for file, label in exact.items():
        if file in here:
            continue
        for key in {PurePosixPath(file).name, PurePosixPath(file).stem}:
            loose[key] = label if loose.get(key, label) == label else None  # None: two files of that name differ in class
    found: list[str | None] = []
    for name in map(_plain, names):
        path = PurePosixPath(name)
        found.append(exact.get(name) or loose.get(path.name) or loose.get(path.stem))
    return found


TEXT_NOTE = "The pictures seem to show text, which must not be mirrored: leave flips off."


def text_like(name: str, classes: Sequence[str]) -> bool:
    """Return whether a set looks like text, which must not be mirrored: by its name, or by single-character classes."""
    single = [c for c in classes if len(c) == 1 and c.isalnum()]
    if "fashion" in name.lower():
        return False
    return bool(TEXT_LIKE.search(name)) or (len(single) >= 2 and len(single) >= 0.8 * len(classes))

"""Captions of pictures: from text files beside them, a table, or their names."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from limner.core.hashing import LONGEST, words
from limner.core.text import counted, printable
from limner.data.image import reason
from limner.data.labels import FILE_COLUMNS, MAX_LABEL_BYTES, match_labels
from limner.data.source import Source

CAPTION_FILES = (
    "captions.csv",
    "captions.jsonl",
    "captions.json",
    "metadata.jsonl",
    "metadata.csv",
)  # in order of precedence
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "prompt", "description", "title")
NAMES = "names"  # the value of --captions that takes the names of files
SIDECAR = ".txt"
MAX_SIDECAR_BYTES = 1 << 20  # of a text file beside a picture; larger ones are no captions

Captions = list[tuple[str, ...]]  # of each picture, one or several; none where it has none


def read_captions(source: Source, names: Sequence[str], given: str | Path | None = None) -> tuple[Captions, str]:
    """Return the captions of pictures and a phrase that says where they come from.

    names: of the pictures, among those of the source. given: a table, or "names"; None takes the first of: a table that
    lies with the pictures (`CAPTION_FILES`), text files beside them (x.txt beside x.png, a caption a line), their
    names. Raises ValueError when there are no captions, or when the given table cannot be read.
    """
    if given is not None and str(given) != NAMES:
        return _of_table(names, *_given_table(Path(given).expanduser())), printable(Path(given).name)
    if given is None:
        for name in CAPTION_FILES:
            if (content := source.text(name)) is not None and (table := read_table(content, name)):
                return _of_table(names, name, table), name
        beside = [_sidecar(source, name) for name in names]
        if any(beside):
            return beside, f"the {SIDECAR} files beside the pictures"
    found: Captions = [(caption,) if (caption := caption_of_name(name)) else () for name in names]
    if sum(map(bool, found)) * 2 < len(found):
        raise ValueError(
            f"The pictures of {source.origin} have no captions: put x{SIDECAR} beside x.png, or a captions.csv with the columns file "
            "and caption among them; such a table is taken by --captions, too."
        )
    return found, "the names of the files"


def _given_table(path: Path) -> tuple[str, dict[str, list[str]]]:
    name = printable(path.name)
    try:
        if not path.is_file():
            raise ValueError(f"The captions file {printable(path)} does not exist, or is not a file.")
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise ValueError(f"{name} is too large to be a table of captions ({path.stat().st_size >> 20:,} MiB).")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"The captions file {printable(path)} cannot be read: {reason(error)}.") from error
    table = read_table(content, name)
    if not table:
        raise ValueError(f"{name} holds no captions: it needs the columns file and caption.")
    return name, table


def _of_table(names: Sequence[str], name: str, table: dict[str, list[str]]) -> Captions:
    joined = {file: "\n".join(captions) for file, captions in table.items()}
    found = [tuple(text.split("\n")) if text else () for text in match_labels(names, joined)]
    if not any(found):
        raise ValueError(
            f"{name} has a caption for none of the pictures: it needs lines of file,caption with their names."
        )
    return found


def _sidecar(source: Source, name: str) -> tuple[str, ...]:
    """Return the captions in the text file beside a picture, a line each."""
    content = source.text(str(PurePosixPath(name).with_suffix(SIDECAR)))
    return () if content is None or len(content) > MAX_SIDECAR_BYTES else tuple(usable(_decoded(content).split("\n")))


def usable(captions: Sequence[str]) -> list[str]:
    """Return the captions that hold a word, without line breaks and control characters, at most `LONGEST` characters of
    each."""
    clean = (" ".join(caption[:LONGEST].split()) for caption in captions)
    safe = [text if printable(text) == text else "".join(c for c in text if printable(c) == c) for text in clean]
    return [text for text in safe if words(text)]


def read_table(content: bytes, name: str) -> dict[str, list[str]]:
    """Parse the bytes of a table to {file: captions}; empty if it holds none.

    CSV: the columns file and caption (or common synonyms), separated by comma, semicolon or tab; several lines for a
    file give it several captions. JSON Lines: objects with such keys, as of Hugging Face's image folders. JSON: {file:
    caption or list of captions}, or a list of such objects. Raises ValueError when it cannot be parsed.
    """
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"{name} is too large to be a table of captions ({len(content) >> 20:,} MiB).")
    text, ending = _decoded(content), PurePosixPath(name).suffix.lower()
    table: dict[str, list[str]] = {}
    for file, caption in _json_rows(text, name, ending) if ending in (".json", ".jsonl") else _csv_rows(text, name):
        table.setdefault(printable(file), []).extend(usable([caption]))
    return {file: captions for file, captions in table.items() if captions}


def _decoded(content: bytes) -> str:
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    return content.decode("latin-1")


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, str]]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    first = text.split("\n", 1)[0]
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)) if row]
    except csv.Error as error:
        raise ValueError(f"{name} cannot be read as a table ({error}): save it as CSV in UTF-8.") from error
    titles = [cell.strip().lower() for cell in rows[0]] if rows else []
    file, caption = (
        next((titles.index(t) for t in known if t in titles), None) for known in (FILE_COLUMNS, CAPTION_COLUMNS)
    )
    if file is None or caption is None:
        return
    yield from ((row[file].strip(), row[caption]) for row in rows[1:] if len(row) > max(file, caption))


def _json_rows(text: str, name: str, ending: str) -> Iterator[tuple[str, str]]:
    try:
        value = (
            [json.loads(line) for line in text.split("\n") if line.strip()] if ending == ".jsonl" else json.loads(text)
        )
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is not valid JSON{' Lines' if ending == '.jsonl' else ''}: correct it.") from None
    rows = (
        value.items() if isinstance(value, dict) else map(_file_and_captions, value if isinstance(value, list) else [])
    )
    for file, captions in rows:
        yield from ((file, c) for c in (captions if isinstance(captions, list) else [captions]) if isinstance(c, str))


def _file_and_captions(entry: Any) -> tuple[str, Any]:
    """Return the file and the caption or captions of an object; empty where it has none."""
    if not isinstance(entry, dict):
        return "", []
    file = next((entry[key] for key in FILE_COLUMNS if isinstance(entry.get(key), str)), "")
    return file, next((entry[key] for key in CAPTION_COLUMNS if entry.get(key)), []) if file else []


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile(r"^(?:img|dsc|image|photo|pic|picture)?[\W_]*\d+$", re.IGNORECASE)


def caption_of_name(name: str) -> str:
    """Return the caption that a file name holds, "" for none: `red-heart_01.png` gives "red heart", `IMG_0123.jpg`
    none."""
    parts = re.split(r"[\s_\-+.,()\[\]]+", _CAMEL.sub(" ", PurePosixPath(name).stem))
    kept = [part for part in parts if part and not _NUMBER.match(part)]
    caption = " ".join(kept)
    return caption if any(c.isalpha() for c in caption) and not _NUMBER.match(PurePosixPath(name).stem) else ""


def captions_note(captions: Captions, origin: str) -> str:
    """Return a sentence on the captions of a set."""
    different = dict.fromkeys(caption for of in captions for caption in of)
    return (
        f"Captions come from {origin}: {counted(len(different), 'different one')}, such as {next(iter(different))!r}."
    )

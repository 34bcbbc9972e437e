"""The folder of a study. Answers are appended and synced one by one: a kill or a power cut loses none that was confirmed.

    study.json       settings, names of what is compared, and the secret key of the plan
    pictures.npz     the pictures uint8 [N,C,H,W] and their kinds [N]
    raters.jsonl     one line a rater
    answers.jsonl    one line an answer
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from limner.apps.study.plan import Pool
from limner.core import schema
from limner.core.files import read_bytes, read_error, write_error, write_whole, writing
from limner.core.text import printable_json

SETTINGS, PICTURES, RATERS, ANSWERS, LOCK = "study.json", "pictures.npz", "raters.jsonl", "answers.jsonl", "study.lock"
FORMAT = 1
MAX_BYTES = 2 << 30  # of the pictures, and of the answers


@dataclass(frozen=True)
class Settings:
    """What is compared. names: of the real pictures and the run, or of the two runs. pictures: of each kind that a rater judges."""

    names: tuple[str, str]
    pairs: bool
    pictures: int
    raters: int
    seed: int
    made_from: str  # identifies runs and data, so that a study is not continued with others
    key: str

    @staticmethod
    def new_key() -> str:
        return secrets.token_hex(32)


@dataclass(frozen=True)
class Rater:
    """A person. id: a secret of their browser. name: as they gave it, or empty."""

    number: int
    id: str
    name: str


@dataclass(frozen=True)
class Answer:
    """An answer. choice: REAL or FAKE; of pairs FIRST or SECOND, the run that was chosen. side: of the choice, -1 without sides.

    position: of the trial in the rater's plan. seconds: from the display to the answer.
    """

    rater: int
    position: int
    items: tuple[int, ...]
    truth: int  # kind of the picture; of pairs -1
    choice: int
    side: int
    seconds: float
    practice: bool
    repeats: int | None
    time: float  # seconds since 1970


@dataclass(frozen=True)
class Study:
    """A study in memory. pictures: uint8 [N,C,H,W]."""

    folder: Path
    settings: Settings
    pictures: np.ndarray
    pool: Pool

    @property
    def key(self) -> bytes:
        return bytes.fromhex(self.settings.key)


def exists(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return (folder / SETTINGS).is_file()


def create(folder: Path, settings: Settings, pictures: np.ndarray, kinds: np.ndarray) -> Study:
    """Write a new study. The settings come last, so that a folder with settings is complete. Raises ValueError on disk errors."""
    with writing(folder / PICTURES) as temporary, temporary.open("wb") as file:
        np.savez(file, pictures=pictures, kinds=kinds)
    write_whole(folder / SETTINGS, printable_json({"format": FORMAT, **asdict(settings)}) + "\n")
    if os.name == "posix":
        (folder / SETTINGS).chmod(0o600)  # it holds the key
    return Study(folder, settings, pictures, Pool(kinds, settings.pairs))


def load(folder: Path) -> Study:
    """Read a study. Raises ValueError when it is missing or damaged."""
    damaged = f"{folder} holds a damaged study: give another --out for a new one."
    try:
        document = schema.parse(read_bytes(folder / SETTINGS, schema.MAX_JSON_BYTES))
        content = read_bytes(folder / PICTURES, MAX_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no study: start one with `limner study RUN --data PICTURES`.") from error
    except schema.Mismatch as error:
        raise ValueError(damaged) from error
    try:
        if document.pop("format") != FORMAT:
            raise ValueError
        settings = Settings(**{**document, "names": tuple(document["names"])})
        bytes.fromhex(settings.key)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            pictures, kinds = arrays["pictures"], arrays["kinds"]
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or kinds.shape != (len(pictures),):
            raise ValueError
    except Exception as error:  # a zip of foreign content may fail in any way
        raise ValueError(damaged) from error
    return Study(folder, settings, pictures, Pool(kinds.astype(np.int64), settings.pairs))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the study's lock. Raises ValueError when another process serves it."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"Another process serves the study in {folder}: open its page, or stop it first.") from error
    except OSError as error:
        raise write_error(error, folder / LOCK) from error
    try:
        yield
    finally:
        lock.release()


def raters(folder: Path) -> list[Rater]:
    """Return the raters in the order in which they came."""
    return [Rater(int(line["number"]), str(line["id"]), str(line["name"])) for line in _lines(folder / RATERS)]


def answers(folder: Path) -> list[Answer]:
    """Return the answers in the order in which they came."""
    found = _lines(folder / ANSWERS)
    try:
        return [Answer(**{**line, "items": tuple(line["items"])}) for line in found]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder / ANSWERS} is damaged: a line lacks fields.") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; a last line without an end was being written at a kill, and is left out."""
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    whole = [line for line in text.split("\n")[:-1] if line.strip()]
    try:
        found = [schema.parse(line) for line in whole]
    except schema.Mismatch as error:
        raise ValueError(f"{path} is damaged: a line is no JSON object.") from error
    if not all(isinstance(line, dict) for line in found):
        raise ValueError(f"{path} is damaged: a line is no JSON object.")
    return found


class Journal:
    """Appends JSON lines to a file; each is on the disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("ab")
            self.file.truncate(_whole_length(path))
        except OSError as error:
            raise write_error(error, path) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record. Raises ValueError when the disk is full; the file then ends with the last whole record."""
        end = _whole_length(self.path) if self.file.closed else self.file.seek(0, os.SEEK_END)
        try:
            if self.file.closed:
                self.file = self.path.open("ab")
            self.file.write((json.dumps(dict(record)) + "\n").encode())
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            self.close()
            os.truncate(self.path, end)
            raise write_error(error, self.path) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be flushed was reported
            self.file.close()


def _whole_length(path: Path) -> int:
    """Return the length in bytes of a file's whole lines."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise read_error(error, path) from error
    return content.rfind(b"\n") + 1

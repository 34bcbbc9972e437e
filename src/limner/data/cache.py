"""Decoded pictures kept on disk under a name made of everything that went into them: never stale, never half there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from limner.core.files import write_whole, writing

VERSION = 3     # of what decoding does and of the files here; raise it when either changes
BIG = 1 << 30   # bytes; arrays larger than this stay on disk and are mapped into memory
PIECE = 1 << 26


def cache_folder() -> Path:
    """LIMNER_CACHE, else the platform's place for what can be made again."""
    if place := os.environ.get("LIMNER_CACHE"):
        return Path(place).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "limner" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "limner"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limner"


def content_hash(pictures: np.ndarray, labels: np.ndarray | None) -> str:
    """sha256 hex over shape, pixels [N,H,W,C] and labels [N]."""
    digest = hashlib.sha256(str(pictures.shape).encode())
    rows = max(1, PIECE // max(1, pictures[:1].nbytes))
    for i in range(0, len(pictures), rows):
        digest.update(np.ascontiguousarray(pictures[i : i + rows]).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, np.int64).data)
    return digest.hexdigest()


def room_for(shape: tuple[int, ...]) -> np.ndarray:
    """A new uint8 array to write into: in memory, or where that is too big in a nameless file beside the cache."""
    size = math.prod(shape)
    if size <= BIG:
        return np.empty(shape, np.uint8)
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (the map keeps it; closing removes it)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a map of what the disk has no room for ends in SIGBUS
        return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError:
        return np.empty(shape, np.uint8)


def load(key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The pictures [N,H,W,C] and facts stored under `key`; None where there are none, or where they are damaged."""
    pictures_path, facts_path = _paths(key)
    try:
        facts = json.loads(facts_path.read_text("utf-8"))
        big = pictures_path.stat().st_size > BIG
        # copy-on-write: torch wants memory that could be written, and no one writes it
        pictures = np.load(pictures_path, allow_pickle=False, mmap_mode="c" if big else None)
        if pictures.dtype != np.uint8 or list(pictures.shape) != facts["shape"]:
            return None
        labels = None if facts["labels"] is None else np.array(facts["labels"], np.int64)
        if not big and content_hash(pictures, labels) != facts["fingerprint"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return pictures, facts


def store(key: str, pictures: np.ndarray, facts: dict[str, Any]) -> str:
    """Keep pictures and facts under `key`, whole or not at all. Returns "", or why it could not be done."""
    pictures_path, facts_path = _paths(key)
    try:
        with suppress(OSError):
            facts_path.unlink(missing_ok=True)  # facts are written last: where they stand, the pictures are whole
        with writing(pictures_path) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": pictures.shape}
            )
            rows = max(1, PIECE // max(1, pictures[:1].nbytes))
            for i in range(0, len(pictures), rows):
                file.write(np.ascontiguousarray(pictures[i : i + rows]).data)
        write_whole(facts_path, json.dumps({"shape": list(pictures.shape), **facts}))
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _paths(key: str) -> tuple[Path, Path]:
    folder = cache_folder() / "pictures"
    return folder / f"{key}.npy", folder / f"{key}.json"

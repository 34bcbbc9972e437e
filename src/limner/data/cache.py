"""A disk cache of decoded pictures; the key is a hash of everything that determines the content, so it is never stale."""

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

VERSION = 3     # of decoding and of the file format; raise it when either changes
MAX_MEMORY_BYTES = 1 << 30   # of an array in memory; larger ones are memory-mapped files
CHUNK_BYTES = 1 << 26


def cache_folder() -> Path:
    """Return LIMNER_CACHE if it is set, otherwise the platform's cache folder."""
    if place := os.environ.get("LIMNER_CACHE"):
        return Path(place).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "limner" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "limner"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limner"


def content_hash(pictures: np.ndarray, labels: np.ndarray | None) -> str:
    """Return the SHA-256, in hex, of shape, pixels [N,H,W,C] and labels [N]."""
    digest = hashlib.sha256(str(pictures.shape).encode())
    rows = max(1, CHUNK_BYTES // max(1, pictures[:1].nbytes))
    for i in range(0, len(pictures), rows):
        digest.update(np.ascontiguousarray(pictures[i : i + rows]).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, np.int64).data)
    return digest.hexdigest()


def allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Return a new writable uint8 array: in memory, or if it is too large in an unlinked file in the cache folder."""
    size = math.prod(shape)
    if size <= MAX_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (the memory map keeps it open; closing removes it)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # writing to a map on a full disk would raise SIGBUS
        return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError:
        return np.empty(shape, np.uint8)


def load(key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Return the pictures [N,H,W,C] and facts stored under `key`; None if there are none or they are damaged."""
    pictures_path, facts_path = _paths(key)
    try:
        facts = json.loads(facts_path.read_text("utf-8"))
        big = pictures_path.stat().st_size > MAX_MEMORY_BYTES
        # copy-on-write: torch warns of arrays that are not writable
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
    """Store pictures and facts under `key` atomically. Returns "", or the reason of a failure."""
    pictures_path, facts_path = _paths(key)
    try:
        with suppress(OSError):
            facts_path.unlink(missing_ok=True)  # facts are written last: if they exist, the pictures are complete
        with writing(pictures_path) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": pictures.shape}
            )
            rows = max(1, CHUNK_BYTES // max(1, pictures[:1].nbytes))
            for i in range(0, len(pictures), rows):
                file.write(np.ascontiguousarray(pictures[i : i + rows]).data)
        write_whole(facts_path, json.dumps({"shape": list(pictures.shape), **facts}))
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _paths(key: str) -> tuple[Path, Path]:
    folder = cache_folder() / "pictures"
    return folder / f"{key}.npy", folder / f"{key}.json"

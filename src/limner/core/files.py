"""Files that are written whole or not at all, and errors of the disk told in one sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over it, on failure removed.

    A reader sees the old file or the new one, never half of one, whatever kills the process.
    Raises ValueError in one sentence when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise for_people(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write bytes or UTF-8 text to `path`, whole or not at all. Raises ValueError as `writing` does."""
    with writing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def for_people(error: OSError, path: Path) -> ValueError:
    """An error of the file system as a ValueError whose one sentence says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ValueError(
            f"The disk is full: {path} could not be written. Free some space and give the same command again; "
            "what was written before is intact."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ValueError(f"{path} cannot be written (no permission): choose another place, or change its permissions.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return ValueError(f"{path} cannot be written: a file stands where a folder is needed. Choose another place.")
    return ValueError(f"{path} could not be written: {error.strerror or error}.")

"""Atomic file writes, and file system errors as one clear sentence."""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on failure removed.

    A reader sees the old file or the new one, never a partial one, even if the process is killed. Raises ValueError when
    the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{_prefix(path)}{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() and path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a device or a pipe, which would be replaced: choose another name.")
        with temporary.open("wb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # the umask's mode; some writers create their own file
        yield temporary
        with temporary.open("rb+") as file:  # Windows syncs only writable files
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        raise write_error(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove the temporary files of killed processes that were writing `path`. Call it only while nothing writes `path`."""
    for leftover in path.parent.glob(f"{_prefix(path)}*.partial"):
        with suppress(OSError):
            leftover.unlink()


def _prefix(path: Path) -> str:
    checksum = zlib.crc32(os.fsencode(path.name))  # instead of the name, which may have the maximum length
    return f".{checksum:08x}."


def write_whole(path: Path, content: bytes | str) -> None:
    """Write bytes or UTF-8 text to `path` atomically. Raises ValueError as `writing` does."""
    with writing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically. Raises ValueError as `writing` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # safetensors store one memory layout: a channels_last tensor is written contiguously
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path) as temporary:
        try:
            save_file(flat, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # the OS error number is only in its message
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises FileNotFoundError when it does not exist, and ValueError when it cannot be opened or is not a regular file: a
    pipe would block, and a device may never end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise read_error(error, path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is not a regular file: a folder, a pipe or a device stands there.")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes` bytes. Raises as `open_regular`, and ValueError for a larger file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"{path} has {size:,} bytes, more than such a file can need ({max_bytes:,}): it is damaged.")
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise read_error(error, path) from error


def read_error(error: OSError, path: Path) -> ValueError:
    """Convert an error while reading `path` into a ValueError whose sentence names the cause."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return ValueError(f"{path} cannot be read (no permission): change its permissions or those of its folder.")
    if error.errno == errno.EISDIR:
        return ValueError(f"{path} is not a regular file: a folder stands there.")
    if error.errno == errno.ELOOP:
        return ValueError(f"{path} cannot be read: its symbolic links form a loop.")
    if error.errno == errno.ENAMETOOLONG:
        return ValueError(f"The path {path} is longer than the file system allows.")
    return ValueError(f"{path} cannot be read: {error.strerror or error}.")


def write_error(error: OSError, path: Path) -> ValueError:
    """Convert an error while writing `path` into a ValueError whose sentence says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ValueError(
            f"The disk is full: {path} could not be written. Free some space and give the same command again; "
            "what was written before is intact."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ValueError(f"{path} cannot be written (no permission): choose another place, or change its permissions.")
    if error.errno == errno.ENAMETOOLONG:
        return ValueError(f"The path {path} is longer than the file system allows: choose a shorter one.")
    if error.errno == errno.EISDIR:
        return ValueError(f"{path} cannot be written: a folder stands there. Choose another name.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return ValueError(f"{path} cannot be written: a file stands where a folder is needed. Choose another place.")
    return ValueError(f"{path} could not be written: {error.strerror or error}.")


def is_disk_error(error: BaseException | None) -> bool:
    """Return whether an error, or what it was raised from, is one of reading or writing files: the disk is full, for example."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__
    return False


def lies_in(inner: Path, outer: Path) -> bool:
    """Return whether `inner` is `outer` or below it, with links resolved.

    Existing files are compared by identity, so that a and A are one folder on a case-insensitive file system. Neither
    path needs to exist.
    """
    place = Path(os.path.realpath(inner))
    return _identity(Path(os.path.realpath(outer))) in {_identity(one) for one in (place, *place.parents)}


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return str(path)
    return found.st_dev, found.st_ino

"""Files that are written whole or not at all, and errors of the disk told in one sentence."""

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
    """Yield a temporary path beside `path`; on success it is synced and renamed over it, on failure removed.

    A reader sees the old file or the new one, never half of one, whatever kills the process.
    Raises ValueError in one sentence when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{_begin(path)}{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() and path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a device or a pipe, which would be replaced: choose another name.")
        with temporary.open("wb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # what the umask leaves; some writers make their own file
        yield temporary
        with temporary.open("rb+") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        raise for_people(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what processes that were killed while writing `path` left. Only for one who knows that nobody writes it now."""
    for left in path.parent.glob(f"{_begin(path)}*.partial"):
        with suppress(OSError):
            left.unlink()


def _begin(path: Path) -> str:
    mark = zlib.crc32(os.fsencode(path.name))  # in place of the name, which may be as long as a name can be
    return f".{mark:08x}."


def write_whole(path: Path, content: bytes | str) -> None:
    """Write bytes or UTF-8 text to `path`, whole or not at all. Raises ValueError as `writing` does."""
    with writing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, whole or not at all. Raises ValueError as `writing` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # files know one layout: a channels_last tensor is written as its contiguous equal
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path) as temporary:
        try:
            save_file(flat, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # it tells the system's error in words only
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def open_regular(path: Path) -> BinaryIO:
    """`path` opened for reading. Raises FileNotFoundError when it is not there, and ValueError naming the cause when it
    cannot be opened or is no regular file: a pipe would block, and a device may never end."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(error, path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is not a regular file: a folder, a pipe or a device stands there.")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises as `open_regular`, and ValueError for a larger one."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path} has {size:,} bytes, more than such a file can need ({most:,}): it is damaged.")
        try:
            return file.read(most)
        except OSError as error:
            raise unreadable(error, path) from error


def unreadable(error: OSError, path: Path) -> ValueError:
    """An error of the file system while reading, as a ValueError whose one sentence names the cause."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return ValueError(f"{path} cannot be read (no permission): change its permissions or those of its folder.")
    if error.errno == errno.EISDIR:
        return ValueError(f"{path} is not a regular file: a folder stands there.")
    if error.errno == errno.ELOOP:
        return ValueError(f"{path} cannot be read: its symbolic links lead back to themselves.")
    if error.errno == errno.ENAMETOOLONG:
        return ValueError(f"The path {path} is longer than the file system allows.")
    return ValueError(f"{path} cannot be read: {error.strerror or error}.")


def for_people(error: OSError, path: Path) -> ValueError:
    """An error of the file system as a ValueError whose one sentence says what to do."""
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


def lies_in(inner: Path, outer: Path) -> bool:
    """Whether `inner` is `outer` or lies below it, links resolved; what exists is compared by identity, not by name.

    Either may be yet to be made. Where a and A are one letter, they are one folder.
    """
    place = Path(os.path.realpath(inner))
    return _identity(Path(os.path.realpath(outer))) in {_identity(one) for one in (place, *place.parents)}


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return str(path)
    return found.st_dev, found.st_ino

"""Files that are written whole or not at all, and errors of the disk told in one sentence."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

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
        yield temporary
        with temporary.open("rb+") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
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


def for_people(error: OSError, path: Path) -> ValueError:
    """An error of the file system as a ValueError whose one sentence says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ValueError(
            f"The disk is full: {path} could not be written. Free some space and give the same command again; "
            "what was written before is intact."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ValueError(f"{path} cannot be written (no permission): choose another place, or change its permissions.")
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

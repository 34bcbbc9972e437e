"""The process that trains in a run folder: its number stands beside the lock, so that another program can find and stop it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from limner.core.files import write_whole

LOCK, FILE = ".lock", ".process"  # in the run folder


def record(folder: Path) -> None:
    """Write the number of this process, which holds the lock of the folder. Raises ValueError on disk errors."""
    write_whole(folder / FILE, f"{os.getpid()}\n")


def erase(folder: Path) -> None:
    """Remove the number, before the lock is released."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def find(folder: Path) -> int | None:
    """Return the number of the process that trains in a folder; None if there is none.

    A killed process leaves its number behind, which the system may give to another one later: only the lock proves that the
    process still trains. The lock is tried only if a process of that number exists.
    """
    try:
        number = int((folder / FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if not alive(number):
        return None
    try:
        with FileLock(folder / LOCK, timeout=0):
            return None
    except Timeout:
        return number
    except OSError:  # a folder that cannot be written: nothing trains in it
        return None


def alive(number: int) -> bool:
    """Return whether a process of that number exists, even one of another user."""
    if number <= 0 or os.name != "posix":  # elsewhere os.kill would end the process: its number is believed
        return number > 0
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

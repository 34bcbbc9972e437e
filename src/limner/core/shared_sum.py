"""Sums over the ranks of one machine through memory that they share; Gloo takes 0.4 ms for the smallest message.

    file:  flags and process ids [world, 8] int64 | two buffers in turn [2, world, capacity] float32

Each rank copies its numbers to its row, raises its flag to the number of the call, waits for the flags of all, and adds the rows in
rank order, so that every rank gets the same bits. A rank that writes to a buffer again knows that all have read it: they have raised
their flags for the call between. That a flag is seen after the numbers before it is the order of stores of x86.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path("/dev/shm")
LINE = 64  # bytes of a cache line: flags in one line would slow each other down
SPINS, YIELDS = 2_000, 2_000  # looks at a flag without and with a yield of the core, about 0.1 and 1 ms, before the rank sleeps between two
PAUSE = 1e-4  # seconds of sleep
TIMEOUT = 1800.0  # seconds, as Gloo's


def available() -> bool:
    """Return whether the ranks that torchrun started are all on this machine, which is Linux on x86."""
    local = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE", "1")
    return local and sys.platform == "linux" and platform.machine() == "x86_64" and FOLDER.is_dir()


class SharedSum:
    """Sums of up to `capacity` float32 numbers over `world` ranks. Every rank makes the same calls."""

    def __init__(self, rank: int, world: int, capacity: int, broadcast: Callable[[object], object]) -> None:
        """broadcast: returns rank 0's value on every rank. Raises OSError, on every rank, when there is not enough memory."""
        self.rank, self.world, self.capacity, self.calls = rank, world, capacity, 0
        size = LINE * world + 2 * world * capacity * 4
        path: object = None
        error: OSError | None = None
        if rank == 0:
            try:
                path = _allocated(size)
            except OSError as found:
                error = found
        path = broadcast(path)
        if not isinstance(path, str):
            raise error or OSError("rank 0 found no shared memory")
        with open(path, "r+b") as file:  # noqa: PTH123
            memory = mmap.mmap(file.fileno(), size)
        self.flags = memoryview(memory)[: LINE * world].cast("q")
        self.rows = torch.frombuffer(memory, dtype=torch.float32, offset=LINE * world).view(2, world, capacity)
        self.flags[LINE // 8 * rank + 1] = os.getpid()
        self.sum(lambda row: row.zero_(), 1)  # all ranks have opened the file
        if rank == 0:
            Path(path).unlink()

    def sum(self, write: Callable[[Tensor], object], count: int) -> Tensor:
        """Return the sum [count] over ranks of what `write` puts into its argument [count]. Raises RuntimeError when a rank has ended."""
        rows = self.rows[self.calls % 2, :, :count]
        self.calls += 1
        write(rows[self.rank])
        self.flags[LINE // 8 * self.rank] = self.calls
        for rank in range(self.world):
            self._wait(rank)
        total = torch.add(rows[0], rows[1])
        for row in rows[2:]:
            total += row
        return total

    def _wait(self, rank: int) -> None:
        """Wait for a rank's flag: at first without sleep, since ranks of equal work arrive at about the same time."""
        flags, at, looks, start = self.flags, LINE // 8 * rank, 0, 0.0
        while flags[at] < self.calls:
            looks += 1
            if looks > SPINS + YIELDS:
                start = start or time.monotonic()
                time.sleep(PAUSE)
                if looks % 50 == 0:
                    self._check(rank, time.monotonic() - start)
            elif looks > SPINS:
                os.sched_yield()

    def _check(self, rank: int, waited: float) -> None:
        """Raise RuntimeError when the rank that is waited for has ended, or after the time limit."""
        try:
            os.kill(self.flags[LINE // 8 * rank + 1], 0)
        except ProcessLookupError:
            raise RuntimeError(f"Rank {rank} has ended.") from None
        if waited > TIMEOUT:
            raise RuntimeError(f"Rank {rank} has not answered for {waited:.0f} seconds.")


def _allocated(size: int) -> str:
    """Return the path of a new file in memory. Raises OSError when there is not enough: a sparse file would end a rank by SIGBUS later."""
    descriptor, path = tempfile.mkstemp(dir=FOLDER, prefix="limner-")
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        Path(path).unlink()
        raise
    finally:
        os.close(descriptor)
    return path

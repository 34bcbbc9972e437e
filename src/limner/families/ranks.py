"""Ranks that `train` starts on this machine: processes that train one model together, as torchrun starts them on many machines.

Rank 0 is the process of the command. It starts the others, which run the same command in its process group, print nothing, write
nothing, and end when it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from limner.core import device
from limner.core.distributed import Member, Ranks

PROCESS = f"{__package__}.rank_process"  # what the other ranks run; this module does not import it
HOST = "127.0.0.1"
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # the network interface by which Gloo connects ranks of one machine
PATIENCE = 120.0  # seconds until another rank must have started; it imports PyTorch
AT_THE_END = 20.0  # seconds until another rank must have ended by itself


@dataclass(frozen=True)
class _Other:
    """A process that rank 0 started, and the file that keeps what it says."""

    process: subprocess.Popen[str]
    said: IO[str]

    def problem(self, wait: float = 0.0) -> str | None:
        """Return how the process ended, in words; None if it did not within `wait` seconds, or ended well."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.wait(wait):
                self.said.seek(0)
                return (self.said.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]
        return None


@contextmanager
def started(count: int, order: Mapping[str, Any]) -> Iterator[Member]:
    """Start `count` - 1 processes that run the command `order` as ranks 1, 2 ...; yield the place of this one, rank 0, in their group.

    order: what `families.train.join` needs, as JSON. The CPU threads are divided between the ranks. Raises ValueError when a process
    cannot be started or ends before this one does.
    """
    threads = torch.get_num_threads()
    each = max(1, device.most_threads() // count)
    known = os.environ.get("GLOO_SOCKET_IFNAME")
    others: list[_Other] = []
    try:
        torch.set_num_threads(each)
        if known is None and (name := LOOPBACK.get(sys.platform)):
            os.environ["GLOO_SOCKET_IFNAME"] = name
        try:
            store = TCPStore(HOST, 0, count, is_master=True, wait_for_workers=False)
            for rank in range(1, count):
                others.append(_start({**order, "rank": rank, "world": count, "port": store.port, "threads": each}))
            _wait(store, others)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"Another process could not be started ({error}): --ranks 1 trains in one.") from error
        try:
            yield Member(Ranks(0, count), store)
        except RuntimeError as error:
            if _of_connection(error) and (problem := next((p for other in others if (p := other.problem(AT_THE_END))), None)):
                raise ValueError(
                    f"Another process of this run ended ({problem}): the same command continues from the last checkpoint, or with --ranks 1 in one process."
                ) from error
            raise
        for other in others:
            other.process.stdin.close()  # type: ignore[union-attr]
            with suppress(subprocess.TimeoutExpired):
                other.process.wait(AT_THE_END)
    finally:
        for other in others:
            other.process.kill()
            other.process.wait()
            other.process.stdin.close()  # type: ignore[union-attr]
            other.said.close()
        torch.set_num_threads(threads)
        if known is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)


def _of_connection(error: RuntimeError) -> bool:
    """Whether a collective failed, as it does when another rank has ended: Gloo says so in the message only."""
    return isinstance(error, DistError) or "gloo" in str(error).lower()


def _start(order: Mapping[str, Any]) -> _Other:
    said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (open as long as the process)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", PROCESS], env=os.environ | {"OMP_NUM_THREADS": str(order["threads"])},
        stdin=subprocess.PIPE, stdout=said, stderr=said, text=True, start_new_session=True,  # Ctrl-C is for rank 0, which tells the others
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    return _Other(process, said)


def _wait(store: TCPStore, others: list[_Other]) -> None:
    """Wait until all other ranks are there. Raises OSError if one ends, or is not there in time."""
    end = time.monotonic() + PATIENCE
    while not store.check([f"rank {rank + 1}" for rank in range(len(others))]):
        if problem := next((p for other in others if (p := other.problem())), None):
            raise OSError(problem)
        if time.monotonic() > end:
            raise OSError(f"it was not there after {PATIENCE:.0f} seconds")
        time.sleep(0.02)

"""Sums in shared memory; threads stand for ranks here, processes in tests/training/test_ranks.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from limner.core import shared_sum
from limner.core.shared_sum import FOLDER, SharedSum

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not FOLDER.is_dir(), reason="a file in memory is Linux's")


def on_ranks(world: int, work: Any) -> list[Any]:
    """Call work(rank, broadcast) on threads."""
    barrier, values = threading.Barrier(world), []

    def broadcast(rank: int, value: object) -> object:
        if rank == 0:
            values.append(value)
        barrier.wait(10)
        return values[-1]

    with ThreadPoolExecutor(world) as pool:
        calls = [pool.submit(work, rank, lambda value, rank=rank: broadcast(rank, value)) for rank in range(world)]
        return [call.result(20) for call in calls]


@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_gets_the_sum_in_rank_order(world: int) -> None:
    before = set(FOLDER.iterdir())
    numbers = torch.randn(5, world, 40, generator=torch.Generator().manual_seed(0))

    def work(rank: int, broadcast: Any) -> torch.Tensor:
        shared = SharedSum(rank, world, 40, broadcast)
        return torch.stack([shared.sum(lambda row, own=own: row.copy_(own[rank]), 40) for own in numbers])

    found = on_ranks(world, work)
    want = numbers[:, 0]
    for rank in range(1, world):
        want = want + numbers[:, rank]
    assert all(torch.equal(each, want) for each in found)
    assert not {path for path in set(FOLDER.iterdir()) - before if path.name.startswith("limner-")}, "no file is left"


def test_a_rank_that_has_ended_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_sum, "PAUSE", 1e-6)
    ended = subprocess.Popen(["true"])
    ended.wait()

    def work(rank: int, broadcast: Any) -> str:
        shared = SharedSum(rank, 2, 4, broadcast)
        if rank == 1:
            shared.flags[shared_sum.LINE // 8 + 1] = ended.pid
            return ""
        with pytest.raises(RuntimeError) as error:
            shared.sum(lambda row: row.zero_(), 4)
        return str(error.value)

    assert on_ranks(2, work)[0] == "Rank 1 has ended."


def test_too_little_memory_is_an_error_on_every_rank() -> None:
    def work(rank: int, broadcast: Any) -> str:
        with pytest.raises(OSError) as error:
            SharedSum(rank, 2, 1 << 50, broadcast)
        return type(error.value).__name__

    assert on_ranks(2, work) == ["OSError", "OSError"]

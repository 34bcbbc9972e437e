"""The worker: batches, order, refusals, abandoned jobs and errors. No model and no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest

from limner.apps.serve.batching import Abandoned, Full, Job, Worker
from limner.apps.serve.pace import Pace


class Gate:
    """A computation that waits until it is opened, and notes its batches."""

    def __init__(self) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, jobs: Sequence[Job]) -> list[Any]:
        self.entered.set()
        assert self.opened.wait(20)
        self.batches.append([job.payload for job in jobs])
        return [job.payload * 10 for job in jobs]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def occupied(gate: Gate, **limits: Any) -> Worker:
    """A worker that is busy with a first job, 0."""
    worker = Worker("test", gate, **limits)
    worker.submit("first", 0, 1)
    assert gate.entered.wait(20)
    return worker


def test_waiting_jobs_of_one_key_share_a_batch(gate: Gate) -> None:
    worker = occupied(gate)
    jobs = [worker.submit(key, number, 1) for number, key in enumerate("abacb", 1)]
    gate.opened.set()
    assert [job.future.result(20) for job in jobs] == [10, 20, 30, 40, 50]
    assert gate.batches == [[0], [1, 3], [2, 5], [4]]  # the oldest job decides which batch is next
    worker.close()


def test_batches_are_limited_and_jobs_without_a_key_are_alone(gate: Gate) -> None:
    worker = occupied(gate, max_batch=4)
    for number, pictures in ((1, 2), (2, 3), (3, 2), (4, 9)):
        worker.submit("a", number, pictures)
    last = [worker.submit(None, number, 1) for number in (5, 6)]
    gate.opened.set()
    last[-1].future.result(20)
    assert gate.batches == [[0], [1, 3], [2], [4], [5], [6]]
    worker.close()


def test_jobs_that_arrive_within_the_wait_share_a_batch() -> None:
    gate = Gate()
    gate.opened.set()
    worker = Worker("test", gate, wait=0.5)
    jobs = []
    for number in range(4):
        jobs.append(worker.submit("a", number, 1))
        time.sleep(0.01)
    jobs[-1].future.result(20)
    assert gate.batches == [[0, 1, 2, 3]]
    started = time.monotonic()
    worker.submit(None, 5, 1).future.result(20)  # alone in any case, so it does not wait
    assert time.monotonic() - started < 0.4
    worker.close()


def test_the_queue_is_bounded_by_number(gate: Gate) -> None:
    worker = occupied(gate, most=3)
    jobs = [worker.submit("a", number, 1) for number in range(3)]
    with pytest.raises(Full):
        worker.submit("a", 9, 1)
    assert worker.waiting() == 3
    jobs[0].abandon()  # makes room
    worker.submit("a", 4, 1)
    worker.close()


def test_a_job_is_closed_once(gate: Gate) -> None:
    gate.opened.set()
    closed: list[bool] = []
    worker = Worker("test", gate)
    job = worker.submit("a", 1, 1, closed.append)
    job.future.result(20)
    job.close()
    job.close()
    worker.close()
    assert closed == [True]
    Job("a", 1, 1, closed.append).close()  # never started
    assert closed == [True, False]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_expected_time_is_the_work_at_hand_over_the_work_done_a_second() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.expected(5) == 0
    pace.begin(1)
    assert pace.expected(5) == 0  # nothing is known yet
    for _ in range(100):  # one unit each tenth of a second, ten at hand
        while pace._open < 10:
            pace.begin(1)
        clock.now += 0.1
        pace.end(1)
    assert pace.expected(1) == pytest.approx(10 * 0.1, rel=0.06)
    for _ in range(9):
        pace.end(1, False)  # dropped, so not done
    clock.now += 1000  # idle time is no work
    assert pace.expected(50) == 0  # whoever comes first is taken
    pace.begin(1)
    assert pace.expected(4) == pytest.approx(5 * 0.1, rel=0.15)


def test_the_pace_follows_the_machine() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    for seconds in [0.01] * 500 + [0.1] * 100:
        pace.begin(1)
        clock.now += seconds
        pace.end(1)
    assert pace.expected(1) == pytest.approx(2 * 0.1, rel=0.1)


def test_abandoned_jobs_are_not_started(gate: Gate) -> None:
    worker = occupied(gate)
    gone, stays = worker.submit("a", 1, 1), worker.submit("a", 2, 1)
    gone.abandon()
    gate.opened.set()
    assert stays.future.result(20) == 20
    with pytest.raises(CancelledError):
        gone.future.result(20)
    assert gate.batches == [[0], [2]]
    worker.close()


def test_a_running_job_stops_at_its_next_progress() -> None:
    entered, steps = threading.Event(), [0]

    def long(jobs: Sequence[Job]) -> list[Any]:
        entered.set()
        for _ in range(10_000):
            steps[0] += 1
            time.sleep(0.001)
            jobs[0].check()
        return [None]

    worker = Worker("test", long)
    job = worker.submit(None, 0, 1)
    assert entered.wait(20)
    job.abandon()
    with pytest.raises(Abandoned):
        job.future.result(20)
    assert steps[0] < 5000
    worker.close()


def test_one_bad_job_does_not_spoil_its_batch(gate: Gate) -> None:
    def compute(jobs: Sequence[Job]) -> list[Any]:
        gate(jobs)
        if any(job.payload == 2 for job in jobs):
            raise ValueError("not 2")
        return [job.payload for job in jobs]

    worker = Worker("test", compute)
    jobs = [worker.submit("a", number, 1) for number in (0, 1, 2, 3)]
    gate.opened.set()
    assert [job.future.exception(20) is None for job in jobs] == [True, True, False, True]
    assert str(jobs[2].future.exception()) == "not 2"
    assert worker.submit("a", 5, 1).future.result(20) == 5  # the worker goes on
    worker.close()


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyError])
def test_the_worker_survives_any_error(error: type[Exception]) -> None:
    failing: list[Callable[[], None]] = []

    def compute(jobs: Sequence[Job]) -> list[Any]:
        for fail in failing:
            fail()
        return [1] * len(jobs)

    def fail() -> None:
        raise error("broken")

    worker = Worker("test", compute)
    failing.append(fail)
    with pytest.raises(error):
        worker.submit("a", 0, 1).future.result(20)
    failing.clear()
    assert worker.submit("a", 0, 1).future.result(20) == 1
    assert worker.alive
    worker.close()


def test_closing_drops_what_waits(gate: Gate) -> None:
    worker = occupied(gate)
    waiting = worker.submit("a", 1, 1)
    threading.Timer(0.2, gate.opened.set).start()
    worker.close()
    assert waiting.future.cancelled()
    assert not worker.alive
    with pytest.raises(Full):
        worker.submit("a", 2, 1)

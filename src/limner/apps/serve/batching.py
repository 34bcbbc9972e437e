"""A worker thread with a bounded queue that computes compatible jobs in one batch.

A forward pass of a small network costs nearly the same for one picture as for eight: most of it is overhead. The worker takes all
waiting jobs of one key, up to a number of pictures, and waits a few milliseconds for more when it is idle.

The number of waiting jobs is bounded; `pace.py` bounds their time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("limner.serve")


class Full(Exception):
    """Raised for a job that the queue has no room for."""


class Abandoned(Exception):
    """Raised inside a computation whose result nobody waits for any more."""


@dataclass(eq=False)
class Job:
    """One request to a worker. key: jobs with equal keys share a batch; None computes it alone. pictures: its share of a batch.
    on_close: called once, with whether the job was computed, when its request has been answered."""

    key: Hashable | None
    payload: Any
    pictures: int
    on_close: Callable[[bool], None] = lambda computed: None
    future: Future[Any] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False

    def abandon(self) -> None:
        """Drop the job: it is not started, and long computations stop at their next progress."""
        self._abandoned.set()
        self.future.cancel()

    def close(self) -> None:
        """End the job: its request has been answered, or is dropped. Later calls do nothing."""
        computed = self.future.done() and not self.future.cancelled()
        self.abandon()
        if not self._closed:
            self._closed = True
            self.on_close(computed)

    @property
    def abandoned(self) -> bool:
        return self._abandoned.is_set()

    def check(self, *_: object) -> None:
        """Raise Abandoned when nobody waits for the result; a progress callback."""
        if self.abandoned:
            raise Abandoned


Compute = Callable[[Sequence[Job]], Sequence[Any]]
"""Jobs of one key -> the result of each"""

Observe = Callable[[Sequence[Job], float], None]
"""Called after a batch with its jobs and the seconds it took"""


class Worker:
    """A thread that computes jobs. max_batch, wait, most: see `Settings`."""

    def __init__(self, name: str, compute: Compute, max_batch: int = 64, wait: float = 0.004,
                 most: int = 256, observe: Observe | None = None) -> None:  # fmt: skip
        self.compute, self.max_batch, self.wait, self.most, self.observe = compute, max_batch, wait, most, observe
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"limner-{name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    def waiting(self) -> int:
        """Return the number of jobs in the queue."""
        with self._changed:
            return sum(not job.abandoned for job in self._jobs)

    def submit(self, key: Hashable | None, payload: Any, pictures: int, on_close: Callable[[bool], None] | None = None) -> Job:
        """Queue a job. Raises Full."""
        job = Job(key, payload, pictures, on_close or (lambda computed: None))
        with self._changed:
            if self._closed or sum(not other.abandoned for other in self._jobs) >= self.most:
                raise Full
            self._jobs.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Refuse and drop all jobs, and end the thread after its batch."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.abandon()
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(10)

    def _run(self) -> None:
        while batch := self._take():
            started = time.perf_counter()
            results = self._results(batch)
            self._finish(batch, results, time.perf_counter() - started)

    def _results(self, batch: Sequence[Job]) -> Sequence[Any]:
        """Return the result of each job, or its error. After an error in a batch each job is computed alone: the cause may be
        one of them, which must not spoil the others."""
        try:
            return self.compute(batch)
        except Exception as error:
            if len(batch) > 1:
                return [result for job in batch for result in self._results([job])]
            if not isinstance(error, (ValueError, Abandoned)):
                log.exception("a request failed")
            return [error]

    def _finish(self, batch: Sequence[Job], results: Sequence[Any], seconds: float) -> None:
        if self.observe:
            self.observe(batch, seconds)
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _take(self) -> list[Job]:
        """Return the next batch, once there is one; an empty list when the worker is closed."""
        with self._changed:
            while True:
                self._jobs = deque(job for job in self._jobs if not job.abandoned)
                if self._closed:
                    return []
                if not self._jobs:
                    self._changed.wait()
                    continue
                first = self._jobs[0]
                batch, complete = self._compatible(first)
                remaining = first.arrived + self.wait - time.monotonic()
                if not complete and remaining > 0:
                    self._changed.wait(remaining)
                    continue
                chosen = set(map(id, batch))
                self._jobs = deque(job for job in self._jobs if id(job) not in chosen)
                started = [job for job in batch if job.future.set_running_or_notify_cancel()]
                if started:
                    return started

    def _compatible(self, first: Job) -> tuple[list[Job], bool]:
        """Return the jobs that share a batch with the first one, and whether there is a reason not to wait for more."""
        batch, total, others = [first], first.pictures, first.key is None
        for job in list(self._jobs)[1:]:
            if first.key is not None and job.key == first.key and total + job.pictures <= self.max_batch:
                batch.append(job)
                total += job.pictures
            else:
                others = True
        return batch, others or total >= self.max_batch

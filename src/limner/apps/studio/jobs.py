"""Work that takes seconds: in a thread of its own, one at a time, asked about by its id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limner.apps.web.registry import Registry

Progress = Callable[[int, int], None]
Work = Callable[[Progress], dict[str, Any]]  # progress -> the result, as JSON
MAX_JOBS = 64  # that are remembered


@dataclass
class Job:
    """One piece of work. error: a sentence, if it failed."""

    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    error: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> dict[str, Any]:
        if not self.ended.is_set():
            return {"state": "running", "done": self.done, "total": self.total}
        return {"state": "failed", "error": self.error} if self.result is None else {"state": "done", "result": self.result}


class Jobs:
    def __init__(self) -> None:
        self.registry: Registry[Job] = Registry("job", MAX_JOBS)
        self._turn = threading.Lock()

    def start(self, work: Work) -> str:
        """Start the work in a thread and return the job's id."""
        job = Job()
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return self.registry.add(job)

    def _run(self, job: Job, work: Work) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total

        try:
            with self._turn:
                job.result = work(progress)
        except ValueError as error:
            job.error = str(error)
        except (MemoryError, OSError, RuntimeError) as error:
            job.error = f"It failed: {error}."
        finally:
            job.ended.set()

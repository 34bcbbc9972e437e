"""What the APIs of a server share: its models, settings and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from limner.apps.serve.batching import Job
from limner.apps.serve.metrics import PICTURES, SECONDS, Gauge, Histogram, Metric
from limner.apps.serve.served import Editor, Served
from limner.apps.serve.settings import Settings
from limner.apps.web.errors import Refusal
from limner.apps.web.registry import Registry


class Service:
    """Models by id. editor_of: returns what edits pictures of a model, or None."""

    def __init__(self, settings: Settings, editor_of: Callable[[Any], Editor | None] = lambda model: None) -> None:
        self.settings, self.editor_of = settings, editor_of
        self.models: Registry[Served] = Registry("model")
        self.requests = Metric("limner_requests_total", "Requests by route and status.", ("route", "method", "status"))
        self.seconds = Histogram("limner_request_seconds", "Seconds from a request to the end of its answer.", ("route",), SECONDS)
        self.pictures = Metric("limner_pictures_total", "Pictures computed.", ("model",))
        self.batches = Histogram("limner_batch_pictures", "Pictures of a batch.", ("model",), PICTURES)
        self.batch_seconds = Histogram("limner_batch_seconds", "Seconds of a batch.", ("model",), SECONDS)
        self.queue = Gauge("limner_queue_requests", "Requests that wait.", ("model",), self._waiting)
        self.open_requests = 0
        self.opened = Gauge("limner_open_requests", "Requests that are being answered.", (), lambda: {(): self.open_requests})
        self.metrics: Sequence[Metric] = (
            self.requests, self.seconds, self.opened, self.queue, self.pictures, self.batches, self.batch_seconds
        )  # fmt: skip

    def add(self, model: Any, name: str) -> str:
        """Serve a model under a name; return its id."""
        holder: list[str] = [name]

        def observe(jobs: Sequence[Job], seconds: float) -> None:
            pictures = sum(job.pictures for job in jobs)
            self.pictures.add(holder[0], by=pictures)
            self.batches.observe(pictures, holder[0])
            self.batch_seconds.observe(seconds, holder[0])

        served = Served(name, model, self.settings, self.editor_of(model), observe)
        served.id = holder[0] = self.models.add(served, name)
        return served.id

    def choose(self, name: str | None, fits: Callable[[Served], bool]) -> Served:
        """Return the model of that id, or without a name the first one that fits. Raises Refusal."""
        if name is not None:
            try:
                return self.models.get(name)
            except Refusal as refusal:
                raise Refusal(f"{str(refusal)[:-1]}: choose one of {', '.join(self.models)}.", 404) from None
        for _, served in self.models.items():
            if fits(served):
                return served
        raise Refusal(f"No model here does this; the models are {', '.join(self.models)}.")

    def ready(self) -> bool:
        """Return whether all workers run."""
        return all(served.worker.alive for _, served in self.models.items())

    def close(self) -> None:
        """End all workers."""
        for _, served in self.models.items():
            served.worker.close()

    def _waiting(self) -> dict[tuple[str, ...], float]:
        return {(name,): served.worker.waiting() for name, served in self.models.items()}

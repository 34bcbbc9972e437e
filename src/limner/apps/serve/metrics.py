"""Counters, gauges and histograms in the text format of Prometheus, version 0.0.4.

Label values come from fixed sets (routes, models, statuses), so that requests cannot make the tables grow.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class Metric:
    """Numbers by the values of labels. kind: of Prometheus."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), kind: str = "counter") -> None:
        self.name, self.help, self.labels, self.kind = name, help, tuple(labels), kind
        self._lock = threading.Lock()
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count up."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def samples(self) -> list[tuple[str, str, float]]:
        """Return (suffix of the name, labels as text, value)."""
        with self._lock:
            return [("", text_of(self.labels, labels), value) for labels, value in self._values.items()]


class Gauge(Metric):
    """Numbers that are read when they are asked for."""

    def __init__(self, name: str, help: str, labels: Sequence[str], read: Callable[[], dict[Labels, float]]) -> None:
        super().__init__(name, help, labels, "gauge")
        self.read = read

    def samples(self) -> list[tuple[str, str, float]]:
        return [("", text_of(self.labels, labels), value) for labels, value in self.read().items()]


class Histogram(Metric):
    """Numbers of values up to each bound, their sum and their count."""

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, help, labels, "histogram")
        self.bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Add one value."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self.bounds) + 1))
            counts[bisect_left(self.bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def samples(self) -> list[tuple[str, str, float]]:
        found: list[tuple[str, str, float]] = []
        with self._lock:
            for labels, counts in self._counts.items():
                total = 0
                for bound, count in zip((*(f"{bound:g}" for bound in self.bounds), "+Inf"), counts, strict=True):
                    total += count
                    found.append(("_bucket", text_of((*self.labels, "le"), (*labels, bound)), total))
                found.append(("_sum", text_of(self.labels, labels), self._sums[labels]))
                found.append(("_count", text_of(self.labels, labels), total))
        return found


def text_of(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels as text, escaped as the format has it."""
    if not names:
        return ""
    escaped = (value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for value in values)
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True)) + "}"


def write(metrics: Sequence[Metric]) -> str:
    """Return all metrics as text."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{suffix}{labels} {value:.10g}" for suffix, labels, value in metric.samples()]
    return "\n".join(lines) + "\n"

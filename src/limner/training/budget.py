"""The budget of a run in images: decided at the start, and revised by the clock while the run is young.

A run of ten minutes is trained for a number of images, because every schedule is a function of images seen. The trial
before it says how many fit into the time, and may be wrong: the machine was busy, or is now. So the first rank compares
the clock with the trial at a few moments, all in the first fifth of the time, when the learning rates have not recorded_request to
fall. Every decision is written to the run folder before training goes on, and a resumed run finds it there: the weights
are a pure function of the command and of the recorded decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limner.core import schedule

MOMENTS = (0.02, 0.05, 0.1, 0.2)  # shares of the time at which the budget is revised


@dataclass(frozen=True)
class Decision:
    """From `at` images seen on, the budget is `images`."""

    at: int
    images: int
    seconds: float  # of training, when it was decided
    until: float | None = None  # begins a stretch of training that ends at this second; None with an `at` of its own: none does

    @staticmethod
    def read(entry: Mapping[str, Any]) -> Decision:
        """A decision from its JSON. Raises ValueError for what is none."""
        try:
            until = entry.get("until")
            found = Decision(int(entry["at"]), int(entry["images"]), float(entry["seconds"]), None if until is None else float(until))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("A decision about the budget cannot be read.") from error
        if found.at < 0 or found.images < 1 or not found.seconds >= 0:
            raise ValueError("A decision about the budget cannot be true.")
        return found


class Budget:
    """The budget at any number of images seen, as it was decided by then.

    decisions: those of before, the first at 0 images. costs: seconds an image in equal parts of a run, as the trial
    measured them (games that grow take longer at the end). record: called with every decision, the newest last, before
    it takes effect. left: seconds to keep free for what follows training.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        batch: int,
        costs: Sequence[float] = (1.0,),
        record: Callable[[list[dict[str, Any]]], None] = lambda entries: None,
    ) -> None:
        self.decisions, self.batch, self.costs, self.record = list(decisions), batch, list(costs), record
        self._mark: tuple[int, float] | None = None  # (images, seconds without hooks) where the window of the speed begins

    @staticmethod
    def fixed(images: int, batch: int) -> Budget:
        """A budget that nothing revises."""
        return Budget([Decision(0, images, 0.0)], batch)

    def at(self, seen: int) -> int:
        """The budget in images, as it was decided by `seen` images."""
        return next(d.images for d in reversed(self.decisions) if d.at <= seen)

    def entries(self) -> list[dict[str, Any]]:
        return [asdict(d) for d in self.decisions]

    @property
    def _stretch(self) -> tuple[float, float] | None:
        """(first second, last second) of the stretch of training that the newest decisions are of."""
        first = next(d for d in reversed(self.decisions) if d.until is not None or d.at == 0)
        return None if first.until is None else (first.seconds, first.until)

    @property
    def open(self) -> bool:
        """Whether moments are left at which the budget is revised; the same on every rank."""
        return self._next_moment() is not None

    def _next_moment(self) -> float | None:
        if self._stretch is None:
            return None
        start, end = self._stretch
        statistics_of = (start + share * (end - start) for share in MOMENTS)
        return next((m for m in statistics_of if m > self.decisions[-1].seconds), None)

    def revised(self, seen: int, seconds: float, callbacks: Sequence[float]) -> Decision | None:
        """The decision that is due at `seen` images, on the first rank; None when none is.

        seconds: of training so far. hooks: what each call of the hooks took in this process; they are due at
        `schedule.preview_milestones`, more often early, and are therefore counted apart from the images.
        """
        moment, stretch = self._next_moment(), self._stretch
        playing = seconds - sum(callbacks)
        if self._mark is None:
            self._mark = (seen, playing)
        if moment is None or stretch is None or seconds < moment or seen <= self._mark[0] or seen < self.decisions[-1].at:
            return None
        budget = self.at(seen)
        expected = self._cost(self._mark[0], seen, budget)
        slowness = (playing - self._mark[1]) / expected
        callback = sorted(callbacks)[len(callbacks) // 2] if callbacks else 0.0  # the first of all prepares what the others use
        images = self._affordable(seen, stretch[1] - seconds, slowness, callback)
        self._mark = (seen, playing)
        return Decision(seen, images, round(seconds, 3))

    def decide(self, decision: Decision) -> None:
        """Take a decision into effect."""
        self.decisions.append(decision)

    def _cost(self, first: int, last: int, budget: int) -> float:
        """Seconds that the images from `first` to `last` take in a run of `budget`, by the trial."""
        parts = len(self.costs)
        edges = [budget * i / parts for i in range(parts)] + [float("inf")]
        spans = zip(edges, edges[1:], strict=False)
        return sum(max(0.0, min(last, b) - max(first, a)) * c for (a, b), c in zip(spans, self.costs, strict=True))

    def _affordable(self, seen: int, seconds: float, slowness: float, callback: float) -> int:
        """The largest budget, in whole batches, whose images from `seen` on take `seconds`; one batch at least."""

        def takes(images: int) -> float:
            marks = sum(mark > seen for mark in schedule.preview_milestones(images))
            return slowness * self._cost(seen, images, images) + marks * callback

        low, high = seen // self.batch + 1, seen // self.batch + 2
        while takes(high * self.batch) < seconds:
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if takes(middle * self.batch) <= seconds else (low, middle)
        return low * self.batch

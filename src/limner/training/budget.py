"""The budget of a run in images: set at the start, and revised by the clock early in the run.

Every schedule is a function of images seen, so a run of ten minutes is trained for a number of images. The trial before it
estimates how many fit into the time, which may be wrong: the load of the machine may have changed. The first rank therefore
compares the clock with the trial at a few moments, all in the first fifth of the time, before the learning rates have started
to decay. Every decision is written to the run folder before training continues, and a resumed run reads it there: the weights
are a pure function of the command and of the recorded decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limner.core import schedule
from limner.methods.phase import Clock, PeriodicWork

MOMENTS = (0.02, 0.05, 0.1, 0.2)  # fractions of the time at which the budget is revised


@dataclass(frozen=True)
class Decision:
    """A decision that the budget is `images` from `at` images seen on."""

    at: int
    images: int
    seconds: float  # of training at the time of the decision
    until: float | None = None  # last second of a period of training that starts here; None: it starts no period with a time limit

    @staticmethod
    def read(entry: Mapping[str, Any]) -> Decision:
        """Return the decision in a JSON object. Raises ValueError when it is invalid."""
        try:
            until = entry["until"]
            found = Decision(int(entry["at"]), int(entry["images"]), float(entry["seconds"]), None if until is None else float(until))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("A decision about the budget cannot be read.") from error
        if found.at < 0 or found.images < 1 or not found.seconds >= 0:
            raise ValueError("A decision about the budget is impossible.")
        return found


class Budget:
    """The budget as a function of images seen, by the decisions so far.

    decisions: the first at 0 images. costs: seconds per image in equal parts of a run, as measured by the trial (networks that
    grow take longer at the end). record: called with all decisions, the newest last, before it takes effect.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        batch: int,
        costs: Sequence[float] = (1.0,),
        record: Callable[[list[dict[str, Any]]], None] = lambda entries: None,
    ) -> None:
        self.decisions, self.batch, self.costs, self.record = list(decisions), batch, list(costs), record
        self._window_start: tuple[int, float] | None = None  # (images, seconds without callbacks) where the speed window starts

    @staticmethod
    def fixed(images: int, batch: int) -> Budget:
        """Return a budget that is never revised."""
        return Budget([Decision(0, images, 0.0)], batch)

    def at(self, seen: int) -> int:
        """Return the budget in images that was in effect at `seen` images."""
        return next(d.images for d in reversed(self.decisions) if d.at <= seen)

    def entries(self) -> list[dict[str, Any]]:
        return [asdict(d) for d in self.decisions]

    @property
    def _period(self) -> tuple[float, float] | None:
        """Return (first second, last second) of the current period of training; None without a time limit."""
        first = next(d for d in reversed(self.decisions) if d.until is not None or d.at == 0)
        return None if first.until is None else (first.seconds, first.until)

    @property
    def open(self) -> bool:
        """Whether moments remain at which the budget is revised; the same on every rank."""
        return self._next_moment() is not None

    def _next_moment(self) -> float | None:
        if self._period is None:
            return None
        start, end = self._period
        moments = (start + fraction * (end - start) for fraction in MOMENTS)
        return next((m for m in moments if m > self.decisions[-1].seconds), None)

    def revised(
        self, seen: int, seconds: float, callbacks: Sequence[float], periodic: PeriodicWork | None = None
    ) -> Decision | None:
        """Return the decision that is due at `seen` images, on the first rank; None if none is.

        seconds: of training so far. callbacks: seconds of each call of the callbacks in this process; they are due at
        `schedule.preview_milestones`, which are denser early, and are therefore counted separately from the images. periodic:
        work of the method that is counted separately too.
        """
        moment, period = self._next_moment(), self._period
        training = seconds - sum(callbacks) - (periodic.seconds if periodic else 0.0)
        if self._window_start is None:
            self._window_start = (seen, training)
        if moment is None or period is None or seconds < moment or seen <= self._window_start[0] or seen < self.decisions[-1].at:
            return None
        budget = self.at(seen)
        expected = self._cost(self._window_start[0], seen, budget)
        slowness = (training - self._window_start[1]) / expected
        callback = sorted(callbacks)[len(callbacks) // 2] if callbacks else 0.0  # the median: the first call includes set-up
        images = self.affordable(seen, period[1] - seconds, slowness, callback, periodic)
        self._window_start = (seen, training)
        return Decision(seen, images, round(seconds, 3))

    def decide(self, decision: Decision) -> None:
        """Put a decision into effect."""
        self.decisions.append(decision)

    def _cost(self, first: int, last: int, budget: int) -> float:
        """Return the seconds that the images from `first` to `last` take in a run of `budget`, by the trial."""
        parts = len(self.costs)
        edges = [budget * i / parts for i in range(parts)] + [float("inf")]
        spans = zip(edges, edges[1:], strict=False)
        return sum(max(0.0, min(last, b) - max(first, a)) * c for (a, b), c in zip(spans, self.costs, strict=True))

    def affordable(
        self, seen: int, seconds: float, slowness: float = 1.0, callback: float = 0.0, periodic: PeriodicWork | None = None
    ) -> int:
        """Return the largest budget, in whole batches, whose images from `seen` on take at most `seconds`; at least one batch.

        slowness: seconds per image relative to the trial's. callback: seconds of each call of the callbacks. periodic:
        work of the method besides its iterations.
        """
        cost = slowness * sum(self.costs) / len(self.costs)

        def takes(images: int) -> float:
            calls = schedule.milestone_batches(images, self.batch, seen)
            others = periodic.remaining(Clock(seen, images, self.batch), cost) if periodic else 0.0
            return slowness * self._cost(seen, images, images) + calls * callback + others

        low, high = seen // self.batch + 1, seen // self.batch + 2
        while takes(high * self.batch) < seconds:
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if takes(middle * self.batch) <= seconds else (low, middle)
        return low * self.batch

"""The expected seconds until a request is answered, by Little's law (Little 1961): those before it, over what is done a second.

What is done a second is measured over the last seconds in which there was something to do, from the arrival of a request to
the end of its answer. So it covers not only the network but all that shares its processor: other requests, the encoding of
pictures, other programs. A bound on this time holds on any machine and for any model, which a bound on the number cannot.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

MEMORY = 2.0  # seconds of work after which a measurement counts 1/e


class Pace:
    """Seconds a unit of work, and the work at hand. The unit is the caller's. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._last = clock()
        self._open, self._requests = 0.0, 0
        self._busy = self._done = 0.0  # seconds with something to do, and the work done in them, both fading

    def expected(self, work: float) -> float:
        """Return the seconds until a request with that work, arriving now, is answered; 0 while nothing is known or to do."""
        with self._lock:
            self._tick()
            return (self._open + work) * self._busy / self._done if self._requests and self._done else 0.0

    def begin(self, work: float) -> None:
        """Note the arrival of a request."""
        with self._lock:
            self._tick()
            self._open += work
            self._requests += 1

    def end(self, work: float, answered: bool = True) -> None:
        """Note the end of a request. answered: False for one that was dropped, whose work was not done."""
        with self._lock:
            self._tick()
            self._requests -= 1
            self._open = self._open - work if self._requests else 0.0
            if answered:
                self._done += work

    def _tick(self) -> None:
        now = self._clock()
        if self._requests:
            passed = now - self._last
            fading = math.exp(-passed / MEMORY)
            self._busy, self._done = self._busy * fading + passed, self._done * fading
        self._last = now

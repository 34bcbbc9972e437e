"""A callback that stops a run on its way."""

from __future__ import annotations

import os
import signal

from limner.methods.phase import Clock
from limner.training.loop import View


class StopAt:
    """A callback that sends this process SIGTERM before the end of a run, as a scheduler would."""

    def __init__(self, seen: int) -> None:
        self.seen = seen

    def due(self, clock: Clock) -> bool:
        return clock.seen == self.seen < clock.budget

    def __call__(self, view: View) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

"""Reasons for a run to stop early: a pause, signals, and losses that are not finite."""

from __future__ import annotations

import math
import signal
import threading
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Pause:
    """When a run ends before its budget. at: images seen, in whole batches; 0 does not end it. deadline: of `time.monotonic()`."""

    at: int = 0
    deadline: float = math.inf


NO_PAUSE = Pause()


class Interrupt:
    """Requests a stop after the current iteration on Ctrl-C or SIGTERM; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._old: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


class Diverged(ValueError):
    """Raised when a loss was not finite for the second time. The message says what to change."""

    def __init__(self, player: str, seen: int) -> None:
        super().__init__(
            f"Training diverged: the {player}'s loss was not finite again after {seen:,} images, at half the learning "
            "rates. The run folder holds the last good state; train into a new folder with lower learning rates or a "
            "stronger penalty."
        )

"""What stops a run from harming itself: signals that ask it to end, and losses that are no numbers."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """Ctrl-C and SIGTERM become a wish that the loop grants after the iteration at hand; a second Ctrl-C is final."""

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
    """Training met a loss that is no number twice. The sentence says what to change."""

    def __init__(self, player: str, seen: int) -> None:
        super().__init__(
            f"Training diverged: the {player}'s loss was not finite again after {seen:,} images, at half the learning "
            "rates. The run folder holds the last good state; train into a new folder with lower learning rates or a "
            "stronger penalty."
        )

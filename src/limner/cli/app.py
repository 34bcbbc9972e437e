"""The application that verbs register with, and how it speaks to people."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from cyclopts import App

import limner
from limner.core.text import printable

STARTED = time.monotonic()  # of the command, nearly: what is heavy is imported later

app = App(
    name="limner",
    help="Turn a folder of pictures into an image generator, trained on the machine you have.",
    version=limner.__version__,
    help_format="plaintext",
)


def tell(sentence: str) -> None:
    """Say it to the person; of several ranks only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(map(printable, sentence.split("\n"))), file=sys.stderr, flush=True)


class Progress:
    """A bar for reading pictures, shown when it takes long enough to be worth it, and on a terminal only."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._update

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def _update(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.verb, total=total)
            self.bar.start()
        self.bar.update(self.task, completed=done, total=total)
        if done >= total:
            self.bar.stop()
            self.bar = None  # what comes next has a bar of its own

"""The application that verbs register with, and how it speaks to people."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclopts import App

import limner
from limner.core.text import printable, sentence

STARTED = time.monotonic()  # of the command, nearly: what is heavy is imported later
LEAST_WIDTH = 40  # columns; folded into fewer, help takes minutes, and into one it never ends

app = App(
    name="limner",
    help="Turn a folder of pictures into an image generator, trained on the machine you have.",
    version=limner.__version__,
    help_format="plaintext",
)


def tell(text: str) -> None:
    """Say a sentence to the person; of several ranks only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(sentence(text), file=sys.stderr, flush=True)


def widen() -> None:
    """Let tables and help be as wide as they can be folded to, whatever the terminal or COLUMNS says."""
    if shutil.get_terminal_size().columns < LEAST_WIDTH:
        os.environ["COLUMNS"] = str(LEAST_WIDTH)


def print_line(text: str) -> None:
    """Print what a verb did, as one line."""
    print(sentence(text))


def show_table(renderable: Any) -> None:
    """Print a table. What stands in it may come from a stranger's files: of its text only what is printable is written."""
    from rich.console import Console
    from rich.segment import Segment

    class Printed(Console):
        def render(self, *arguments: Any, **more: Any) -> Any:
            for segment in super().render(*arguments, **more):
                safe = segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)
                yield safe

    Printed().print(renderable)


def open_model(run: Path, device: str, kind: Any, verb: str) -> Any:
    """The model of a run folder, for a verb that needs one of the class `kind`. Raises ValueError when it holds another."""
    from limner.core.device import configure_runtime
    from limner.families.load import load_kind

    configure_runtime()
    return load_kind(run, device, kind, verb)


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

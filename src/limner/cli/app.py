"""The application that commands register with, and its output to the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

import limner
from limner.core.text import printable, sentence

STARTED = time.monotonic()  # about the start of the command: heavy imports come later
MIN_WIDTH = 40  # columns; Rich needs minutes to wrap help to fewer, and never finishes with one

app = App(
    name="limner",
    help="Turn a folder of pictures into an image generator, trained on the machine you have.",
    version=limner.__version__,
    help_format="plaintext",
)

Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]


def tell(text: str) -> None:
    """Print a sentence to stderr, on rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        print(sentence(text), file=sys.stderr, flush=True)


def widen() -> None:
    """Set COLUMNS to at least MIN_WIDTH for tables and help, whatever the terminal's size."""
    if shutil.get_terminal_size().columns < MIN_WIDTH:
        os.environ["COLUMNS"] = str(MIN_WIDTH)


def print_line(text: str) -> None:
    """Print the result of a command, as one line."""
    print(sentence(text))


def show_table(renderable: Any) -> None:
    """Print a table. Its text may come from untrusted files: non-printable characters are removed."""
    from rich.console import Console
    from rich.segment import Segment

    class Printed(Console):
        def render(self, *arguments: Any, **more: Any) -> Any:
            for segment in super().render(*arguments, **more):
                safe = segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)
                yield safe

    Printed().print(renderable)


def open_model(run: Path, device: str, kind: Any, verb: str) -> Any:
    """Return the model of a run folder, for a command that needs the class `kind`. Raises ValueError for another kind."""
    from limner.core.device import configure_runtime
    from limner.families.load import load_kind

    configure_runtime()
    return load_kind(run, device, kind, verb)


class Progress:
    """A progress bar, on a terminal only."""

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
            self.bar = None  # the next phase has its own bar

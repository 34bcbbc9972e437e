"""Output of a run: `log.jsonl` for programs, one live line on the console, and TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.core.artifact import images_seen, read_lines
from limner.core.files import write_error, write_whole
from limner.core.schema import Mismatch
from limner.core.text import sentence


class Means:
    """Means of named scalar tensors, accumulated on the device without synchronization."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means since the last call."""
        names = list(self._sums)
        values = torch.stack([self._sums[n] / self._counts[n] for n in names]).tolist() if names else []
        self._sums, self._counts = {}, {}
        return {name: float(f"{value:.6g}") for name, value in zip(names, values, strict=True)}


class LogFile:
    """`log.jsonl`, one line per interval. After a kill, lines beyond the checkpoint are removed, so that none is written twice."""

    def __init__(self, path: Path, seen: int) -> None:
        self.path = path
        self.cut(seen)

    def cut(self, seen: int) -> None:
        """Remove the lines beyond `seen` images."""
        lines = read_lines(self.path)
        try:
            kept = [line for line in lines if (at := images_seen(line)) is not None and at <= seen]
        except Mismatch as error:
            raise ValueError(f"{self.path} is damaged: {error}. Remove it to continue without it.") from error
        if lines:
            write_whole(self.path, "".join(line + "\n" for line in kept))

    def write(self, entry: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise write_error(error, self.path) from error


def duration(seconds: float) -> str:
    """Format seconds as `45 s`, `3 min 05 s` or `2 h 10 min`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


WINDOW = 20.0  # seconds; the displayed speed is that of the last one to two windows


class Console:
    """The console output of a run: a bar on a terminal, a line every 15 seconds elsewhere, nothing when quiet."""

    def __init__(self, budget: int, seen: int, quiet: bool = False) -> None:
        self.budget, self.quiet = budget, quiet
        self.recent = deque([(time.monotonic(), seen)], maxlen=2)  # starts of the speed windows
        self.started, self.last = time.monotonic(), 0.0
        self.bar: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = [TextColumn("[bold]{task.percentage:>3.0f}%"), BarColumn(12), TextColumn("{task.fields[line]}")]
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("", total=budget, completed=seen, line="warming up")
            self.bar.start()

    def message(self, text: str) -> None:
        """Print one sentence above the bar."""
        if not self.quiet:
            if self.bar:
                self.bar.console.print(sentence(text), highlight=False, markup=False)
            else:
                print(sentence(text), file=sys.stderr, flush=True)

    def revise(self, budget: int) -> None:
        """Change the budget; a message is printed when it differs by more than a tenth."""
        if abs(budget / self.budget - 1) > 0.1:
            self.message(f"The budget is now {budget:,} images instead of {self.budget:,}, by the speed so far.")
        self.budget = budget
        if self.bar:
            self.bar.update(self.task, total=budget)

    def update(self, seen: int, terms: Mapping[str, float]) -> None:
        """Show images seen, images/s, time left and the latest means."""
        if self.quiet:
            return
        now = time.monotonic()
        spent = now - self.started
        (then, before), *_ = self.recent
        speed = (seen - before) / max(1e-9, now - then)
        if now - self.recent[-1][0] > WINDOW:  # drops the slow first iterations and past loads of the machine
            self.recent.append((now, seen))
        left = duration((self.budget - seen) / speed) if speed > 0 else "?"
        figures = "  ".join(f"{name} {value:.3g}" for name, value in terms.items())
        line = f"{seen:,}/{self.budget:,} images  {speed:,.0f}/s  {left} left  {figures}"
        if self.bar:
            self.bar.update(self.task, completed=seen, line=line)
        elif spent - self.last >= 15:
            self.last = spent
            print(f"{100 * seen // self.budget:3d}%  {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


class TensorBoardWriter:
    """Curves and image grids for TensorBoard, if the extra is installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception as error:  # importing an optional third-party package may fail in any way
            raise ValueError(
                "TensorBoard is not installed: `pip install limner[tensorboard]`, or leave out --tensorboard."
            ) from error
        self.writer = SummaryWriter(str(folder))

    def write(self, seen: int, terms: Mapping[str, float]) -> None:
        for name, value in terms.items():
            self.writer.add_scalar(name, value, seen)

    def picture(self, seen: int, picture: Any) -> None:
        self.writer.add_image("samples", picture, seen)

    def close(self) -> None:
        self.writer.close()

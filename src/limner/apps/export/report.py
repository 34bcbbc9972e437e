"""What an export wrote, and what was measured before it was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limner.core.text import shortened


@dataclass(frozen=True)
class Report:
    """The result of an export.

    path: the file or folder. size: its bytes. error: largest difference of an output from PyTorch's, of pixels in [0,1] and of other
    numbers relative to the largest of them; NaN if the exporter states it elsewhere. notes: further sentences for people. sentence: in
    place of the default one.
    """

    path: Path
    size: int
    error: float
    notes: tuple[str, ...] = ()
    sentence: str = ""

    def __str__(self) -> str:
        if self.sentence:
            return self.sentence
        return f"{shortened(self.path)} has {megabytes(self.size)} and differs from PyTorch by at most {self.error:.1g}."


def megabytes(size: int) -> str:
    """`1.2 MB` of 1,000,000 bytes each, or `12.3 kB` below one."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"

"""Extensions by installed packages, found by their entry points; nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One entry point: its name, and how to load what it names."""

    point: EntryPoint

    @property
    def name(self) -> str:
        return self.point.name

    def load(self) -> Any:
        """The object. Raises ValueError when its package is broken."""
        try:
            return self.point.load()
        except Exception as error:  # a package of strangers may fail in any way
            package = self.point.dist.name if self.point.dist else "a package"
            raise ValueError(
                f"{package} adds {self.name!r} to Limner, which cannot be loaded ({type(error).__name__}: {error}): mend or "
                "uninstall it."
            ) from error


@cache
def entries(group: str) -> Sequence[Entry]:
    """The entry points of a group ("limner.families", "limner.architectures", "limner.objectives", "limner.verbs")."""
    return [Entry(point) for point in sorted(entry_points(group=group), key=lambda point: point.name)]


def entry(group: str, name: str) -> Entry | None:
    """The entry point of a name; None where no package adds it."""
    return next((found for found in entries(group) if found.name == name), None)

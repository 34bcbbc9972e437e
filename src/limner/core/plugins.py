"""Extensions by installed packages, found by their entry points; nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One entry point: its name, and how to load what it names."""

    point: EntryPoint

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def package(self) -> str:
        return self.point.dist.name if self.point.dist else "a package"

    @property
    def summary(self) -> str:
        """The package's description in one line."""
        return str((self.point.dist.metadata["Summary"] if self.point.dist else "") or "")

    def load(self, kind: type[T]) -> T:
        """The object, an instance of `kind`. Raises ValueError when it is none, and when its package is broken."""
        try:
            found = self.point.load()
        except Exception as error:  # any package may be installed, and fail in any way
            raise ValueError(
                f"{self.package} adds {self.name!r} to Limner, which cannot be loaded ({type(error).__name__}: {error}): "
                "fix or uninstall it."
            ) from error
        if not isinstance(found, kind):
            raise ValueError(
                f"{self.package} adds {self.name!r} to Limner, whose type is {type(found).__name__} and must be "
                f"{kind.__name__}: fix or uninstall it."
            )
        return found


@cache
def entries(group: str) -> Sequence[Entry]:
    """The entry points of a group ("limner.families", "limner.architectures", "limner.objectives", "limner.verbs")."""
    return [Entry(point) for point in sorted(entry_points(group=group), key=lambda point: point.name)]


def entry(group: str, name: str) -> Entry | None:
    """The entry point of a name; None where no package adds it."""
    return next((found for found in entries(group) if found.name == name), None)

"""The data options of a command: which pictures a run is trained on, and how they are brought to one shape."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from limner.data.layout import ClassesFrom

PLACES = ("data", "second", "labels", "captions")  # fields that hold paths


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """The data options of a command.

    data, second: a folder, zip, IDX file, .npy/.npz, array or the name of a sample; translators take two, or pairs in one.
    size: side or (height, width) in pixels; None: the pictures' own if most share one of at most 64, otherwise 64. fit: crop,
    pad or stretch. channels: auto, 1, 3 or 4. background: color behind transparent pictures, and of padding. labels: a CSV or
    JSON file of classes. captions: a CSV or JSON Lines file of captions, or "names" for the names of the files. classes_from:
    which folders are classes. halves: each picture of a translator's set has two sides.
    """

    data: Any = None
    second: Any = None
    size: int | tuple[int, int] | None = None
    fit: str = "crop"
    channels: str = "auto"
    background: str = "white"
    labels: Path | None = None
    captions: str | None = None
    drop_duplicates: bool = False
    unconditional: bool = False
    classes_from: ClassesFrom = "auto"
    halves: bool = False

    def changed(self) -> list[str]:
        """Return the names of the fields that differ from their defaults, in order."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = (str, bool, int, tuple)  # types with a plain comparison: data may be an array
        return [f.name for f in fields(self) if not (
            given[f.name] is f.default or (isinstance(given[f.name], plain) and given[f.name] == f.default)
        )]  # fmt: skip

    def shape(self) -> dict[str, Any]:
        """Return the options that bring pictures to one shape, as keywords of `data.prepare`."""
        return {"size": self.size, "fit": self.fit, "channels": self.channels, "background": self.background}

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise ValueError if one of the fields was given: its option has no meaning here, for the reason `why`."""
        if wrong := next((name for name in self.changed() if name in names), None):
            raise ValueError(f"--{wrong.replace('_', '-')} has no meaning {why}: leave it out.")

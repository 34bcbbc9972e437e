"""Flags of how pictures are read, which several commands share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from limner.cli.flags import parse_size


def _help(text: str) -> Parameter:
    return Parameter(help=text)


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How pictures are found and brought to one shape, as `data.request.DataRequest` describes it."""

    size: Annotated[str | None, _help("Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).")] = None
    fit: Annotated[Literal["crop", "pad", "stretch"], _help("How pictures of another aspect ratio are brought to the size.")] = "crop"
    channels: Annotated[
        Literal["auto", "1", "3", "4"], _help("1 gray, 3 RGB, 4 RGBA; auto takes the channels of the pictures.")
    ] = "auto"
    background: Annotated[str, _help("Color behind transparent pictures, and of the bars of --fit pad.")] = "white"
    labels: Annotated[Path | None, _help("A CSV or JSON file that names each picture's class.")] = None
    classes_from: Annotated[
        Literal["auto", "parent", "top"],
        _help(
            "Which folders are classes: those that directly hold pictures (parent), the outermost (top), or auto, which first "
            "recognizes the splits train, val and test; a training holds one out."
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(ReadingFlags):
    """How pictures are read for a training."""

    captions: Annotated[
        str | None,
        _help(
            'For text2image: a CSV or JSON Lines file with the columns file and caption, or "names" for the names of the files '
            "(default: a captions.csv or captions.jsonl among the pictures, else x.txt beside x.png, else the names)."
        ),
    ] = None
    drop_duplicates: Annotated[bool, _help("Train on one picture of each group of identical ones.")] = False
    unconditional: Annotated[bool, _help("Ignore the classes; auto may sort the pictures into groups then.")] = False
    halves: Annotated[
        bool,
        _help(
            "For translators: each picture of the one set holds two sides, left and right, even if it is not twice as wide as tall."
        ),
    ] = False


FLAT = Parameter(name="*")  # the flags of a group without its name
Reading = Annotated[ReadingFlags | None, FLAT]
TrainingReading = Annotated[TrainingFlags | None, FLAT]


def keywords(flags: ReadingFlags) -> dict[str, Any]:
    """Return the values of flags as fields of `data.request.DataRequest`. Raises ValueError for a size that is none."""
    return {f.name: getattr(flags, f.name) for f in fields(flags)} | {"size": parse_size(flags.size)}

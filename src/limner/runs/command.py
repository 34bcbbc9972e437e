"""The command of a run, stored in the part of its folder that is not shared, so that `--resume` needs only the folder.

`checkpoint/command.json` holds the paths of the pictures on this machine and the options; neither `limner.json` nor the model
card contains any of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.core.files import write_whole
from limner.data.request import PLACES, DataRequest
from limner.runs.options import Options

FILE = "checkpoint/command.json"  # in the run folder
BESIDE_RESUME = ("quiet", "device", "ranks")  # options that may be given with --resume
NOT_KEPT = ("out", "quiet")  # options of a place or a single start


def command_of(request: DataRequest, recipe: Any, options: Options, changes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a command of `train` as JSON; None if it cannot be represented (arrays in memory, a recipe object)."""
    data = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    if not all(isinstance(data[name], str | Path | None) for name in PLACES) or not isinstance(recipe, str):
        return None
    data |= {name: _place(data[name]) for name in PLACES}
    written = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in NOT_KEPT}
    try:
        return dict(json.loads(json.dumps({"data": data, "recipe": recipe, "options": written, "changes": dict(changes)})))
    except TypeError:  # a value without a JSON representation
        return None


def _place(path: str | Path | None) -> str | None:
    """Return the absolute path; the name of an embedded sample unchanged."""
    if path is None:
        return None
    found = Path(path).expanduser()
    return str(found.absolute()) if found.exists() else str(path)


def keep(folder: Path, command: Mapping[str, Any]) -> None:
    write_whole(folder / FILE, json.dumps(command, indent=1) + "\n")


def read(folder: Path, options: Options) -> tuple[DataRequest, str, Options, dict[str, Any]]:
    """Return the data, recipe, options and changes that resume the run in a folder. options: those given with --resume.

    Raises ValueError for a folder without a run, for other options, and for a run whose command was not stored.
    """
    default = Options()
    for f in dataclasses.fields(options):
        if f.name not in BESIDE_RESUME and getattr(options, f.name) != getattr(default, f.name):
            flag = "--" + f.name.replace("_", "-")
            raise ValueError(f"--resume takes everything from the run, so {flag} has no meaning: leave it out (--more trains longer).")
    path = folder / FILE
    try:
        if not folder.is_dir():
            raise ValueError(f"There is no folder {folder}: give the folder of a run to --resume.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if (folder / "run.json").exists():
            raise ValueError(
                f"{folder} cannot be resumed by its folder, since the paths of its pictures are not stored (arrays in memory, or a "
                "recipe made in Python): repeat the call it was started with."
            ) from error
        raise ValueError(f"{folder} is not the folder of a run that `limner train` started: give one to --resume.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: give the command that the run was started with.") from error
    try:
        return parse(json.loads(text), dataclasses.replace(options, out=folder))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: give the command that the run was started with.") from error


def parse(command: Mapping[str, Any], options: Options) -> tuple[DataRequest, str, Options, dict[str, Any]]:
    """Return the data, recipe, options and changes of a command as `command_of` writes it. options: the folder, and those that may be
    given with --resume. Raises an error of any kind for anything else."""
    data = {f.name: command["data"][f.name] for f in dataclasses.fields(DataRequest)}
    kept = {f.name: command["options"][f.name] for f in dataclasses.fields(options) if f.name not in NOT_KEPT}
    if isinstance(data["size"], list):
        data["size"] = tuple(data["size"])
    data["labels"] = None if data["labels"] is None else Path(data["labels"])
    given = {name: value for name in BESIDE_RESUME if (value := getattr(options, name)) != getattr(Options(), name)}
    again = Options(**{**kept, "out": options.out, **given})
    return DataRequest(**data), str(command["recipe"]), again, dict(command["changes"])

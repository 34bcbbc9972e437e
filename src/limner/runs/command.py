"""The command of a run, kept in the part of its folder that is not shared, so that a run can be resumed by its folder.

`checkpoint/command.json` holds where the pictures lie on this machine and what was asked for; nothing of it stands in
`limner.json` or the model card.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.core.files import write_whole

FILE = "checkpoint/command.json"  # in the run folder
DATA = ("data", "second", "labels")  # paths
SHAPE = ("recipe", "size", "fit", "channels", "background", "drop_duplicates", "unconditional", "classes_from", "halves")
BESIDE_RESUME = ("quiet", "device")  # options that may be given with --resume


def command_of(options: Any, changes: Mapping[str, Any], **given: Any) -> dict[str, Any] | None:
    """What `train` was called with (options: an `Options`), as JSON; None where it cannot be written down (arrays in memory, a recipe object)."""
    places = {name: given[name] for name in DATA}
    if not all(p is None or isinstance(p, str | Path) for p in places.values()) or not isinstance(given["recipe"], str):
        return None
    written = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in ("out", "quiet")}
    command = {
        **{name: _place(p) for name, p in places.items()},
        **{name: given[name] for name in SHAPE},
        "options": written,
        "changes": dict(changes),
    }
    try:
        return dict(json.loads(json.dumps(command)))
    except TypeError:  # an option of a kind that only Python knows
        return None


def _place(path: str | Path | None) -> str | None:
    """The path from anywhere; the name of an embedded sample as it is."""
    if path is None:
        return None
    found = Path(path).expanduser()
    return str(found.absolute()) if found.exists() else str(path)


def keep(folder: Path, command: Mapping[str, Any]) -> None:
    write_whole(folder / FILE, json.dumps(command, indent=1) + "\n")


def read(folder: Path, options: Any) -> dict[str, Any]:
    """The keywords of `train` that resume the run in a folder. options: an `Options`, of which some may be given anew.

    Raises ValueError for a folder without a run, for other options, and for a run whose command could not be kept.
    """
    usual = type(options)()
    for f in dataclasses.fields(options):
        if f.name not in BESIDE_RESUME and getattr(options, f.name) != getattr(usual, f.name):
            flag = "--" + f.name.replace("_", "-")
            raise ValueError(f"--resume takes everything from the run, so {flag} means nothing: leave it out (--more trains longer).")
    path = folder / FILE
    try:
        if not folder.is_dir():
            raise ValueError(f"There is no folder {folder}: give the folder of a run to --resume.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if (folder / "run.json").exists():
            raise ValueError(
                f"{folder} cannot be resumed by its folder, for it does not say which pictures it was trained on (arrays in memory, "
                "or a recipe made in Python): give the call it was started with."
            ) from error
        raise ValueError(f"{folder} is not the folder of a run that `limner train` began: give one to --resume.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: give the command that the run was started with.") from error
    try:
        command = json.loads(text)
        found = {name: command[name] for name in (*DATA, *SHAPE)}
        kept = {f.name: command["options"][f.name] for f in dataclasses.fields(options) if f.name not in ("out", "quiet")}
        found["changes"] = dict(command["changes"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: give the command that the run was started with.") from error
    if isinstance(found["size"], list):
        found["size"] = tuple(found["size"])
    found["labels"] = None if found["labels"] is None else Path(found["labels"])
    new = {} if options.device == usual.device else {"device": options.device}
    return found | {"options": type(options)(**{**kept, "out": folder, "quiet": options.quiet, **new})}

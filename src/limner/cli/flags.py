"""Command-line flags from dataclasses: an option is defined once, as a field (`core.options`)."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from limner.core.options import options


def with_flags(function: Callable[..., Any], options: type, choices: type) -> Callable[..., Any]:
    """Annotate the parameters `options` and `choices` of `function` with dataclasses whose fields become flags."""
    star = Parameter(name="*")
    function.__annotations__ |= {"options": Annotated[options | None, star], "choices": Annotated[choices | None, star]}
    return function


def flags(cls: type, values: Any = None, unset: bool = False) -> type:
    """Return a dataclass like `cls` with the instance `values` as defaults and the fields' help texts.

    unset: every default is None, for recipes that are chosen later.
    """
    values = values if values is not None else cls()
    fields: list[Any] = []
    for name, about, written in options(cls):
        value = getattr(values, name)
        if dataclasses.is_dataclass(value):
            part = flags(type(value), value, unset)
            fields.append((name, part, dataclasses.field(default_factory=part)))
        else:
            kind = typing.Optional[written] if unset else written  # noqa: UP045 - computed at runtime
            annotated = Annotated[kind, Parameter(help=about.text)]  # type: ignore[valid-type]
            fields.append((name, annotated, dataclasses.field(default=None if unset else value)))
    made = dataclasses.make_dataclass(cls.__name__, fields, kw_only=True, frozen=True)
    made.__module__ = __name__  # cyclopts treats a class of the module `types` as a builtin without fields
    return made


def check_groups(cls: type, arguments: Sequence[str], prefix: str = "--") -> None:
    """Raises ValueError for a group of options that is given a value itself: `--generator 5` for `--generator.width 5`."""
    for name, _, _ in options(cls):
        inner = getattr(cls(), name)
        if not dataclasses.is_dataclass(inner):
            continue
        flag = prefix + name.replace("_", "-")
        if given := next((a for a in arguments if a.partition("=")[0].replace("_", "-") == flag), None):
            first = next(options(type(inner)))[0].replace("_", "-")
            raise ValueError(f"{given.partition('=')[0]} is a group of options and takes no value: give one of them, such as {flag}.{first}.")
        check_groups(type(inner), arguments, f"{flag}.")


def changes(choices: Any, defaults: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values set by the user that differ from a recipe's defaults, by dotted name; all set values without defaults."""
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(choices):
        value, default = getattr(choices, f.name), getattr(defaults, f.name, None)
        if dataclasses.is_dataclass(value):
            changed |= changes(value, default, f"{prefix}{f.name}.")
        elif value is not None and value != default:
            changed[f"{prefix}{f.name}"] = value
    return changed


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Parse `64` -> 64, `48x64` (height x width) -> (48, 64). Raises ValueError for anything else."""
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"The size {text!r} is not understood: give 64, or height and width as 48x64.")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))

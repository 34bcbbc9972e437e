"""Error messages for commands that cannot be parsed."""

from __future__ import annotations

import typing
from types import NoneType
from typing import Any

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnusedCliTokensError

EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}


def parse_error_message(error: CycloptsError) -> str:
    """Return one sentence on a command that could not be parsed."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        tokens = ", ".join(map(repr, error.unused_tokens))
        return f"More arguments were given than the command takes: leave out {tokens}, or give the option it belongs to."
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = _shown(error.keyword or error.argument.name)
        missing = f"{name} needs a value" if error.keyword else f"{name} is missing"
        return f"{missing}: `{' '.join(('limner', *(error.command_chain or ())))} --help` shows what the command takes."
    if isinstance(error, CoercionError) and error.token is not None:
        kind = _inner_type(error.target_type)
        if kind in EXPECTED:
            name = _shown(error.token.keyword or (error.argument.name if error.argument is not None else "the option"))
            return f"The value {error.token.value!r} of {name} is not understood: give {EXPECTED[kind]}."
    first = str(error).strip().splitlines()
    return first[0] if first else "The command is not understood: `limner --help` lists all commands."


def _shown(name: str) -> str:
    """Return the name of an argument as help shows it: one without dashes is in capitals."""
    return name if name.startswith("-") or " " in name else name.upper()


def _inner_type(kind: Any) -> Any:
    """Return the single type inside Annotated and Optional."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    parts = [part for part in typing.get_args(kind) if part is not NoneType]
    return parts[0] if len(parts) == 1 and NoneType in typing.get_args(kind) else kind

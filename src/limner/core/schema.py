"""Validation of JSON documents: a schema is a TypedDict whose fields state type and bounds.

    class Facts(TypedDict):
        count: Count                       # an int in [0, 1e15]
        labels: NotRequired[list[Text]]    # may be missing

`read` returns the validated document unchanged. Keys that the TypedDict does not name are kept: a later version may write
more.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, is_typeddict

from limner.core.files import read_bytes

MAX_JSON_BYTES = 64 << 20  # bytes of a JSON document; one with 100,000 class names has 2 million


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a number. NaN and infinities are out of range."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, value: Any) -> str:
        try:
            if math.isfinite(value) and self.low <= value <= self.high:
                return ""
        except OverflowError:  # an integer beyond the range of floats
            pass
        bounds = f"{self.low:g} or more" if self.high == math.inf else f"{self.low:g} to {self.high:g}"
        return "a finite number" if self.low == -math.inf else bounds


Text = str
Count = Annotated[int, Range(0, 1e15)]
Positive = Annotated[int, Range(1, 1e15)]
Amount = Annotated[float, Range(0)]  # finite
Factor = Annotated[float, Range()]

_NAMES: Mapping[Any, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "an object",
                             list: "a list", type(None): "null"}  # fmt: skip


class Mismatch(ValueError):
    """A value that its schema forbids. The message names the field."""


def read(path: Path, form: Any, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read the JSON document at `path` and validate it against the TypedDict `form`.

    Raises FileNotFoundError when it does not exist, and ValueError naming the file and the invalid field.
    """
    text = read_bytes(path, max_bytes)
    try:
        return conform(parse(text), form)
    except Mismatch as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def parse(text: bytes | str) -> Any:
    """Parse UTF-8 JSON. Raises Mismatch for invalid JSON and for nesting beyond Python's recursion limit."""
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Mismatch("it cannot be read as JSON") from error


def conform(value: Any, form: Any, field: str = "") -> Any:
    """Validate `value` against the schema `form` and return it. Raises Mismatch naming the first invalid field.

    form: str, bool, int, float (which accepts integers), dict, list[...], dict[str, ...], a Literal, a union, a TypedDict,
    or one of them Annotated with checks, each of which returns the violated requirement or an empty string.
    """
    if is_typeddict(form):
        return _document(value, form, field)
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is NotRequired:
        return conform(value, arguments[0], field)
    if origin is Annotated:
        conform(value, arguments[0], field)
        for check in arguments[1:]:
            if requirement := check(value):
                raise _wrong(field, requirement, value)
    elif origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _wrong(field, " or ".join(map(str, arguments)), value)
    elif origin in (typing.Union, types.UnionType):
        _one_of(value, arguments, field)
    elif origin is list:
        _need(isinstance(value, list), field, list, value)
        for i, item in enumerate(value):
            conform(item, arguments[0], f"{field}[{i}]")
    elif origin is dict:
        _need(isinstance(value, dict), field, dict, value)
        for key, item in value.items():
            conform(item, arguments[1], f"{field}.{key}" if field else key)
    elif form is not Any:
        _need(_is(value, form), field, form, value)
    return value


def _document(value: Any, form: Any, field: str) -> Any:
    _need(isinstance(value, dict), field, dict, value)
    for name, kind in typing.get_type_hints(form, include_extras=True).items():
        path = f"{field}.{name}" if field else name
        if name in value:
            conform(value[name], kind, path)
        elif form.__total__ and typing.get_origin(kind) is not NotRequired:
            raise Mismatch(f"it lacks {path!r}")
    return value


def _one_of(value: Any, forms: tuple[Any, ...], field: str) -> None:
    errors = []
    for form in forms:
        try:
            conform(value, form, field)
            return
        except Mismatch as error:
            errors.append(error)
    raise errors[0]


def _is(value: Any, form: Any) -> bool:
    if isinstance(value, bool):  # a subclass of int in Python
        return form is bool
    if form is float:
        return isinstance(value, int | float)
    return isinstance(value, form)


def _need(holds: bool, field: str, form: Any, value: Any) -> None:
    if not holds:
        raise _wrong(field, _NAMES.get(form, str(form)), value)


def _wrong(field: str, requirement: str, value: Any) -> Mismatch:
    found = json.dumps(value, default=str) if isinstance(value, str | int | float | None) else _NAMES.get(type(value), "else")
    found = found if len(found) <= 40 else f"{found[:37]}…"
    return Mismatch(f"{repr(field) if field else 'its content'} must be {requirement}, not {found}")

"""JSON from disk, checked once: a document is a TypedDict whose fields state type and bounds.

    class Facts(TypedDict):
        count: Count                       # an int in [0, 1e15]
        labels: NotRequired[list[Text]]    # may be missing

`read` returns the document as it is on disk, and whoever holds it may rely on what its type says. Keys that the type
does not name are kept: a later version may write more.
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

LARGEST = 64 << 20  # bytes of a JSON document; one with 100,000 class names has 2 million


@dataclass(frozen=True)
class Within:
    """Bounds of a number, both included. Neither NaN nor an infinity lies within."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, value: Any) -> str:
        try:
            if math.isfinite(value) and self.low <= value <= self.high:
                return ""
        except OverflowError:  # a whole number beyond all floats
            pass
        bounds = f"{self.low:g} or more" if self.high == math.inf else f"{self.low:g} to {self.high:g}"
        return "a finite number" if self.low == -math.inf else bounds


Text = str
Count = Annotated[int, Within(0, 1e15)]
Positive = Annotated[int, Within(1, 1e15)]
Amount = Annotated[float, Within(0)]  # finite
Factor = Annotated[float, Within()]

_NAMES: Mapping[Any, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "an object",
                             list: "a list", type(None): "null"}  # fmt: skip


class Mismatch(ValueError):
    """A value that is not what its field takes. The sentence names the field."""


def read(path: Path, form: Any, most: int = LARGEST) -> Any:
    """The JSON document at `path`, which conforms to the TypedDict `form`.

    Raises FileNotFoundError when there is none, and ValueError naming the file, and the field that is wrong.
    """
    text = read_bytes(path, most)
    try:
        return conform(parse(text), form)
    except Mismatch as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def parse(text: bytes | str) -> Any:
    """JSON from UTF-8. Raises Mismatch for what is not JSON, and for more nesting than Python can follow."""
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Mismatch("it cannot be read as JSON") from error


def conform(value: Any, form: Any, field: str = "") -> Any:
    """`value` itself. Raises Mismatch naming the first field that `form` forbids.

    form: str, bool, int, float (which takes whole numbers), dict, list[...], dict[str, ...], a Literal, a union, a
    TypedDict, or one of them Annotated with checks that return what they want where they are not met.
    """
    if is_typeddict(form):
        return _document(value, form, field)
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is NotRequired:
        return conform(value, arguments[0], field)
    if origin is Annotated:
        conform(value, arguments[0], field)
        for check in arguments[1:]:
            if stop_requested := check(value):
                raise _wrong(field, stop_requested, value)
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
    if isinstance(value, bool):  # which Python takes for a number
        return form is bool
    if form is float:
        return isinstance(value, int | float)
    return isinstance(value, form)


def _need(holds: bool, field: str, form: Any, value: Any) -> None:
    if not holds:
        raise _wrong(field, _NAMES.get(form, str(form)), value)


def _wrong(field: str, stop_requested: str, value: Any) -> Mismatch:
    found = json.dumps(value, default=str) if isinstance(value, str | int | float | None) else _NAMES.get(type(value), "else")
    found = found if len(found) <= 40 else f"{found[:37]}…"
    return Mismatch(f"{repr(field) if field else 'its content'} must be {stop_requested}, not {found}")

"""Options: a dataclass field states default, help, bounds, choices and needs together; the rest is derived.

    @dataclass(frozen=True, kw_only=True)
    class Recipe:
        batch: int = option(32, "Images per iteration, over all ranks.", low=1)
        penalty: str = option("none", "Gradient penalty on the discriminator.", choices=("none", "r1", "r2"))
        gamma: float | None = option(None, "Weight of the penalty.", low=0, needs=Needs("penalty"))
        optimizer: OptimizerConfig = group(OptimizerConfig, "Optimizer of the discriminator.")

`check` validates a config, `replace` changes one by dotted names, `parse` reads one from a file of unknown origin,
`json_schema` and `rows` describe one. The command line's flags and docs/options.md come from the same fields.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeVar

from limner.core.schema import Mismatch

T = TypeVar("T")
KEY = "limner"  # of the metadata of a field
LARGEST = 10**15  # whole number that any option takes, unless its field gives another bound
WIDEST, DEEPEST = 65_536, 256  # units of a layer, and layers of a stage, that a network may have
OFF = ("none", "constant", 0, False)  # values that switch off what depends on them
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


@dataclass(frozen=True)
class Needs:
    """A condition for an option to have an effect: another option of the same dataclass is not off, or has one of `values`."""

    option: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """The metadata of an option, besides its name, type and default."""

    help: str
    low: float = -inf
    high: float = inf
    choices: Collection[str] | Callable[[], Collection[str]] = ()  # a function where plug-ins add to them
    needs: Needs | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """The choices; empty where any text is taken."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    @property
    def text(self) -> str:
        """The help with the choices and the option that this one depends on."""
        found = self.help
        if self.values:
            found += f" One of: {', '.join(self.values)}."
        if self.needs:
            found += f" Needs {self.needs.option}{' ' + either(self.needs.values) if self.needs.values else ''}."
        return found


def option(
    default: T,
    help: str,
    *,
    low: float = -inf,
    high: float = inf,
    choices: Collection[str] | Callable[[], Collection[str]] = (),
    needs: Needs | None = None,
) -> T:
    """Declare a dataclass field that is an option: a command-line flag, a row of the documentation, a validated value.

    Parameters
    ----------
    default
        Its value unless a user gives another.
    help
        A sentence for `--help` and the documentation.
    low, high
        Bounds of a number, both included; without `low`, any number is accepted.
    choices
        The accepted texts, or a function that returns them.
    needs
        Another option of the same dataclass, without which this one has no effect.

    Returns
    -------
    dataclasses.Field
        Typed as the default, so that a type checker compares the default with the annotation.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import limner
    >>> from limner.core.options import check
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Config:
    ...     width: int = limner.option(32, "Channels of the hidden layers.", low=1)
    >>> Config().width
    32
    >>> check(Config(width=0))
    Traceback (most recent call last):
        ...
    ValueError: The option width is 0: give 1 or more.
    """
    about = Option(help, low, high, choices, needs)
    return dataclasses.field(default=default, metadata={KEY: about})


def group(make: Callable[[], T], help: str, *, needs: Needs | None = None) -> T:
    """Declare a dataclass field that is a config of its own; its options get the field's name as a prefix.

    Parameters
    ----------
    make
        The dataclass of the config, or a function that returns an instance.
    help
        A sentence for the documentation.
    needs
        Another option of the same dataclass, without which this group has no effect.

    Returns
    -------
    dataclasses.Field
        Typed as the config.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import limner
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Recipe:
    ...     optimizer: limner.OptimizerConfig = limner.group(lambda: limner.OptimizerConfig(lr=1e-3), "Optimizer.")
    >>> Recipe().optimizer.lr
    0.001
    """
    return dataclasses.field(default_factory=make, metadata={KEY: Option(help, needs=needs)})


_PLAIN = Option("")  # of a field that is written without `option`, as a plug-in may


def options(config: Any) -> Iterator[tuple[str, Option, Any]]:
    """(name, option, type) of each field of a config or of its class, in order."""
    hints = typing.get_type_hints(config if isinstance(config, type) else type(config))
    for field in dataclasses.fields(config):
        yield field.name, field.metadata.get(KEY, _PLAIN), hints[field.name]


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Option, Any, Any]]:
    """(dotted name, option, type, value) of each single option of a config: those of groups, not the groups."""
    for name, about, kind in options(config):
        value, path = getattr(config, name), f"{prefix}{name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{path}.")
        else:
            yield path, about, kind, value


def values_of(config: Any) -> dict[str, Any]:
    """The value of each single option of a config by dotted name."""
    return {path: value for path, _, _, value in leaves(config)}


def either(words: Collection[str]) -> str:
    """`a, b or c`"""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


# ---- validation ------------------------------------------------------------------------------------------------------


def check(config: Any, prefix: str = "") -> None:
    """Raise ValueError for the first value of a config, or of one in it, that its field does not accept."""
    for name, about, kind in options(config):
        value, path = getattr(config, name), f"{prefix}{name}"
        if wanted := _wanted(value, about, kind):
            raise ValueError(f"The option {path} is {value!r}: {wanted}.")
        if dataclasses.is_dataclass(value):
            check(value, f"{path}.")


def check_needs(config: Any, paths: Collection[str]) -> None:
    """Raise ValueError for the first of the options `paths` (dotted names) that has no effect in the config."""
    for path in paths:
        part, above = config, ""
        for name in path.split("."):
            about = {n: o for n, o, _ in options(part)}[name]
            if about.needs:
                _check_need(path, about.needs, getattr(part, about.needs.option), above)
            part, above = getattr(part, name), f"{above}{name}."


def _check_need(path: str, needs: Needs, value: Any, above: str) -> None:
    other = f"{above}{needs.option}"
    if needs.values and value not in needs.values:
        remedy = f"set {other} to {either(needs.values)}"
    elif not needs.values and value in OFF:
        remedy = f"choose another {other}" if isinstance(value, str) else f"turn {other} on"
    else:
        return
    shown = value if isinstance(value, str) else "off"
    raise ValueError(f"The option {path} does nothing while {other} is {shown}: {remedy}, or leave {path} out.")


def parse(cls: type[T], values: Mapping[str, Any], field: str) -> T:
    """The config `cls` of values from a file of unknown origin; options that are not there keep their defaults.

    field: where the values stand in the file. Raises Mismatch for an unknown option and for a value that it does not take.
    """
    known = {name: (about, kind) for name, about, kind in options(cls)}
    for name, value in values.items():
        if name not in known:
            raise Mismatch(f"{field!r} has no option {name!r}")
        if wanted := _wanted(value, *known[name]):
            raise Mismatch(f"'{field}.{name}' is {value!r:.40}: {wanted}")
    return cls(**values)


def replace(config: T, changes: Mapping[str, Any]) -> T:
    """A config with some values replaced; dots reach into nested ones (`generator.width`).

    Raises ValueError for a name that the config does not have. Values are not checked.
    """
    for path, value in changes.items():
        config = _replace(config, path.split("."), value, path)
    return config


def _replace(config: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [f.name for f in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    if path[0] not in names:
        where = f"it has {', '.join(names)}" if names else "it is a single value"
        raise ValueError(f"The recipe has no option {whole!r}: {where}.")
    new = value if len(path) == 1 else _replace(getattr(config, path[0]), path[1:], value, whole)
    return dataclasses.replace(config, **{path[0]: new})


def _arms(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type, itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(value, bool):  # a subclass of int
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _wanted(value: Any, about: Option, kind: Any) -> str:
    """Return the correction of a value, such as `give 1 or more`; empty if the value is valid."""
    arms = _arms(kind)
    if not any(_fits(value, arm) for arm in arms):
        return "give " + either([_NAMES.get(arm, f"an instance of {arm.__qualname__}") for arm in arms if arm is not types.NoneType])
    if isinstance(value, str) and about.values and value not in about.values:
        return f"choose {either(about.values)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    low, high = bounds(about, kind)
    if low == -inf or (low <= value <= high and (isinstance(value, int) or isfinite(value))):
        return ""
    if high == inf:
        return f"give {low} or more"
    return f"give {low} or more" if value < low and about.high == inf else f"give {low} to {high}"


def bounds(about: Option, kind: Any) -> tuple[float, float]:
    """The least and the largest number that an option takes."""
    whole = float not in _arms(kind)
    return about.low, LARGEST if whole and about.high == inf else about.high


# ---- descriptions ----------------------------------------------------------------------------------------------------

_JSON = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", types.NoneType: "null"}


def json_schema(config: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a config, whose values are the defaults; of a class, its own defaults."""
    values = config() if isinstance(config, type) else config
    properties: dict[str, Any] = {}
    for name, about, kind in options(values):
        value = getattr(values, name)
        if dataclasses.is_dataclass(value):
            properties[name] = json_schema(value) | {"description": about.text}
        else:
            properties[name] = _property(value, about, kind)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(value: Any, about: Option, kind: Any) -> dict[str, Any]:
    names = [_JSON[arm] for arm in _arms(kind)]
    found: dict[str, Any] = {"type": names[0] if len(names) == 1 else names, "default": value, "description": about.help}
    if about.values:
        found["enum"] = list(about.values)
    if "integer" in names or "number" in names:
        low, high = bounds(about, kind)
        found |= ({"minimum": low} if low > -inf else {}) | ({"maximum": high} if high < inf else {})
    return found


def rows(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(dotted name, default, values, help) of each option of a config, groups before what is in them.

    The default of a group is what differs from the defaults of its class.
    """
    for name, about, kind in options(config):
        value, path = getattr(config, name), f"{prefix}{name}"
        if dataclasses.is_dataclass(value):
            cls: Any = type(value)
            defaults = cls()
            names = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != getattr(defaults, f.name)]
            yield path, ", ".join(f"{n}={getattr(value, n)}" for n in names), "", about.text
            yield from rows(value, f"{path}.")
        else:
            takes = ", ".join(about.values) or _range(about, kind)
            needs = dataclasses.replace(about, choices=()).text
            yield path, "" if value is None else str(value), takes, needs


def _range(about: Option, kind: Any) -> str:
    arms = [arm for arm in _arms(kind) if arm is not types.NoneType]
    if arms == [bool]:
        return "True, False"
    if about.low == -inf or not {int, float} & set(arms):
        return ""
    return f"{about.low} or more" if about.high == inf else f"{about.low} to {about.high}"

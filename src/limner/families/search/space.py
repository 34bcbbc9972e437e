"""The options that a search varies, each with its range, from the options' own types and bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner.core.options import Option, bounds, check_needs, leaves
from limner.recipes.changes import changed

LR_FACTOR = 3.0  # a learning rate is searched from a third to three times its default
WIDTH_FACTOR = 2  # channels, from half to twice the default; the batch likewise
CHOICES = {  # of options that are searched by default: the values that are worth short runs
    "objective": ("hinge", "non-saturating", "relativistic"),
    "augmentation": ("none", "light", "full"),
}


@dataclass(frozen=True)
class Range:
    """The values of one option: numbers from `low` to `high`, on a logarithmic scale with `log`, whole ones in steps; or `choices`."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int = 0  # of whole numbers; 0: any number
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Return whether the range has this value."""
        if self.choices:
            return value in self.choices
        return self.low <= value <= self.high and (not self.step or (value - self.low) % self.step == 0)

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices else f"{self.low:g} to {self.high:g}"


Leaf = tuple[str, Option, Any, Any]  # dotted name, metadata, type, value


def space(recipe: Any, given: Sequence[str] = ()) -> dict[str, Range]:
    """Return the options to search with their ranges.

    given: `NAME`, `NAME=LOW..HIGH` or `NAME=A,B,C`, instead of the default ones: learning rates, widths, batch, objective and
    augmentation, as far as the recipe has them and they have an effect. Raises ValueError for unknown names and invalid values.
    """
    known = {leaf[0]: leaf for leaf in leaves(recipe)}
    if given:
        return dict(_given(text, known, recipe) for text in given)
    return {path: found for path, leaf in known.items() if _has_effect(recipe, path) and (found := _default(leaf)) is not None}


def _has_effect(recipe: Any, path: str) -> bool:
    """Return whether the option, and every group around it, does anything in the recipe."""
    try:
        check_needs(recipe, [path])
    except ValueError:
        return False
    return True


def _default(leaf: Leaf) -> Range | None:
    """Return the range of an option that is searched by default; None for another one."""
    path, about, kind, value = leaf
    if path.endswith("optimizer.lr"):
        low, high = bounds(about, kind)
        return Range(max(low, value / LR_FACTOR), min(high, value * LR_FACTOR), log=True) if value else None
    if path.endswith(".width"):
        return _whole(leaf, value // WIDTH_FACTOR, value * WIDTH_FACTOR)
    if path == "batch":
        return Range(choices=tuple(sorted({max(1, value // WIDTH_FACTOR), value, value * WIDTH_FACTOR})))
    if path in CHOICES:
        found = tuple(dict.fromkeys([value, *(v for v in CHOICES[path] if v in about.values)]))
        return Range(choices=found) if len(found) > 1 else None
    return None


def _whole(leaf: Leaf, low: float, high: float) -> Range:
    _, about, kind, value = leaf
    least, most = bounds(about, kind)
    low, high = max(low, least), min(high, most)
    step = max(1, int(high - low) // 12)
    return Range(low, low + (high - low) // step * step, step=step)


def _given(text: str, known: Mapping[str, Leaf], recipe: Any) -> tuple[str, Range]:
    name, _, values = text.partition("=")
    path = name.strip().replace("-", "_")
    if path not in known:
        raise ValueError(f"The recipe has no option {name!r} to search: it has {', '.join(known)}.")
    leaf = known[path]
    _, about, kind, value = leaf
    if not values:
        found = _default(leaf) or (Range(choices=about.values) if about.values else None)
        found = found or (Range(choices=(False, True)) if isinstance(value, bool) else None)
        if found is None:
            raise ValueError(f"The option {name} has no range of its own: give one, as {name}=LOW..HIGH or {name}=A,B,C.")
        return path, found
    if ".." in values:
        low, high = (_number(part, name) for part in values.split("..", 1))
        for end in (low, high):
            changed(recipe, {path: _typed(end, value)})  # raises for what the option does not take
        if not low < high:
            raise ValueError(f"The range {values} of {name} is empty: give the lower end first.")
        if isinstance(value, int):
            return path, _whole(leaf, low, high)
        return path, Range(low, high, log=low > 0 and high / low >= 10)
    choices = tuple(_typed(part.strip(), value) for part in values.split(","))
    for choice in choices:
        changed(recipe, {path: choice})
    return path, Range(choices=choices)


def _number(text: str, name: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"The range of {name} needs two numbers, as in {name}=0.001..0.01, not {text!r}.")
    return found


def _typed(given: Any, value: Any) -> Any:
    """Return a given value in the type of the option's own; text that is none of that type is left for the option to refuse."""
    if isinstance(value, bool):
        return {"true": True, "false": False}.get(str(given).lower(), given)
    if not isinstance(value, int | float | None) or not _numeric(given):
        return given
    number = float(given)
    return number if isinstance(value, float) or not number.is_integer() else int(number)


def _numeric(given: Any) -> bool:
    try:
        return math.isfinite(float(given))
    except (TypeError, ValueError):
        return False

"""The words of a prompt: a class by name, and settings such as `seed=7`. Nothing else is understood, and nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from limner.apps.web.errors import Refusal
from limner.core.text import shortened

ANY = ("", "any", "random")  # a class as frequent as in the training data
MAX_NAMES = 20  # classes that a message lists
_SETTING = re.compile(r"(?<!\S)([^\s=]+)=(\S*)")


def parse_prompt(prompt: str, classes: Sequence[str], settings: Iterable[str]) -> tuple[str | None, dict[str, str]]:
    """Return the class that a prompt names, None for any, and its settings by name.

    A class name may hold an equals sign: a prompt that is a class name is that class. Raises Refusal with what is accepted.
    """
    known = tuple(settings)
    if (name := class_named(prompt, classes)) is not None:
        return name, {}
    found, rest = split_settings(prompt, known)
    if rest.lower() in ANY:
        return None, found
    if rest.lower() == "all" and classes:
        return "all", found  # classes in turn
    if (name := class_named(rest, classes)) is not None:
        return name, found
    raise Refusal(f"The prompt {shortened(rest)!r} is not understood: {accepted(classes, known)}")


def parse_settings(prompt: str, settings: Iterable[str]) -> dict[str, str]:
    """Return the settings of an edit's prompt by name. Raises Refusal for other words."""
    known = tuple(settings)
    found, rest = split_settings(prompt, known)
    if rest.lower() in ANY:
        return found
    takes = f"settings only, such as {_examples(known)}" if known else "no words: leave it empty, or write 'any'"
    raise Refusal(f"The prompt {shortened(rest)!r} is not understood: an edit by this model takes {takes}.")


def split_settings(prompt: str, known: Sequence[str]) -> tuple[dict[str, str], str]:
    """Return the settings of a prompt by name, and its other words."""
    names = {name.lower(): name for name in reversed(known)}
    found = {names[match[1].lower()]: match[2] for match in _SETTING.finditer(prompt) if match[1].lower() in names}
    return found, " ".join(_SETTING.sub(lambda match: "" if match[1].lower() in names else match[0], prompt).split())


def _examples(names: Sequence[str]) -> str:
    return " and ".join(f"{name}={EXAMPLES.get(name, 1)}" for name in names)


def class_named(text: str, classes: Sequence[str]) -> str | None:
    """Return the class of that name, whatever the case of its letters, or None."""
    text = text.strip()
    if text in classes:
        return text
    return {name.lower(): name for name in reversed(classes)}.get(text.lower())


def accepted(classes: Sequence[str], settings: Sequence[str]) -> str:
    """Return what a prompt may be, as the end of a sentence."""
    words = _examples(settings)
    if not classes:
        return f"this model has no classes and draws what it was trained on; leave the prompt empty or write 'any', with {words} if wished."
    names = ", ".join(shortened(name) for name in classes[:MAX_NAMES])
    more = f" or another of its {len(classes)} classes" if len(classes) > MAX_NAMES else ""
    return f"write one of {names}{more}, or 'any', with {words} if wished."


EXAMPLES: Mapping[str, str] = {"seed": "7", "truncation": "0.7", "strength": "0.5", "scale": "2", "direction": "a2b"}


def whole(name: str, text: str) -> int:
    """Return a setting as a whole number. Raises Refusal."""
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise Refusal(f"{name} is a whole number such as {name}={EXAMPLES.get(name, 1)}, not {shortened(text)!r}.")
    return int(text)


def number(name: str, text: str) -> float:
    """Return a setting as a number. Raises Refusal."""
    try:
        value = float(text) if len(text) <= 40 else float("nan")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e30:  # also True for NaN
        raise Refusal(f"{name} is a number such as {name}={EXAMPLES.get(name, 1)}, not {shortened(text)!r}.")
    return value

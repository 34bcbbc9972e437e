"""What the package tells people to type exists."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import limner
from limner import cli
from limner.cli.listening import Listening
from limner.cli.reading import TrainingFlags
from limner.families import presets
from limner.families.train import AUTO, defaults, next_command
from limner.networks import NAMES, architecture
from limner.runs.run import Options

COMMANDS = [import_module(f"limner.cli.{path.stem}") for path in Path(cli.__file__).parent.glob("[!_]*.py")]
FILES = sorted(Path(limner.__file__).parent.rglob("*.py"))


def dotted(values: Any, prefix: str = "") -> Iterator[str]:
    """The names of a dataclass's fields, and of those within them, as options name them."""
    for f in dataclasses.fields(values):
        yield prefix + f.name
        if dataclasses.is_dataclass(inner := getattr(values, f.name)):
            yield from dotted(inner, f"{prefix}{f.name}.")


def options() -> set[str]:
    """Every option of every command and recipe."""
    names = {f.name for form in (Options, Listening, TrainingFlags) for f in dataclasses.fields(form)} | {"number", "help", "version"}
    for recipe in presets():
        names |= set(dotted(defaults(recipe)))
    for name in NAMES:
        names |= set(dotted(architecture(name).GeneratorConfig(), "generator."))
        names |= set(dotted(architecture(name).DiscriminatorConfig(), "discriminator."))
    for module in COMMANDS:
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                names |= set(inspect.signature(function).parameters)
    return {f"--{name.rstrip('_').replace('_', '-')}" for name in names}


def named(path: Path) -> set[str]:
    """The options that the texts of a file name; `--no-x` is the other side of `--x`. Those of a script and the properties
    of a style sheet are none."""
    texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    found = {o for text in texts if isinstance(text, str) and text != "--no-" for o in re.findall(r"(?<![\w-])(?<!\.py )(?<!var\()--[a-z][\w.-]*\w\b(?!:)", text)}
    return {o if o in KNOWN else o.replace("--no-", "--") for o in found}


KNOWN = options()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_messages_name_options_that_exist(path: Path) -> None:
    """The doctor's advice named --translators.lr and --autoencoder.lr, which no recipe has."""
    assert named(path) <= KNOWN


@pytest.mark.parametrize("recipe", [AUTO, *presets()])
def test_the_next_command_has_all_that_it_needs(recipe: str) -> None:
    """A translator's was `limner translate RUN`, which is refused without pictures and a place for them."""
    program, verb, *arguments = next_command(recipe, Path("run")).split()
    parameters = inspect.signature(next(getattr(m, verb) for m in COMMANDS if hasattr(m, verb))).parameters.values()
    needed = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    given = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    assert program == "limner" and arguments[0] == "run" and len(given) == len(needed)

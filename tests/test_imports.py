"""The one-way rule: a module imports only from rooms above it, some rooms keep apart altogether, and no imports go in a circle.

Every import counts: lazy ones, those under TYPE_CHECKING, and module names in strings (`import_module`, entry points).
"""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import limner

ROOT = Path(limner.__file__).parent
ROOMS = [
    "core", "data", "networks", "coding", "losses", "methods", "monitor", "training", "evaluation", "sampling", "runs", "recipes",
    "apps", "families", "cli",
]  # fmt: skip
APART = {  # room -> rooms above it that it must not import either
    "networks": {"data"},
    "coding": {"data", "networks"},
    "losses": {"data", "networks"},
    "methods": {"data"},
    "training": {"data", "networks", "losses"},  # and of methods only methods.phase
    "evaluation": {"methods", "training"},
    "sampling": {"methods", "training"},
    "apps": {"methods", "training", "recipes", "runs"},
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or not p.name.startswith("__"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for p in ROOT.rglob("*.py")}


def imports(text: str, where: str = "") -> set[str]:
    """Every limner module that a file imports, at whatever place and by whatever means."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import"
            assert not any(alias.name == "*" for alias in node.names), f"{where}: star import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if re.fullmatch(r"limner(\.\w+)+", name) and name in MODULES:
                found.add(name)
    return {name for name in found if name.startswith("limner.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_rooms_above(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(path.read_text(), str(path)):
        other = name.split(".")[1]
        assert ROOMS.index(other) <= ROOMS.index(room), f"{room} imports {name}, a room below it"
        assert other not in APART.get(room, set()), f"{room} must not import {name}"
        if room == "training" and other == "methods":
            assert name.startswith("limner.methods.phase"), f"training may import methods.phase only, not {name}"


def test_imports_go_in_no_circle() -> None:
    graph = {name: imports(path.read_text(), name) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' -> '.join(error.args[1])}")


def test_lazy_imports_type_checking_and_strings_are_seen() -> None:
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from limner.core.images import ImageSpec\n"
        "def f():\n    from limner.data import open\n    import limner.networks.conv\n"
        'HOMES = {"train": "limner.families.train"}\nENTRY = "limner.apps.model:Model"\nOTHER = "limner.not_a_module"\n'
    )
    assert imports(text) == {
        "limner.core.images", "limner.data.open", "limner.networks.conv", "limner.families.train", "limner.apps.model",
    }  # fmt: skip


def test_no_vague_names_and_no_long_files() -> None:
    assert not [p for p in FILES if p.stem in {"utils", "util", "helpers", "misc", "common"}]
    assert not [p for p in FILES if len(p.read_text().splitlines()) > 400]

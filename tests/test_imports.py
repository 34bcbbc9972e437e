"""The one-way rule: a module imports only from rooms above it, and some rooms keep apart altogether."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import limner

ROOT = Path(limner.__file__).parent
ROOMS = ["core", "data", "networks", "losses", "methods", "monitor", "training", "evaluation", "runs", "recipes", "apps", "cli"]
APART = {  # room -> rooms above it that it must not know either
    "networks": {"data"},
    "losses": {"data", "networks"},
    "methods": {"data"},
    "training": {"data", "networks", "losses"},  # and of methods only methods.phase
    "evaluation": {"methods", "training"},
    "apps": {"methods", "training", "recipes"},
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or not p.name.startswith("__"))


def imports(path: Path) -> set[str]:
    """Every limner module that a file imports, lazily or not; `import_module("limner.x")` strings count too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert not any(alias.name == "*" for alias in node.names), f"{path}: star import"
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("limner.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_rooms_above(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(path):
        other = name.split(".")[1]
        if other not in ROOMS:  # limner.__version__
            continue
        assert ROOMS.index(other) <= ROOMS.index(room), f"{room} imports {name}, a room below it"
        assert other not in APART.get(room, set()), f"{room} must not know {name}"
        if room == "training" and other == "methods":
            assert name.startswith("limner.methods.phase"), f"training may know methods.phase only, not {name}"


def test_no_vague_names() -> None:
    assert not [p for p in FILES if p.stem in {"utils", "util", "helpers", "misc", "common"}]

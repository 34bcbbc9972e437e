"""Parts of Limner that the studio shows only where they are installed: editing (inversion, directions) and export."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from limner.apps.studio.generator import Edit


def present(module: str) -> bool:
    """Return whether a module of Limner exists."""
    try:
        return find_spec(f"limner.apps.{module}") is not None
    except ModuleNotFoundError:  # its package does not exist
        return False


def load(module: str) -> Any:
    return import_module(f"limner.apps.{module}")


def features() -> dict[str, bool]:
    """Return which optional features the page can show."""
    return {"invert": False, "directions": False, "onnx": False, "html": False}


def edit() -> Edit | None:
    """Return the function that moves latents along named directions; None without the room `apps.editing`."""
    return None

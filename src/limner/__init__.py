"""Limner: turn a folder of pictures into an image generator, trained on the machine you have.

    import limner

    limner.train("photos/", size=64, minutes=10, out="runs/photos")
    model = limner.load("runs/photos")
    model.sample(16, seed=0).save("grid.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from limner.families.load import load
    from limner.families.train import train

_HOMES = {"train": "limner.families.train", "load": "limner.families.load"}  # imported at first use: torch takes seconds

__all__ = ["__version__", "load", "train"]


def __dir__() -> list[str]:
    return sorted({*_HOMES, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limner' has no attribute {name!r}")

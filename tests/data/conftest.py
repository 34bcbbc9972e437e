"""A cache of its own for every test, and pictures to put into folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LIMNER_CACHE", str(folder))
    return folder


@pytest.fixture
def noise() -> Callable[..., Image.Image]:
    def make(height: int = 32, width: int = 32, mode: str = "RGB", seed: int = 0) -> Image.Image:
        shape = (height, width) + {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))

    return make


@pytest.fixture
def folder(tmp_path: Path, noise: Callable[..., Image.Image]) -> Path:
    """Five PNGs of 32x32 in a folder."""
    place = tmp_path / "pictures"
    place.mkdir()
    for i in range(5):
        noise(seed=i).save(place / f"{i}.png")
    return place

"""Shared by all tests: one thread, so that results do not depend on the machine's load; no cache of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npz of 96 gray 16x16 pictures of two classes: bright squares at the left or at the right."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (96, 16, 16), dtype=np.uint8)
    labels = np.arange(96) % 2
    for i, label in enumerate(labels):
        top = rng.integers(0, 8)
        images[i, top : top + 8, 8 * label : 8 * label + 8] = 220
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def brief_export_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are compared with PyTorch on fewer rows, and timed for a shorter time."""
    monkeypatch.setattr("limner.apps.export.part.LATENTS_CHECKED", 70)
    monkeypatch.setattr("limner.apps.export.quantize.SECONDS", 0.02)

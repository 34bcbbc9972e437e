"""A small generator, and a studio around its run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import limner
from limner.apps.studio.app import application
from limner.apps.studio.studio import RecipeInfo, Studio
from limner.apps.web.access import Access
from limner.families.load import load
from studio_process import PROGRAM

RECIPES = [RecipeInfo("auto", "chosen by your pictures and minutes", "generator"), RecipeInfo("dcgan", "the classic", "generator"), RecipeInfo("pix2pix", "pairs", "translator")]
SMALL = {"generator.width": 4, "discriminator.width": 4}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, squares: Path) -> Path:
    """The run of a generator with two classes, trained for a moment on the squares."""
    out = tmp_path_factory.mktemp("trained") / "squares"
    limner.train(str(squares), recipe="dcgan", batch=16, images=320, changes=SMALL, out=out, quiet=True)
    return out


@pytest.fixture(scope="session")
def styled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a generator with a style space."""
    pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)
    out = tmp_path_factory.mktemp("styled") / "styled"
    limner.train(pictures, recipe="stylegan2", batch=16, images=32, changes=SMALL, out=out, quiet=True)
    return out


@pytest.fixture
def home(tmp_path: Path, run_folder: Path) -> Path:
    """A folder of runs that holds a copy of the trained one."""
    home = tmp_path / "runs"
    shutil.copytree(run_folder, home / "squares")
    return home


@pytest.fixture
def studio(home: Path) -> Studio:
    return Studio([home], home, lambda folder: load(folder, "cpu"), PROGRAM, RECIPES)


@pytest.fixture
def client(studio: Studio) -> Any:
    from starlette.testclient import TestClient

    access = Access.of("127.0.0.1", token=True)
    with TestClient(application(studio, access), base_url="http://127.0.0.1:8000", headers={"x-limner-token": access.token or ""}) as client:
        yield client

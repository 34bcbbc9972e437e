"""A live server of tiny models of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import models, server


@pytest.fixture(scope="session")
def runs(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return models(squares, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def live(runs: dict[str, Any]) -> Iterator[tuple[httpx.Client, Any]]:
    with server(runs) as (client, app):
        yield client, app


@pytest.fixture
def client(live: tuple[httpx.Client, Any]) -> httpx.Client:
    return live[0]

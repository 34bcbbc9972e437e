"""The figures beside the recipes are those of the file, and without a file there are none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from limner.families import presets
from limner.families.train import AUTO, table
from limner.recipes import measured

CONTENT = {
    "description": "10 minutes each on 1 thread",
    "protocol": {"minutes": 10.0},
    "real": {"fd_own": 0.021},
    "rows": {"spectral": {"fd_own": 0.4216}, "wgan": {"failed": "The discriminator's loss was not finite."}},
}


def printed(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("limner.families.train.measurements", lambda: measured.measurements(file))
    out = io.StringIO()
    Console(file=out, width=200).print(table())
    return out.getvalue()


def test_figures_stand_beside_their_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "zoo.json"
    file.write_text(json.dumps(CONTENT))
    lines = printed(file, monkeypatch).splitlines()
    line = {name: next(text for text in lines if f"│ {name} " in text) for name in ("spectral", "wgan", "dcgan", "vae")}
    assert "fd_own 0.422" in line["spectral"] and line["wgan"].rstrip(" │").endswith("failed")
    assert all(line[name].rstrip(" │").endswith("-") for name in ("dcgan", "vae"))
    below = " ".join(lines[-2:])
    assert "10 minutes each on 1 thread" in below and "real pictures 0.021" in below and "lower is better" in below


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"description": "x"}', json.dumps(CONTENT | {"rows": {}})])
def test_without_measurements_the_list_is_whole(content: str | None, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "zoo.json"
    if content is not None:
        file.write_text(content)
    text = printed(file, monkeypatch)
    assert all(name in text for name in presets()) and "FID" not in text


def test_what_the_package_ships_was_measured_of_recipes_that_there_are() -> None:
    found = measured.measurements()
    assert set(found["rows"]) <= {AUTO, *presets()}
    if found["rows"]:
        assert measured.protocol(found) and all(measured.format_row(found, name) for name in found["rows"])

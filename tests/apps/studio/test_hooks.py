"""Editing and export in the studio: inverted pictures and named directions as states, and files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.apps.studio import hooks
from limner.apps.studio.generator import Drawing
from limner.apps.studio.state import State
from limner.families.load import load
from studio_process import until


@pytest.fixture
def drawing(home: Path) -> Drawing:
    return Drawing(load(home / "squares", "cpu"))


def latent_file(drawing: Drawing, seed: int, path: Path) -> Path:
    from limner.apps.editing.latent import latent_of

    z = drawing.point(State(seed=seed, label="1"), np.array([1]))[0]
    return Path(latent_of(drawing.model, z, 1).save(path))


def test_a_latent_file_draws_the_picture_it_was_made_of(drawing: Drawing, tmp_path: Path) -> None:
    path = latent_file(drawing, 4, tmp_path / "me.latent.npz")
    plain = drawing.draw(State(seed=4, label="1"))
    assert np.array_equal(drawing.draw(State(latent=str(path))), plain)
    moved = {1: 2.0}
    assert np.array_equal(drawing.draw(State(latent=str(path), axes=moved)), drawing.draw(State(seed=4, label="1", axes=moved)))
    assert State(latent="me.latent.npz", label="1").arguments() == ["--latent", "me.latent.npz"]
    with pytest.raises(ValueError, match="There is no file"):
        drawing.draw(State(latent=str(tmp_path / "other.latent.npz")))


def test_a_named_direction_moves_the_latent_along_its_vector(drawing: Drawing) -> None:
    from limner.apps.editing.directions import Direction, Directions
    from limner.apps.editing.latent import fingerprint

    model = drawing.model
    with pytest.raises(ValueError, match="no directions yet"):
        drawing.draw(State(seed=1, label="0", directions={"wide": 1.0}))
    vector = np.zeros(model.z_size, np.float32)
    vector[3] = 1
    Directions((Direction("wide", "components", vector),), fingerprint(model)).save(model.folder)
    assert hooks.named_directions(model) == [{"name": "wide", "title": "wide", "reach": hooks.AXIS_REACH, "note": ""}]
    z = drawing.point(State(seed=1, label="0"), np.array([0])).astype(np.float32)
    made = drawing.draw(State(seed=1, label="0", directions={"wide": 2.5}))
    assert np.array_equal(made, model.render(z + 2.5 * vector, np.array([0]))[0])
    with pytest.raises(ValueError, match="no direction"):
        drawing.draw(State(seed=1, label="0", directions={"tall": 1.0}))


def test_a_page_is_exported_beside_the_run_and_offered(client: Any, home: Path) -> None:
    run = client.get("/api/home").json()["runs"][0]["id"]
    begun = client.post(f"/api/runs/{run}/export", json={"format": "html"}).json()
    assert begun["command"] == f"limner export {home / 'squares'} {home / 'squares.html'}"
    done = until(lambda: (state := client.get(f"/api/jobs/{begun['job']}").json())["state"] != "running" and state)
    assert done["state"] == "done", done
    assert client.get(f"/api/blobs/{done['result']['blob']}").content == (home / "squares.html").read_bytes()
    assert client.post(f"/api/runs/{run}/export", json={"format": "exe"}).status_code == 400

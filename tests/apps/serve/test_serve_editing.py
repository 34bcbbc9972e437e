"""Inversion and directions behind the server: the same results as `apps.editing` gives."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import limner
from limner.apps.editing import encoder as encoders
from limner.apps.editing.directions import Directions
from limner.apps.editing.edit import by_seed, edit
from limner.apps.editing.find import find
from limner.apps.editing.invert import Inverter
from limner.apps.serve.editor import editor_of
from limner.apps.serve.service import serve_app
from limner.apps.web.access import Access
from limner.apps.web.running import Background
from limner.core.images import to_pil
from limner.evaluation.image_quality import psnr_of
from serving import decoded, encoded

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def bare(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    changes = {"architecture": "conv", "generator.z_size": 16, "generator.width": 8, "discriminator.width": 8}
    run = limner.train(squares, recipe="spectral", changes=changes, images=1600, out=tmp_path_factory.mktemp("runs") / "own", quiet=True)
    return limner.load(run.folder, "cpu")


@pytest.fixture(scope="module")
def model(bare: Any) -> Any:
    """With directions and an encoder beside it."""
    assert editor_of(bare) is None  # a server trains none
    with pytest.MonkeyPatch.context() as change:
        change.setattr(encoders, "PIXELS", 0)
        change.setattr(encoders, "LEAST_PICTURES", 640)
        find(bare).save(bare.folder)
        Inverter(bare)
    return bare


@pytest.fixture(scope="module")
def client(model: Any) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as change:
        change.setattr(encoders, "PIXELS", 0)
        change.setattr(encoders, "LEAST_PICTURES", 640)
        app = serve_app([("own", model)], Access.of("127.0.0.1"), editor_of=editor_of)
    with Background(app) as running, httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:
        yield client


def test_directions(client: httpx.Client, model: Any) -> None:
    names = client.get("/v1/runs/own").json()["directions"]
    stored = Directions.load(model)
    assert stored is not None
    assert [name.replace("-", " ") for name in names] == [name.replace("-", " ") for name in stored.names]
    assert not [name for name in names if " " in name]
    body = {"seed": 3, "label": "1", "directions": {names[0]: 2.0}}
    answer = client.post("/v1/runs/own/generate", json=body)
    assert answer.status_code == 200, answer.text
    made = decoded(base64.b64decode(answer.json()["images"][0]["b64"])).astype(int)
    truth = np.asarray(model.render(edit(model, by_seed(model, 3, "1"), [(names[0], 2.0)])))[0]
    assert np.abs(made - truth).max() <= 1


def test_a_picture_is_inverted_and_edited(client: httpx.Client, model: Any) -> None:
    sample = np.asarray(model.sample(1, seed=9, label="0"))[0]
    answer = client.post("/v1/images/edits", files={"image": encoded(to_pil(sample))}, data={"prompt": "any"})
    assert answer.status_code == 200, answer.text
    same = decoded(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    assert psnr_of(same, sample) > 30
    name = client.get("/v1/runs/own").json()["directions"][0]
    answer = client.post("/v1/images/edits", files={"image": encoded(to_pil(sample))}, data={"prompt": f"{name}=3"})
    assert answer.status_code == 200, answer.text
    assert (decoded(base64.b64decode(answer.json()["data"][0]["b64_json"])) != same).any()


def test_variations_of_a_generator_are_nearer_than_other_samples(client: httpx.Client, model: Any) -> None:
    sample = np.asarray(model.sample(1, seed=9, label="0"))[0]
    answer = client.post("/v1/images/variations", files={"image": encoded(to_pil(sample))}, data={"n": "4", "seed": "1"})
    assert answer.status_code == 200, answer.text
    made = [decoded(base64.b64decode(one["b64_json"])) for one in answer.json()["data"]]
    others = np.asarray(model.sample(32, seed=2, label="0"))
    assert all((one != sample).any() for one in made)
    assert np.mean([psnr_of(one, sample) for one in made]) > np.mean([psnr_of(one, sample) for one in others])

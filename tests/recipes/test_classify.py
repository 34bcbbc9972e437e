"""The classifier recipe: what it refuses, what it holds out, how it calibrates, what it publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.core.condition import UNLABELED
from limner.data.request import DataRequest
from limner.networks import convnet, rebuild_classifier
from limner.recipes import classify
from limner.recipes.config import ClassifierRecipe

SMALL: dict[str, Any] = {"network": convnet.TINY, "adversarial": 1.0, "generator.width": 8, "generator.z_size": 8, "batch": 16}


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


def run_of(squares: Path, out: Path, **changes: Any) -> Path:
    return limner.train(squares, recipe="classifier", images=64, out=out, device="cpu", quiet=True, changes=SMALL | changes).folder


# ---- refusals --------------------------------------------------------------------------------------------------------


def refused(data: Any, **more: Any) -> str:
    with pytest.raises(ValueError) as caught:
        classify.load_data(ClassifierRecipe(), DataRequest(data=data, **more))
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_refuses_pictures_without_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    assert "needs labeled pictures of at least two classes" in refused(images)
    assert "needs labeled pictures of at least two classes" in refused((images, np.array([3, 3, -1, -1, -1, -1, -1, -1])))
    assert "--unconditional has no meaning" in refused((images, np.arange(8) % 2), unconditional=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    few = tmp_path.parent / "one.csv"
    few.write_text("file,label\n0.png,cat\n1.png,cat\n")
    assert "at least two classes" in refused(tmp_path, labels=few)
    few.write_text("file,label\nx.png,cat\ny.png,dog\n")
    assert "labels none of the pictures" in refused(tmp_path, labels=few)


def test_other_recipes_keep_refusing_partial_labels(squares: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("file,label\n0,left\n1,right\n")
    with pytest.raises(ValueError, match="is not an array"):
        limner.train(squares, recipe="dcgan", labels=few, images=32, out=tmp_path / "run", device="cpu", quiet=True)


def test_refuses_a_batch_without_both_kinds_of_rows(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raise --batch"):
        run_of(squares, tmp_path / "run", batch=4, labeled_every=5)
    with pytest.raises(ValueError, match="raise --labeled-every"):
        run_of(squares, tmp_path / "run", labeled_every=1)


# ---- propagated labels ----------------------------------------------------------------------------------------------


def test_labels_propagate_among_all_pictures_or_labeled_ones_and_some_others() -> None:
    labels = torch.full((1000,), UNLABELED)
    labels[7::50] = 1
    assert classify.linked(labels).tolist() == list(range(1000))
    some = classify.linked(labels, 100)
    assert 80 < len(some) <= 100 and set(range(7, 1000, 50)) <= set(some.tolist()) and (np.diff(some) > 0).all()
    labels[:900] = 1
    many = classify.linked(labels, 100)
    assert len(many) <= 100 and (labels[torch.from_numpy(many)] == UNLABELED).sum() == 49


def test_pictures_that_all_have_a_class_are_learned_with_it(squares: Path, tmp_path: Path) -> None:
    logs = []
    for name, more in (("all", {}), ("few", {"labels_per_class": 4})):
        changes = {"network": convnet.TINY, "batch": 16} | more
        folder = limner.train(squares, recipe="classifier", images=64, out=tmp_path / name, device="cpu", quiet=True, changes=changes).folder
        logs.append((folder / "log.jsonl").read_text())
    assert "propagated_loss" not in logs[0] and "propagated_loss" in logs[1] and '"propagation_accuracy"' in logs[1]


# ---- held-out pictures and calibration -------------------------------------------------------------------------------


def test_few_labels_are_all_trained_on(squares: Path, tmp_path: Path) -> None:
    folder = run_of(squares, tmp_path / "run", labels_per_class=8)
    described = json.loads((folder / "limner.json").read_text())
    assert described["training"]["held_out_count"] == 0 and described["data"]["class_counts"] == [8, 8]
    assert described["metrics"] == {} and not (folder / "best").exists()
    assert limner.load(folder, "cpu").network.temperature.item() == 1


def test_held_out_pictures_measure_and_calibrate(squares: Path, tmp_path: Path) -> None:
    folder = run_of(squares, tmp_path / "run", validation=0.6)
    described = json.loads((folder / "limner.json").read_text())
    assert described["training"]["held_out_count"] == 58
    assert set(described["metrics"]) == {"accuracy", "nll", "at_images"} and (folder / "best/limner.json").exists()
    temperature = limner.load(folder, "cpu").network.temperature.item()
    assert 0.1 <= temperature <= 10 and temperature != 1


# ---- what is published -----------------------------------------------------------------------------------------------


def test_published_network_is_rebuilt(squares: Path, tmp_path: Path) -> None:
    model = limner.load(run_of(squares, tmp_path / "run"), "cpu")
    described = model.description
    assert described["kind"] == "classifier" and described["network"]["name"] == "classifier"
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    features, logits = model.network.features(x), model.network(x)
    assert features.shape == (3, 16) and logits.shape == (3, 2)
    torch.testing.assert_close(model.network.last(features), logits)
    assert (tmp_path / "run/preview.png").exists() and "limner classify" in (tmp_path / "run/README.md").read_text()
    with pytest.raises(ValueError, match="without classes"):
        rebuild_classifier(limner.load(tmp_path / "run", "cpu").spec.__class__(1, 16, 16), described["network"])


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (33, 50), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_network_takes_any_size(size: tuple[int, int], channels: int) -> None:
    from limner.core.condition import Condition
    from limner.core.images import ImageSpec

    net = convnet.Classifier(ImageSpec(channels, *size, Condition.classes(5)), convnet.TINY)
    assert net(torch.zeros(2, channels, *size)).shape == (2, 5)

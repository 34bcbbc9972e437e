"""`limner evaluate` of a classifier: which pictures it is measured on, the values, and the files it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner.apps.classify_report import held_out_pictures, measure_classifier
from limner.apps.evaluate import evaluate
from limner.data import open_source, prepare
from limner.evaluation.report import table
from sides import model_of, picture


@pytest.fixture(scope="module", autouse=True)
def _no_speed_trial() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        yield


def folders(root: Path, names: str, count: int = 6, seed: int = 0) -> Path:
    """Pictures of the three kinds in folders of one letter each."""
    rng = np.random.default_rng(seed)
    for side, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(side, rng)).save(root / name / f"{i}.png")
    return root


def test_values_files_and_the_report(tmp_path: Path) -> None:
    data = folders(tmp_path / "in", "lrd")
    for i in range(2):  # two pictures of the left in the folder of the right
        (data / f"l/{i}.png").rename(data / f"r/moved{i}.png")
    model = model_of(tmp_path / "run", classes=("d", "l", "r"))
    permuted = model.network.forward
    model.network.forward = lambda x: permuted(x)[:, [2, 0, 1]]  # type: ignore[method-assign]
    model.description["recipe"] = {"name": "classifier"}
    result, report = evaluate(model, str(data), labels=None)
    assert report == tmp_path / "run/evaluation.html" and result["accuracy"] == pytest.approx(16 / 18)
    assert result.classes["accuracy"] == pytest.approx({"d": 1, "l": 1, "r": 6 / 8})
    assert result.classes["precision"] == pytest.approx({"d": 1, "l": 4 / 6, "r": 1})
    assert result["balanced_accuracy"] == pytest.approx((1 + 1 + 0.75) / 3) and 0 < result["calibration_error"] < 1
    low, high = result.metrics[0].low, result.metrics[0].high
    assert low is not None and high is not None and low < 16 / 18 < high
    assert result.findings == ["Most often taken for another class: r for l (2)."]
    assert any("18 pictures are few" in warning for warning in result.warnings)
    for name in ("confusion.png", "mistakes.png"):
        assert Image.open(tmp_path / "run" / name).size[0] > 100
    page, document = report.read_text(), json.loads(report.with_suffix(".json").read_text())
    assert "r for l (2)" in page and page.count("data:image/png;base64") == 2 and str(tmp_path) not in page
    assert document["findings"] == result.findings and document["protocol"]["temperature"] == 2
    assert "r for l (2)" in str(table(result).caption) and table(result).row_count == 4


def test_classes_are_matched_by_name_and_unknown_ones_left_out(tmp_path: Path) -> None:
    model = model_of(tmp_path / "run", classes=("l", "r", "d"))
    model.description["recipe"] = {"name": "classifier"}
    data = folders(tmp_path / "in", "lrx")
    pictures, warnings = held_out_pictures(model, str(data))
    assert len(pictures) == 12 and any("was not trained on are left out: x" in text for text in warnings)
    (tmp_path / "known.csv").write_text("file,label\n" + "".join(f"x/{i}.png,d\n" for i in range(4)) + "l/0.png,l\n")
    result = measure_classifier(model, [str(data)], 100, labels=tmp_path / "known.csv")
    assert result.protocol["pictures"]["n"] == 5 and result["accuracy"] == 1
    assert "mistakes" not in result.pictures and not result.findings
    with pytest.raises(ValueError, match=r"None of the classes of .* they are a, b, c, and its classes are l, r, d"):
        held_out_pictures(model, str(folders(tmp_path / "other", "abc")))
    with pytest.raises(ValueError, match="has no labels to compare with"):
        held_out_pictures(model, str(data / "l"))
    with pytest.raises(ValueError, match="give one --data"):
        measure_classifier(model, [str(data), str(data)], 10)
    with pytest.raises(ValueError, match="--metrics has no meaning for a classifier, which has metrics of its own"):
        evaluate(model, str(data), ["fd"])
    with pytest.raises(ValueError, match="--weights has no meaning"):
        evaluate(model, str(data), weights=tmp_path)


def test_pictures_of_the_training_with_other_labels_are_a_warning(tmp_path: Path) -> None:
    model = model_of(tmp_path / "run", classes=("l", "r"))
    data = folders(tmp_path / "in", "lr")
    whole = prepare(open_source(str(data)), size=model.spec.size, channels=str(model.spec.channels))
    model.description["recipe"] = {"name": "classifier"}
    model.description["data"] |= {"origin": whole.origin, "count": len(whole), "fingerprint": "0" * 64}
    assert any("with other labels" in text for text in held_out_pictures(model, str(data))[1])
    model.description["data"]["count"] += 1
    assert not held_out_pictures(model, str(data))[1]


def test_the_held_out_split_of_the_data_comes_first(tmp_path: Path) -> None:
    model = model_of(tmp_path / "run", classes=("l", "r", "d"))
    model.description["recipe"] = {"name": "classifier"}
    folders(tmp_path / "in/train", "lrd", 8)
    folders(tmp_path / "in/test", "lrd", 3, seed=1)
    pictures, warnings = held_out_pictures(model, str(tmp_path / "in"))
    assert len(pictures) == 9 and not warnings and all(name.startswith("test/") for name in pictures.names)


@pytest.mark.parametrize("share", [0.25, 0.0])
def test_the_pictures_held_out_of_the_training_are_found_again(share: float, tmp_path: Path) -> None:
    data = folders(tmp_path / "in", "lr", 110)
    small = {"network.width": 8, "validation": share, "batch": 16}
    run = limner.train(data, recipe="classifier", images=1600 if share else 64, changes=small, out=tmp_path / "run", quiet=True)
    model = limner.load(run.folder, "cpu")
    result, _ = evaluate(model, str(data))
    if share:
        assert result.protocol["pictures"]["n"] == model.description["training"]["held_out_count"] == 56
        measured = model.description["metrics"]["accuracy"]  # by the training, on the same pictures
        assert result["accuracy"] == pytest.approx(measured, abs=1e-4) and result["accuracy"] > 0.8
        assert model.temperature != 1 and not any("not calibrated" in text for text in result.warnings)
    else:
        assert result.protocol["pictures"]["n"] == 220
        assert any("trained on these very pictures" in text for text in result.warnings)
        assert any("was not calibrated" in text for text in result.warnings)

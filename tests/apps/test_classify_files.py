"""A classifier in the hand: probabilities of pictures of any size and mode, tables, sheets, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.apps.class_sheets import percent
from limner.apps.classify import Classifier
from limner.apps.classify_files import classify, table
from limner.data.labels import match_labels, read_labels
from sides import CLASSES, model_of, picture


@pytest.fixture
def model(tmp_path: Path) -> Classifier:
    (tmp_path / "run").mkdir()
    return model_of(tmp_path / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in folders of the classes' numbers, two of them damaged."""
    rng = np.random.default_rng(0)
    for side, count in enumerate((7, 5, 3)):
        for i in range(count):
            path = tmp_path / "in" / f"{'lrd'[side]}" / f"a,{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(side, rng, (32, 32))).save(path)
    (tmp_path / "in/l/torn.png").write_bytes((tmp_path / "in/l/a,0.png").read_bytes()[:200])
    (tmp_path / "in/r/empty.png").write_bytes(b"")
    return tmp_path / "in"


def test_probabilities_are_the_softmax_of_logits_over_the_temperature(model: Classifier) -> None:
    rng = np.random.default_rng(1)
    x = np.stack([picture(side, rng) for side in (0, 1, 2, 0)])[:, None]
    found = model.classify(x)
    logits = model.network(torch.from_numpy(x).float() / 127.5 - 1).double()
    np.testing.assert_allclose(found, (logits / 2).softmax(1).numpy(), rtol=1e-5)
    assert found.dtype == np.float64 and found.argmax(1).tolist() == [0, 1, 2, 0] and model.temperature == 2
    assert model.classify(x[:0]).shape == (0, 3) and model.encode(x).shape == (4, 2)
    many = model.classify(np.repeat(x, 40, 0))  # over several chunks
    np.testing.assert_allclose(many, np.repeat(found, 40, 0), rtol=1e-6)


def test_pictures_are_prepared_as_those_of_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    image = picture(1, rng, (64, 64))
    model = model_of(tmp_path)
    plain = model.classify(image[None])
    assert plain.argmax() == 1
    sixteen = Image.fromarray(image.astype(np.uint16) * 257)
    modes = {"L": Image.fromarray(image), "RGB": Image.fromarray(image).convert("RGB"), "I;16": sixteen,
             "P": Image.fromarray(image).convert("P"), "CMYK": Image.fromarray(image).convert("RGB").convert("CMYK")}  # fmt: skip
    for mode, one in modes.items():
        one.save(path := tmp_path / f"{mode[0]}.{'tif' if mode == 'CMYK' else 'png'}")
        np.testing.assert_allclose(model.classify(path), plain, atol=0.02, err_msg=mode)
    assert model.classify([modes["L"], str(tmp_path / "R.png"), image[None]]).shape == (3, 3)
    wide = np.concatenate([np.full((16, 16), 20, np.uint8), picture(1, rng), np.full((16, 16), 20, np.uint8)], 1)
    assert model.classify(wide[None]).argmax() == 1  # the center is cropped
    assert model_of(tmp_path, fit="pad", background="black").classify(wide[None]).argmax() == 2  # dark above and below
    clear = Image.merge("LA", [Image.new("L", (16, 16), 0), Image.new("L", (16, 16), 0)])
    on_white, on_black = (model_of(tmp_path, background=color).classify(clear) for color in ("white", "black"))
    assert on_black.argmax() == 2 and on_white[0, 2] < 0.01
    assert model_of(tmp_path, channels=3).prepared(image[None]).shape == (1, 3, 16, 16)
    for size in ((1, 1), (4000, 30)):
        assert np.isfinite(model.classify(Image.new("RGB", size[::-1]))).all()


@pytest.mark.parametrize("given", [np.zeros((16, 16), np.uint8), np.zeros((2, 16, 16), np.uint8), np.zeros((1, 16, 16))])
def test_what_is_no_picture_is_refused(model: Classifier, given: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[C,H,W\] with 1, 3 or 4 channels"):
        model.classify([given])


def test_damaged_weights_are_told(model: Classifier) -> None:
    model.network.forward = lambda x: torch.full((len(x), 3), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="outputs are not finite"):
        model.classify(np.zeros((1, 1, 16, 16), np.uint8))


def test_a_folder_becomes_a_table_and_damaged_files_are_listed(model: Classifier, folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found, line = classify(model, folder, tmp_path / "t.csv", tmp_path / "sheet.png", say=told.append)
    assert len(found) == 15 and "15 pictures are classified; 2 were skipped" in line and "t.csv" in line
    assert sorted(told) == ["Skipped l/torn.png: truncated: the file ends too early.", "Skipped r/empty.png: empty file."]
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "probability", *CLASSES]
    for row in rows:
        expected = CLASSES["lrd".index(row["file"][0])]
        assert row["label"] == expected and float(row["probability"]) == max(float(row[name]) for name in CLASSES)
        assert sum(float(row[name]) for name in CLASSES) == pytest.approx(1, abs=3e-6)
    assert read_labels((tmp_path / "t.csv").read_bytes(), "t.csv")["l/a,0.png"] == CLASSES[0]  # as --labels reads it
    image = Image.open(tmp_path / "sheet.png")
    assert image.height > 3 * 72 and image.width > 7 * 72


def test_json_and_only_the_first_classes(model: Classifier, folder: Path, tmp_path: Path) -> None:
    quiet: list[str] = []
    classify(model, folder, tmp_path / "t.json", top=2, say=quiet.append)
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert len(rows) == 15 and all(len(row["probabilities"]) == 2 and row["label"] in row["probabilities"] for row in rows)
    classify(model, folder, tmp_path / "all.json", say=quiet.append)
    assert list(json.loads((tmp_path / "all.json").read_text())[0]["probabilities"]) == list(CLASSES)
    classify(model, folder, tmp_path / "t.csv", top=2, say=quiet.append)
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "probability", "label_2", "probability_2"]
    assert all(float(r["probability"]) >= float(r["probability_2"]) and r["label"] != r["label_2"] for r in rows)
    with pytest.raises(ValueError, match="--top 1 or more"):
        classify(model, folder, top=0)


def test_a_file_a_zip_and_arrays(model: Classifier, folder: Path, tmp_path: Path, squares: Path) -> None:
    found, line = classify(model, folder / "r/a,0.png")
    assert found.names == ["a,0.png"] and found.label(0) == CLASSES[1] and line == "1 picture is classified."
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(folder.rglob("a*.png")):
            archive.write(path, path.relative_to(folder))
    inside, _ = classify(model, tmp_path / "some.zip")
    whole, _ = classify(model, folder, say=lambda _: None)
    assert inside.names == whole.names and np.array_equal(inside.probabilities, whole.probabilities)
    arrays, _ = classify(model, squares)
    assert len(arrays) == 96 and set(arrays.predicted.tolist()) <= {0, 1, 2}
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match=r"^torn\.png cannot be used: "):
        classify(model, tmp_path / "torn.png")
    with pytest.raises(ValueError, match=r"does not exist: give a picture, a folder or a zip\.$"):
        classify(model, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"written as \.csv or \.json, not as 't\.txt'"):
        classify(model, folder, tmp_path / "t.txt")


def test_the_terminal_shows_the_first_ones(model: Classifier, folder: Path) -> None:
    found, _ = classify(model, folder, say=lambda _: None)
    drawn = table(found, rows=4)
    assert drawn.row_count == 4 and "The first 4 of 15" in str(drawn.caption)
    assert next(iter(drawn.columns[1].cells)) == CLASSES[2] and next(iter(drawn.columns[2].cells)).endswith(" %")
    assert [percent(p) for p in (1.0, 0.9999, 0.532, 0.0004)] == ["99.9 %", "99.9 %", "53.2 %", "0.0 %"]


def test_accuracy_and_confusion_by_folders_and_by_a_file(folder: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path, classes=("l", "r", "d"))
    shutil.move(folder / "l/a,0.png", folder / "r/moved.png")  # one picture in the wrong folder
    _, line = classify(model, folder, confusion=tmp_path / "c.png", say=lambda _: None)
    assert "93.3% of 15 with a label are right" in line and "expected calibration error" in line
    assert Image.open(tmp_path / "c.png").mode == "RGB"
    (folder / "unlabeled").mkdir()
    shutil.copy(folder / "l/a,1.png", folder / "unlabeled/new.png")
    told: list[str] = []
    _, line = classify(model, folder, confusion=tmp_path / "c.png", say=told.append)
    assert "of 15 with a label are right" in line and not any("not trained on" in text for text in told)
    shutil.rmtree(folder / "unlabeled")
    (tmp_path / "few.csv").write_text('file,label\n"l/a,1.png",l\n"r/a,1.png",l\n"d/a,1.png",x\n')
    told = []
    _, line = classify(model, folder, labels=tmp_path / "few.csv", say=told.append)
    assert "50.0% of 2 with a label are right" in line and any("was not trained on are left out of the accuracy: x" in t for t in told)
    (tmp_path / "none.csv").write_text("file,label\nz.png,l\n")
    with pytest.raises(ValueError, match="labels none of the pictures"):
        classify(model, folder, labels=tmp_path / "none.csv")
    with pytest.raises(ValueError, match="None of the labels is a class of this classifier: they are d, l, r, and its classes"):
        classify(model_of(tmp_path), folder, confusion=tmp_path / "c.png", say=lambda _: None)
    with pytest.raises(ValueError, match="has no labels to compare with"):
        classify(model, folder / "d", confusion=tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"a \.png"):
        classify(model, folder, confusion=tmp_path / "c.jpg")


def test_pictures_to_label_next(model: Classifier, folder: Path, tmp_path: Path) -> None:
    found, line = classify(model, folder, suggestions=6, say=lambda _: None)
    path = model.folder / "suggestions.csv"
    assert "6 pictures to label next are in" in line and path.with_suffix(".png").exists()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "predicted", "probability"] and len({r["file"] for r in rows}) == 6
    assert all(r["label"] == "" and r["predicted"] in CLASSES for r in rows)
    first = path.read_bytes()
    classify(model, folder, suggestions=6, say=lambda _: None)
    assert path.read_bytes() == first  # the same every time
    filled = first.decode().replace(",,", ",cat,", 3)
    (tmp_path / "filled.csv").write_text(filled)
    assert set(read_labels(filled.encode(), "f.csv").values()) == {"", "cat"}
    _, line = classify(model, folder, suggestions=100, labels=tmp_path / "filled.csv", say=lambda _: None)
    assert "12 pictures to label next" in line and "all that have no label" in line
    with path.open(newline="") as file:
        assert not {r["file"] for r in rows[:3]} & {r["file"] for r in csv.DictReader(file)}
    for more, said in (({"suggestions": 0}, "--suggest 1 or more"), ({"out": tmp_path / "a.json"}, r"as a \.csv"),
                       ({"confusion": tmp_path / "a.png"}, "leave one out")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            classify(model, folder, **{"suggestions": 3} | more)


def test_a_name_that_a_spreadsheet_would_run_is_escaped_and_found_again(model: Classifier, tmp_path: Path) -> None:
    name = "=1+1.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "plain.png")
    found, _ = classify(model, tmp_path, tmp_path / "t.csv", say=lambda _: None)
    assert name in found.names
    text = (tmp_path / "t.csv").read_text()
    assert "\n./=1+1.png," in text and "\nplain.png," in text
    assert match_labels([name], read_labels(text.encode(), "t.csv")) == [found.label(found.names.index(name))]

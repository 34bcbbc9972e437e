"""A trained thing in the hand: the same seed, labels, endings, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file, save_file

import limner
from limner.apps.sample import sample, slerp
from limner.apps.show import table
from limner.evaluation import Result
from limner.evaluation.report import table as report_table


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=64, recipe="spectral", changes={"network.width": 8}, out=out)
    return out


def test_the_same_seed_gives_the_same_pictures(run: Path) -> None:
    model = limner.load(run)
    a, b, c = model.sample(5, seed=3), model.sample(5, seed=3), model.sample(5, seed=4)
    assert a.shape == (5, 1, 16, 16) and a.dtype == np.uint8
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert np.array_equal(limner.load(run).sample(5, seed=3), a)


def test_labels_by_name_number_and_all(run: Path) -> None:
    model = limner.load(run)
    names = model.classes
    assert len(names) == 2
    assert np.array_equal(model.sample(3, label=names[1]), model.sample(3, label=1))
    rng = np.random.default_rng(0)
    labels = model.labels(10, "all", rng)
    assert labels is not None and labels.tolist() == [0] * 5 + [1] * 5
    assert model.labels(3, np.array([1, 0, 1]), rng).tolist() == [1, 0, 1]
    for label in ("nobody", 2, -1):
        with pytest.raises(ValueError, match=r"\.$"):
            model.sample(1, label=label)


def test_classes_that_differ_in_case_only_are_told_apart(run: Path) -> None:
    model = limner.load(run)
    for classes, label, number in ((["A", "a"], "A", 0), (["A", "a"], "a", 1), (["Cat", "dog"], "CAT", 0)):
        model.classes = classes
        assert model.labels(2, label, np.random.default_rng(0)).tolist() == [number] * 2


def test_truncated_latents_stay_within(run: Path) -> None:
    model = limner.load(run)
    assert np.abs(model.latents(200, np.random.default_rng(0), 0.7)).max() <= 0.7
    with pytest.raises(ValueError, match="above 0"):
        model.sample(1, truncation=0)


def test_every_ending(run: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    sample(model, tmp_path / "sheet.png", 6)
    assert Image.open(tmp_path / "sheet.png").mode == "L"
    sample(model, tmp_path / "many", 3)
    assert [p.name for p in sorted((tmp_path / "many").iterdir())] == ["000000.png", "000001.png", "000002.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "many/000001.png")), model.sample(3)[1, 0])
    sample(model, tmp_path / "all.zip", 3)
    assert len(zipfile.ZipFile(tmp_path / "all.zip").namelist()) == 3
    for ending in ("gif", "webp"):
        sample(model, tmp_path / f"walk.{ending}", 4, seconds=1)
        film = Image.open(tmp_path / f"walk.{ending}")
        assert film.n_frames > 8
    (tmp_path / "samples.v2").mkdir()
    sample(model, tmp_path / "samples.v2", 2)
    assert len(list((tmp_path / "samples.v2").iterdir())) == 2
    model.network = None  # what it refuses, it refuses before it draws
    with pytest.raises(ValueError, match=r"not as 'x\.bmp'"):
        sample(model, tmp_path / "x.bmp", 1)
    with pytest.raises(ValueError, match="At least one"):
        sample(model, tmp_path / "x.png", 0)


def test_a_walk_keeps_the_length_of_latents_and_closes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50, 256)).astype(np.float32)
    middle = slerp(a, b, 0.5)
    assert np.linalg.norm(middle, axis=1).mean() == pytest.approx(16, rel=0.05)
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-4)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-4)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-4, 1.0, 3.1, np.pi - 1e-5, np.pi])
def test_a_walk_in_the_plane_keeps_lengths_whatever_the_angle(turn: float) -> None:
    a, b = np.array([[3.0, 0.0]], np.float32), np.array([[2 * np.cos(turn), 2 * np.sin(turn)]], np.float32)
    steps = np.concatenate([slerp(a, b, t) for t in np.linspace(0, 1, 101)])
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), np.linspace(3, 2, 101), rtol=1e-5)
    np.testing.assert_allclose(steps[[0, -1]], np.concatenate([a, b]), atol=1e-4)
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 0.01 + 3 * turn / 100 + 1e-3


def test_the_run_folder_describes_itself(run: Path) -> None:
    description = json.loads((run / "limner.json").read_text())
    assert description["data"]["count"] == 96 and description["recipe"]["network"]["width"] == 8
    assert description["training"]["images"] == 64 and description["license"] is None
    card = (run / "README.md").read_text()
    assert "license:" in card and "tags: [image-generation, gan, limner]" in card and "96 pictures of 16x16" in card and "limner.load" in card
    assert (run / "preview.png").exists() and (run / "progress.webp").exists()
    assert Image.open(run / "progress.webp").n_frames > 2


# ---- a stranger's folder ---------------------------------------------------------------------------------------------


def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def change(folder: Path, edit) -> None:
    description = json.loads((folder / "limner.json").read_text())
    edit(description)
    (folder / "limner.json").write_text(json.dumps(description))


def huge(d: dict) -> None:
    d["network"]["config"]["width"] = 10**7


def another(d: dict) -> None:
    d["network"]["config"]["width"] = 16


def unknown(d: dict) -> None:
    d["network"]["architecture"] = "os"


def bare(d: dict) -> None:
    del d["data"]


def newer(d: dict) -> None:
    d["format"] = 99


def test_names_are_never_markup(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run [old]"
    shutil.copytree(run, folder)
    change(folder, lambda d: d["data"].update(name="pics [old]", origin="the folder [/INST]", classes=["[red]", "[/]"]))
    console = Console(width=200)
    with console.capture() as said:
        console.print(table(folder))
        console.print(report_table(Result([], {}, {}, [], title="pics [old] (9) against [/INST]")))
    text = said.get()
    assert all(part in text for part in ("run [old]", "pics [old]: 96", "[/INST]", "[red], [/]", "pics [old] (9) against [/INST]"))


@pytest.mark.parametrize("edit", [huge, another, unknown, bare, newer])
def test_a_changed_description_is_refused_before_anything_is_allocated(edit, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    change(folder, edit)
    with pytest.raises(ValueError, match=r"^[^\n]+\.$|pip install"):
        limner.load(folder)


def test_damaged_or_changed_weights_are_refused(run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    weights = folder / "weights.safetensors"
    tensors = load_file(weights)
    save_file({k: v.astype(np.float64) for k, v in tensors.items()}, weights)
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    save_file(dict(list(tensors.items())[1:]), weights)
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    weights.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    weights.unlink()
    with pytest.raises(ValueError, match=r"holds no weights\.safetensors"):
        limner.load(folder)


def test_no_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no folder"):
        limner.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a trained run"):
        limner.load(tmp_path)

"""A trained thing in the hand: the same seed, labels, endings, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file, save_file

import limner
from limner.apps.sample import sample, slerp
from limner.apps.show import table
from limner.apps.typical import Typicality, reduced
from limner.core import artifact
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.evaluation import Result
from limner.evaluation.report import table as report_table


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=64, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out)
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


def test_fewer_pictures_are_the_first_of_more(run: Path) -> None:
    """However many are asked for at once, and of whatever classes."""
    model = limner.load(run, "cpu")
    model._precision = torch.float32  # without autocast, rows do not depend on their batch but in the last bit
    for truncation in (None, 0.5):
        many, few = (model.sample(n, seed=1, truncation=truncation).astype(int) for n in (70, 5))
        assert np.abs(many[:5] - few).max() <= 1
        alone = model.sample(3, seed=1, truncation=truncation, label=1).astype(int)
        assert np.abs(model.sample(66, seed=1, truncation=truncation, label=1)[:3].astype(int) - alone).max() <= 1


def test_truncation_chooses_typical_samples_among_untouched_latents(run: Path) -> None:
    model, given = limner.load(run, "cpu"), []
    rank = lambda pictures: model._ranks(np.asarray(pictures), np.zeros(len(pictures), int))  # noqa: E731
    plain, chosen = model.sample(200, label=0), model.sample(200, label=0, truncation=0.3)
    assert rank(chosen).max() <= 0.3 and 0.25 < rank(plain).mean() < 0.75
    model.inference.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.sample(64, label=0, truncation=0.3)
    z = torch.cat(given)
    assert z.square().mean() == pytest.approx(1, abs=0.05) and 80 < len(z) < 500  # as long as drawn ones, about n / 0.3
    assert np.array_equal(model.sample(4, truncation=1.0), model.sample(4))


def test_a_mode_of_its_own_is_not_what_truncation_takes_for_an_outlier() -> None:
    """Two kinds of pictures, one of them rare, and noise: either kind stays, noise goes."""
    random = torch.Generator().manual_seed(0)
    left, right = torch.zeros(900, 1, 16, 16), torch.zeros(100, 1, 16, 16)
    left[..., :8], right[..., 8:] = 200, 200
    pictures, new = ((torch.cat([left, right]) + 20 * torch.rand(1000, 1, 16, 16, generator=random)).to(torch.uint8) for _ in range(2))
    typical = Typicality(reduced, pictures, 4)
    for kind in (new[:900], new[900:]):
        assert 0.4 < typical.rank(kind).mean() < 0.6
    noise = torch.randint(0, 256, (50, 1, 16, 16), generator=random, dtype=torch.uint8)
    assert typical.rank(noise).min() == 1
    assert Typicality(reduced, torch.zeros(300, 3, 20, 30, dtype=torch.uint8), 16).rank(torch.zeros(2, 3, 20, 30, dtype=torch.uint8)).max() == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"truncation": float("nan")}, "0.05 to 1, not nan"),
        ({"truncation": 1e-9}, "0.05 to 1, not 1e-09"),
        ({"truncation": 2.0}, "0.05 to 1"),
        ({"seed": 1.5}, "seed is a whole number"),
        ({"seed": -1}, "from 0 up"),
        ({"n": 1.5}, "whole number, not 1.5"),
        ({"n": 10**9}, "At most 10,000,000"),
    ],
)
def test_numbers_out_of_range_are_refused(more: dict, sentence: str, run: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        limner.load(run).sample(**{"n": 1, **more})


def test_films_and_sheets_too_large_are_refused_before_they_are_drawn(run: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    model.network = None
    for name, seconds in (("a.gif", -1.0), ("a.mp4", 1e9), ("a.webp", float("inf")), ("a.gif", float("nan"))):
        with pytest.raises(ValueError, match="at most 600 seconds"):
            sample(model, tmp_path / name, 4, seconds=seconds)
    model.spec = ImageSpec(3, 256, 256, Condition.classes(2))
    with pytest.raises(ValueError, match=r"GB of memory: write an \.mp4"):
        sample(model, tmp_path / "a.gif", 64, seconds=60.0)
    for name, n in (("a.png", 1_000_000), ("a.jpg", 100_000), ("a.webp", 10_000)):
        with pytest.raises(ValueError, match="write to a folder"):
            sample(model, tmp_path / name, n)
    with pytest.raises(ValueError, match="Only a walk has"):
        sample(model, tmp_path / "a.png", 4, seconds=2.0)
    assert not list(tmp_path.iterdir())


def test_sheets_in_every_format_and_columns(run: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    sizes = set()
    for name in ("a.png", "a.jpg", "a.webp"):
        sample(model, tmp_path / name, 6, columns=3)
        with Image.open(tmp_path / name) as sheet:
            sizes.add(sheet.size)
            exact = np.asarray(sheet.convert("L")).astype(int)
            assert sheet.format == {"a.png": "PNG", "a.jpg": "JPEG", "a.webp": "WEBP"}[name]
            if name != "a.png":
                assert np.abs(exact - np.asarray(Image.open(tmp_path / "a.png")).astype(int)).mean() < 4
    assert sizes == {(3 * 64 + 2 * 2, 2 * 64 + 2)}
    with pytest.raises(ValueError, match="Only a sheet has columns"):
        sample(model, tmp_path / "a.zip", 6, columns=3)


def test_a_sheet_of_all_classes_has_a_row_a_class(run: Path, tmp_path: Path) -> None:
    """Also where the number of pictures is no multiple of theirs: 64 of ten classes began rows with another's pictures."""
    model, cell = limner.load(run), 64  # 16 pixels, enlarged four times
    sample(model, tmp_path / "a.png", 5, label="all")
    with Image.open(tmp_path / "a.png") as sheet:
        shown, gap = np.asarray(sheet), 2
    assert shown.shape == (2 * cell + gap, 3 * cell + 2 * gap)
    made = model.sample(5, label="all")
    for i, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):  # three of the first class, two of the second
        top, left = row * (cell + gap), column * (cell + gap)
        assert np.array_equal(shown[top : top + cell : 4, left : left + cell : 4], made[i, 0])
    assert (shown[cell + gap :, 2 * (cell + gap) :] == 255).all()


def test_samples_go_beside_the_run_and_never_over_its_own_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy(run, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = limner.load(folder)
    assert str(folder / "samples.png") in sample(model, n=2) and (folder / "samples.png").exists()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for out in (folder, folder / "preview.png", folder / "samples", folder / "samples/x.png", folder / "progress.webp"):
        with pytest.raises(ValueError, match="belongs to the run itself"):
            sample(model, out, 2)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not list((tmp_path / "here").iterdir())


def test_many_pictures_are_written_as_they_are_made(run: Path, tmp_path: Path) -> None:
    model, seen = limner.load(run), []
    sample(model, tmp_path / "many", 150, progress=lambda done, total: seen.append((done, total, len(list((tmp_path / "many").iterdir())))))
    assert seen == [(64, 150, 64), (128, 150, 128), (150, 150, 150)]


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
        sample(model, tmp_path / f"walk.{ending}", 4, seconds=1, truncation=0.5 if ending == "gif" else None)
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
    assert description["data"]["count"] == 96 and description["recipe"]["generator"]["width"] == 8
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


def seal(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Write weights as `artifact.save` does, with the digest of their content."""
    digest = artifact.content_hash({name: torch.from_numpy(value) for name, value in tensors.items()})
    save_file(tensors, path, {"sha256": digest})


def test_damaged_or_changed_weights_are_refused(run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    weights = folder / "weights.safetensors"
    tensors = load_file(weights)
    seal({k: v.astype(np.float64) for k, v in tensors.items()}, weights)
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    seal(dict(list(tensors.items())[1:]), weights)
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    seal({**tensors, "more": np.zeros(8)}, weights)
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    save_file(tensors, weights)
    with pytest.raises(ValueError, match="does not fit its SHA-256"):
        limner.load(folder)
    seal(tensors, weights)
    limner.load(folder)
    content = bytearray(weights.read_bytes())
    content[-100] ^= 64  # one bit
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="does not fit its SHA-256"):
        limner.load(folder)
    name = next(key for key, value in tensors.items() if value.dtype == np.float32)
    tensors[name].flat[0] = np.nan
    seal(tensors, weights)
    with pytest.raises(ValueError, match="not finite"):
        limner.load(folder)
    weights.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="does not fit its description"):
        limner.load(folder)
    weights.unlink()
    with pytest.raises(ValueError, match=r"holds no weights\.safetensors"):
        limner.load(folder)


def test_outputs_that_are_no_numbers_are_refused(run: Path) -> None:
    model = limner.load(run)
    for parameter in model.network.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="its weights are damaged"):
        model.sample(2)


def test_no_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no folder"):
        limner.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a trained run"):
        limner.load(tmp_path)

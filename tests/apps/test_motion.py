"""Clips through the command line: train, sample, animate, evaluate, walk; loops, durations; sentences where a verb does not apply."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner as package
from clips import around, folder, write
from limner.apps import motion, sample
from limner.apps.editing.path import film
from limner.apps.evaluate import prepare_like_training
from limner.cli import app, main
from limner.core.images import ImageSpec, grid_size
from limner.core.machine import Machine
from limner.data.clips import prepare_clips
from limner.families.load import load
from limner.recipes.motion import clip_rows
from limner.runs import decide

SMALL = ["--batch", "8", *(part for name in ("generator", "discriminator", "pair-discriminator", "encoder") for part in (f"--{name}.width", "8"))]


def limner(*arguments: object, code: int = 0) -> None:
    if "train" in app:  # a process makes it once, for one recipe
        del app["train"]
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert (ended.value.code or 0) == code


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("clips") / "clips", 20)


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "measure", lambda *a, **k: 100.0)
        place = tmp_path_factory.mktemp("runs") / "run"
        limner("train", clips, "--recipe", "motion", "--images", 24, "--device", "cpu", "--threads", 1, "--quiet", "--metric", "none",
               "--out", place, *SMALL)  # fmt: skip
    return place


def frames(path: Path) -> tuple[np.ndarray, list[int]]:
    """The frames of a film, uint8 [T,H,W,3], and how long each is shown in ms."""
    with Image.open(path) as image:
        made, shown = [], []
        for k in range(image.n_frames):
            image.seek(k)
            made.append(np.asarray(image.convert("RGB")))
            shown.append(int(image.info["duration"]))
    return np.stack(made), shown


def test_a_run_describes_its_clips_and_previews_rows_of_frames(run: Path, clips: Path) -> None:
    described = json.loads((run / "limner.json").read_text())
    assert described["kind"] == "generator" and described["network"]["architecture"] == "motion"
    assert described["network"]["period"] == pytest.approx(0.8) and described["data"]["count"] == 160
    assert described["training"]["held_out_count"] == 16 and "20 clips" in described["data"]["origin"]
    model = load(run, "cpu")
    z = torch.randn(3, model.z_size)
    machine = Machine(torch.device("cpu"), torch.float32, None)  # type: ignore[arg-type]
    rows = clip_rows(model.network, z, 4, machine)
    alone = clip_rows(model.network, z[1:2], 4, machine)
    assert rows.shape == (12, 3, 16, 16) and np.abs(rows[4:8].astype(int) - alone).max() <= 1
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any({"d_loss", "pair_d_loss", "g_loss", "pair_g_loss"} <= entry.keys() for entry in entries)


def test_the_last_frame_of_a_loop_is_followed_by_the_first(run: Path) -> None:
    model = load(run, "cpu")
    at = sample.times(model, 12, 1.0, loop=True)
    made = list(motion.clips(model, 3, 5, np.append(at, at[1] * 12)))
    assert np.array_equal(made[0], made[-1]) and not np.array_equal(made[0], made[6])
    assert np.array_equal(made[0], model.sample(3, seed=5))  # a clip begins with the sample of its seed
    typical = next(motion.clips(model, 2, 5, at, truncation=0.5))
    assert typical.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_sampled_clips_last_what_was_asked_for(ending: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"a.{ending}"
    limner("sample", run, "-n", 2, "--seconds", 1.5, "--fps", 12, "--out", out, "--loop", "--device", "cpu")
    made, shown = frames(out)
    assert len(made) == 18 and sum(shown) == 1500 and "2 clips of 18 frames, 1.5 seconds, a loop" in capsys.readouterr().out
    limner("sample", run, "-n", 1, "--seconds", 0.6, "--out", out, "--device", "cpu")
    assert "a loop" not in capsys.readouterr().out and sum(frames(out)[1]) == 600  # three quarters of a period


def test_speed_is_that_of_the_training_clips_or_the_nearest_that_closes(run: Path) -> None:
    model = load(run, "cpu")
    assert sample.period_of(model) == pytest.approx(0.8)
    assert sample.times(model, 10, 2.0, loop=False)[-1] == pytest.approx(2.5 * 0.9)
    assert sample.times(model, 10, 2.0, loop=True)[-1] == pytest.approx(2 * 0.9)
    assert sample.times(model, 10, 0.1, loop=True)[-1] == pytest.approx(0.9)  # once around at least
    assert sample.paces(24, 1.0).count(40) == 20 and sum(sample.paces(24, 1.0)) == 1000  # a GIF keeps tens of milliseconds


def test_a_film_of_clips_is_the_default_and_pictures_are_frames(run: Path, tmp_path: Path) -> None:
    limner("sample", run, "-n", 4, "--device", "cpu")
    made, shown = frames(run / "clips.gif")
    assert len(made) == 19 and sum(shown) == 800
    limner("sample", run, "-n", 4, "--out", tmp_path / "sheet.png", "--device", "cpu")
    assert (tmp_path / "sheet.png").exists()


def test_more_than_64_clips_are_all_in_the_film(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limner("sample", run, "-n", 70, "--columns", 10, "--fps", 10, "--out", tmp_path / "clips.gif", "--device", "cpu")
    assert "70 clips of 8 frames" in capsys.readouterr().out
    made, _ = frames(tmp_path / "clips.gif")
    assert made.shape[1:3] == grid_size(70, 16, 16, 10)
    last = made[0, -17:-1, -17:-1]  # within the last of 7 rows of 10
    assert last.std() > 0, "the last clip is no empty place"
    limner("sample", run, "-n", 10**8, "--out", tmp_path / "clips.mp4", "--device", "cpu", code=2)
    assert "a side takes at most 16,383: ask for fewer" in capsys.readouterr().err


def test_mp4(run: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    limner("sample", run, "-n", 4, "--seconds", 2, "--fps", 24, "--out", tmp_path / "a.mp4", "--device", "cpu")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 48 and float(container.streams.video[0].average_rate) == 24
    assert prepare_clips(tmp_path).seconds.tolist() == pytest.approx([2.0], abs=0.05)


def test_a_picture_is_set_in_motion_and_comes_back(run: Path, tmp_path: Path) -> None:
    place = shutil.copytree(run, tmp_path / "run")
    model = load(place, "cpu")
    latent = model.invert(model.sample(1, seed=3)[0], encoder=False, steps=3)
    latent.save(tmp_path / "a.latent.npz")
    limner("animate", place, tmp_path / "a.latent.npz", "--out", tmp_path / "a.gif", "--fps", 10, "--device", "cpu")
    assert len(frames(tmp_path / "a.gif")[0]) == 8
    made = list(motion.frames(model, latent, np.array([0.0, 0.4, 1.0])))
    assert np.array_equal(made[0], made[2]) and np.array_equal(made[0], model.render(latent)[0])
    said = film(model, [latent, latent], tmp_path / "walk.gif", 0.8, loop=True, fps=10)  # between equal keys only the time goes on
    walked, _ = frames(tmp_path / "walk.gif")
    assert "loop" in said and len(np.unique(walked.reshape(len(walked), -1), axis=0)) > 4


def test_frames_of_clips_are_the_real_pictures_of_an_evaluation(run: Path, clips: Path, tmp_path: Path) -> None:
    found = prepare_like_training(load(run, "cpu"), str(clips), (16, 16))
    assert len(found) == 160 and found.spec == ImageSpec(3, 16, 16)
    limner("evaluate", run, "--data", clips, "--metrics", "fd", "--features", "lowpass", "-n", 60, "--out", tmp_path / "r.html", "--device", "cpu")
    values = json.loads((tmp_path / "r.json").read_text())
    assert any(key.startswith("fd") for key in json.dumps(values).replace('"', " ").split())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train CLIPS --recipe motion --labels x.csv", "--labels has no meaning to a recipe that is trained on clips"),
        ("train CLIPS --recipe motion --captions x.csv", "--captions has no meaning"),
        ("sample RUN --out a.gif --columns -1", "at least 1 column"),
        ("train CLIPS CLIPS --recipe motion", "trained on one set"),
        ("sample RUN --label x --out a.gif", "has no classes"),
        ("sample RUN --seconds 1 --out a.png", "A clip is written to a .gif, .webp or .mp4"),
        ("sample RUN --fps 200 --out a.gif", "from 1 to 50 frames a second"),
        ("animate RUN nothing.png", "There is no file"),
        ("animate STILL nothing.png", "train a generator on clips, with --recipe motion"),
    ],
)
def test_what_does_not_apply_is_a_sentence(
    command: str, message: str, run: Path, clips: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    if "STILL" in command:
        package.train(squares, recipe="spectral", images=8, batch=8, changes={"generator.width": 4, "discriminator.width": 4},
                      out=tmp_path / "still", quiet=True, device="cpu", threads=1, metric="none", doctor=False)  # fmt: skip
        capsys.readouterr()
    words = command.replace("RUN", str(run)).replace("CLIPS", str(clips)).replace("STILL", str(tmp_path / "still")).split()
    limner(*words, *(["--device", "cpu"] if words[0] != "train" else ["--quiet"]), code=2)
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_changed_clip_is_named_when_a_run_is_resumed(run: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, changed = shutil.copytree(run, tmp_path / "run"), shutil.copytree(clips, tmp_path / "clips")
    write(changed / "3.gif", around(8, color=(0, 0, 255)))
    limner("train", changed, "--recipe", "motion", "--images", 24, "--device", "cpu", "--threads", 1, "--quiet", "--metric", "none",
           "--out", place, *SMALL, code=2)  # fmt: skip
    said = capsys.readouterr().err
    assert "8 changed" in said and "3.gif#0" in said


def test_a_few_clips_are_trained_on_and_said_to_be_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    write(tmp_path / "clips/a.gif", around())
    write(tmp_path / "clips/b.webp", around(6))
    limner("train", tmp_path / "clips", "--recipe", "motion", "--images", 8, "--device", "cpu", "--threads", 1, "--metric", "none", "--out",
           tmp_path / "run", *SMALL)  # fmt: skip
    assert "2 clips are few" in capsys.readouterr().err


def test_a_run_is_one_page_that_draws_frames(run: Path, tmp_path: Path) -> None:
    report = package.export(run, tmp_path / "page.html")
    assert report.path.exists() and "differs from PyTorch" in str(report)

"""`limner evaluate` on a run, on folders, and on what cannot be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner.apps.evaluate import evaluate, metric_curve, prepare_like_training
from limner.evaluation.report import curves


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=1600, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out)
    return out


def test_a_run_against_its_data_with_the_curve_of_its_training(run: Path, squares: Path) -> None:
    result, report = evaluate(limner.load(run, "cpu"), str(squares), ["fd", "mmd"], ["convolutions"], n=90)
    assert np.isfinite(result["fd_convolutions"]) and len(result.generated) == 90
    page = report.read_text()
    assert report == run / "evaluation.html" and "data:image/png;base64" in page and "http" not in page.split("<body", 1)[1]
    assert len(result.curve) > 5 and "fd_convolutions" in result.curve[0]
    assert all(set(point) == {"images", "fd_convolutions"} for point in result.curve)
    content = json.loads((run / "evaluation.json").read_text())
    assert content["protocol"]["features"][0]["name"] == "convolutions"
    assert result.warnings  # 90 pictures mean little, and it says so


def test_what_the_doctor_said_at_a_moment_of_the_metric_is_no_curve(tmp_path: Path) -> None:
    finding = {"finding": "mode-collapse", "message": "x", "advice": "y", "action": ""}
    lines = [{"images": i, "logit_gap": 0.5, "fd_own": 3.0 - i} | ({"doctor": finding} if i else {}) for i in range(2)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"images": 2, "logit_gap": 1.0}]))
    points = metric_curve(tmp_path)
    assert points == [{"images": 0, "fd_own": 3.0}, {"images": 1, "fd_own": 2.0}]
    assert "fd_own" in curves(points)


def test_the_metric_is_watched_and_the_best_kept(run: Path) -> None:
    entries = [json.loads(line) for line in (run / "log.jsonl").open()]
    values = {e["images"]: e["fd_convolutions"] for e in entries if "fd_convolutions" in e}
    assert len(values) > 5
    best = json.loads((run / "best/limner.json").read_text())
    lowest = min((v, at) for at, v in values.items() if at)
    assert best["metrics"] == {"fd_convolutions": lowest[0], "at_images": lowest[1]}
    assert limner.load(run / "best").sample(2).shape == (2, 1, 16, 16)
    described = json.loads((run / "limner.json").read_text())
    assert described["metrics"]["at_images"] == max(values)


def test_real_pictures_are_brought_to_their_shape_as_in_training(run: Path, tmp_path: Path) -> None:
    Image.new("LA", (32, 16), (200, 0)).save(tmp_path / "clear.png")
    model = limner.load(run)
    for how, seen in (({}, [255, 255]), ({"background": "black"}, [0, 0])):
        model.description["data"] |= how
        assert prepare_like_training(model, str(tmp_path), (16, 16)).images[0, 0, 8, [0, 8]].tolist() == seen


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"out": "result.json"}, r"as an \.html, with a \.json beside it, not as 'result\.json'"),
        ({"out": "folder.html"}, "not as 'folder.html'"),
        ({"out": "run.html"}, "replace a file of a run"),
        ({"out": "limner.html"}, "replace a file of a run"),
        ({"direction": "b2a"}, "not a translator, which --direction is for"),
        ({"size": 128}, "leave --size out"),
    ],
)
def test_what_would_be_ignored_or_overwrite_is_refused(more: dict, said: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    place = {"out": tmp_path / more["out"]} if "out" in more else {}
    with pytest.raises(ValueError, match=said):
        evaluate(limner.load(run, "cpu"), "nowhere", ["fd"], ["pixels"], **more | place)


def test_an_unknown_metric_is_refused_before_anything_is_drawn(
    run: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.apps.evaluate.draw_samples", lambda *a: pytest.fail("it drew samples first"))
    with pytest.raises(ValueError, match="no metric 'fidd': choose from fd"):
        evaluate(limner.load(run, "cpu"), str(squares), ["fidd"])


def test_from_the_command_line(run: Path, squares: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limner", "evaluate"]
    rest = ["--features", "pixels", "--metrics", "fd", "--metrics", "precision_recall", "--out", str(tmp_path / "r.html")]
    done = subprocess.run([*command, str(run), "--data", str(squares), "-n", "50", "--json", *rest], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert {m["name"] for m in json.loads(done.stdout)["metrics"]} >= {"fd_pixels", "precision_pixels"}
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run([*command, str(folder), "--data", str(squares), *rest], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "empty" in done.stderr


def test_a_folder_of_mixed_sizes_is_told(squares: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(30):
        side = 16 + 8 * (i % 3)
        Image.fromarray(rng.integers(0, 255, (side, side), np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="pictures of 3 sizes"):
        evaluate(tmp_path, str(squares), ["fd"], ["pixels"], out=tmp_path / "r.html")
    result, _ = evaluate(tmp_path, str(squares), ["fd"], ["pixels"], out=tmp_path / "r.html", size=16)
    assert np.isfinite(result["fd_pixels"])


def test_a_generator_has_no_truths(run: Path, squares: Path) -> None:
    with pytest.raises(ValueError, match=r"psnr has no meaning for .* its samples are new pictures"):
        evaluate(limner.load(run, "cpu"), str(squares), ["psnr"])

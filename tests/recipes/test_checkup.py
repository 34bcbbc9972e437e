"""Failures that are made to happen, each named by its name, and a healthy run without alarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner import recipes
from limner.apps import doctor
from limner.data import open_source, prepare
from limner.monitor.doctor import SETTLING, WINDOW
from limner.monitor.probes import held_out_of, typical_distance
from limner.runs import run


@pytest.fixture(scope="module")
def clothes() -> np.ndarray:
    """Embedded Fashion-MNIST pictures at 16x16, without classes: uint8 [2000,1,16,16]."""
    return prepare(open_source("fashion"), size=16).images[::5].numpy()


def played(pictures: np.ndarray, out: Path, images: int = 2560, **changes: Any) -> list[str]:
    """The names of what the doctor found in a small run."""
    small = {"generator.width": 8, "discriminator.width": 8, **changes}
    recipes.train(
        pictures, recipe="spectral", images=images, out=out, device="cpu", threads=1, quiet=True, metric="none", seed=1,
        precision="fp32", changes=small,
    )  # fmt: skip
    return [finding["finding"] for finding in doctor.examine(out).findings]


@pytest.fixture(autouse=True)
def no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure", lambda *a, **k: 100.0)


def test_a_healthy_run_raises_no_alarm(clothes: np.ndarray, tmp_path: Path) -> None:
    assert played(clothes, tmp_path / "run") == []
    report = doctor.examine(tmp_path / "run")
    assert report.visits == 40 and report.verdict.startswith("Nothing is wrong")


def test_a_critic_a_hundred_times_too_fast(clothes: np.ndarray, tmp_path: Path) -> None:
    found = played(clothes, tmp_path / "run", **{"discriminator_optimizer.lr": 0.08})
    assert "discriminator-leaps" in found and set(found) <= {"discriminator-leaps", "discriminator-ahead"}


def test_identical_pictures(clothes: np.ndarray, tmp_path: Path) -> None:
    assert played(clothes[:1].repeat(40, 0), tmp_path / "run", images=320) == ["pictures-alike"]


def test_twenty_pictures_are_learned_by_heart(clothes: np.ndarray, tmp_path: Path) -> None:
    changes = {"generator.width": 16, "discriminator.width": 16, "augmentation": "none"}
    assert "by-heart" in played(clothes[::100], tmp_path / "run", images=9600, **changes)


def test_auto_tune_slows_the_critic_that_leaps_and_logs_it(clothes: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipes.train(
        clothes, recipe="spectral", images=1920, out=out, device="cpu", threads=1, quiet=True, metric="none",
        precision="fp32", auto_tune=True, changes={"generator.width": 8, "discriminator.width": 8, "discriminator_optimizer.lr": 0.08},
    )  # fmt: skip
    tuned = json.loads((out / "limner.json").read_text())["training"]
    assert tuned["auto_tune"] and tuned["settings"]["lr of discriminator"] < 1 and tuned["held_out_count"] == 100
    done = [f["done"] for f in doctor.examine(out).findings if f["finding"] == "discriminator-leaps"]
    assert done[0] == "lr of discriminator 1 -> 0.25" and len(done) <= 4


def test_auto_tune_where_nothing_is_examined_is_a_sentence(clothes: np.ndarray, tmp_path: Path) -> None:
    for more in ({"recipe": "vae"}, {"recipe": "spectral", "doctor": False}):
        with pytest.raises(ValueError, match="--auto-tune needs the doctor"):
            recipes.train(clothes, images=32, out=tmp_path / "no", device="cpu", quiet=True, auto_tune=True, **more)


def test_pictures_are_kept_aside_only_when_there_are_enough() -> None:
    for count, aside in ((15, 0), (16, 2), (100, 5), (10_000, 256)):
        data = prepare(open_source(np.arange(count, dtype=np.uint16).astype(np.uint8)[:, None, None, None].repeat(16, 2).repeat(16, 3)))
        rest, held = held_out_of(data, 0)
        assert len(rest) == count - aside and (len(held) if held else 0) == aside


def test_no_class_loses_its_last_picture() -> None:
    labels = np.array([0] * 20 + [1, 2, 3])
    data = prepare(open_source((np.random.default_rng(0).integers(0, 255, (23, 16, 16), np.uint8), labels)))
    for seed in range(20):
        rest, held = held_out_of(data, seed)
        assert held is not None and len(held) == 2
        assert set(rest.batch(0, len(rest), 0)[1].tolist()) == {0, 1, 2, 3}
    each = prepare(open_source((np.random.default_rng(0).integers(0, 255, (17, 16, 16), np.uint8), np.arange(17))))
    assert held_out_of(each, 0) == (each, None)


def test_the_verdict_waits_for_what_a_finding_needs() -> None:
    assert SETTLING + WINDOW == doctor.EARLY
    visits = [{"images": i, "spread": 0.8, "variety": 0.7} for i in range(8)]
    assert "Too early" in doctor.Report("x", visits[:3], 100).verdict
    assert "Nothing is wrong: 8 visits" in doctor.Report("x", visits, 100).verdict
    assert "--no-doctor" in doctor.Report("x", [{"images": 1}], 100).verdict


def test_typical_distance_is_of_one_class_where_there_is_one() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [13.0]])
    assert typical_distance(x, None).item() == pytest.approx((1 + 10 + 13 + 9 + 12 + 3) / 6)
    assert typical_distance(x, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(2)
    assert typical_distance(x, torch.arange(4)).item() == pytest.approx(8)  # no two of one class: all
    assert typical_distance(x[:1], None).item() == 0


def test_the_page_and_the_table_tell_the_findings(clothes: np.ndarray, tmp_path: Path) -> None:
    played(clothes[:1].repeat(40, 0), tmp_path / "run", images=320)
    report = doctor.examine(tmp_path / "run")
    doctor.write_page(report, tmp_path / "doctor.html")
    page = (tmp_path / "doctor.html").read_text()
    assert "pictures-alike" in page and page.count("<svg") >= 5 and "http" not in page.replace("http://www.w3.org", "")
    assert doctor.table(report).row_count == 1
    (tmp_path / "run" / "log.jsonl").unlink()
    with pytest.raises(ValueError, match="holds no log"):
        doctor.examine(tmp_path / "run")

"""Provoked failures, each with its finding, and a healthy run without any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.apps import doctor
from limner.data import open_source, prepare
from limner.families.train import train
from limner.monitor.doctor import BURN_IN, WINDOW
from limner.monitor.probes import typical_distance
from limner.runs import decide


@pytest.fixture(scope="module")
def clothes() -> np.ndarray:
    """Embedded Fashion-MNIST pictures at 16x16, without classes: uint8 [2000,1,16,16]."""
    return prepare(open_source("fashion"), size=16).images[::5].numpy()


def findings_of(pictures: np.ndarray, out: Path, images: int = 2560, **changes: Any) -> list[str]:
    """Train a small run and return the names of the doctor's findings."""
    small = {"generator.width": 8, "discriminator.width": 8, **changes}
    train(
        pictures, recipe="spectral", images=images, out=out, device="cpu", threads=1, quiet=True, metric="none", seed=1,
        precision="fp32", changes=small,
    )  # fmt: skip
    return [finding["finding"] for finding in doctor.read_report(out).findings]


@pytest.fixture(autouse=True)
def no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)


def test_a_healthy_run_raises_no_alarm(clothes: np.ndarray, tmp_path: Path) -> None:
    assert findings_of(clothes, tmp_path / "run") == []
    report = doctor.read_report(tmp_path / "run")
    assert report.checks == 40 and report.verdict.startswith("Nothing is wrong")


def test_a_discriminator_lr_a_hundred_times_too_high(clothes: np.ndarray, tmp_path: Path) -> None:
    found = findings_of(clothes, tmp_path / "run", **{"discriminator_optimizer.lr": 0.08})
    assert "discriminator-lr-too-high" in found and set(found) <= {"discriminator-lr-too-high", "discriminator-too-strong"}


def test_identical_pictures(clothes: np.ndarray, tmp_path: Path) -> None:
    assert findings_of(clothes[:1].repeat(40, 0), tmp_path / "run", images=320) == ["pictures-alike"]


def test_the_discriminator_overfits_twenty_pictures(clothes: np.ndarray, tmp_path: Path) -> None:
    changes = {"generator.width": 16, "discriminator.width": 16, "augmentation": "none"}
    assert "overfitting" in findings_of(clothes[::100], tmp_path / "run", images=9600, **changes)


def test_auto_tune_lowers_a_discriminator_lr_that_is_too_high_and_logs_it(clothes: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(
        clothes, recipe="spectral", images=1920, out=out, device="cpu", threads=1, quiet=True, metric="none",
        precision="fp32", auto_tune=True, changes={"generator.width": 8, "discriminator.width": 8, "discriminator_optimizer.lr": 0.08},
    )  # fmt: skip
    tuned = json.loads((out / "limner.json").read_text())["training"]
    assert tuned["auto_tune"] and tuned["settings"]["lr of discriminator"] < 1 and tuned["held_out_count"] == 100
    done = [f["action"] for f in doctor.read_report(out).findings if f["finding"] == "discriminator-lr-too-high"]
    assert done[0] == "lr of discriminator 1 -> 0.25" and len(done) <= 4


def test_auto_tune_without_the_doctor_is_a_sentence(clothes: np.ndarray, tmp_path: Path) -> None:
    for more in ({"recipe": "vae"}, {"recipe": "spectral", "doctor": False}):
        with pytest.raises(ValueError, match="--auto-tune needs the doctor"):
            train(clothes, images=32, out=tmp_path / "no", device="cpu", quiet=True, auto_tune=True, **more)


def test_the_verdict_waits_for_what_a_finding_needs() -> None:
    assert BURN_IN + WINDOW == doctor.EARLY
    checks = [{"images": i, "diversity": 0.8, "variety": 0.7} for i in range(8)]
    assert "Too early" in doctor.DoctorReport("x", checks[:3], 100).verdict
    assert "Nothing is wrong: 8 checks" in doctor.DoctorReport("x", checks, 100).verdict
    assert "--no-doctor" in doctor.DoctorReport("x", [{"images": 1}], 100).verdict


def test_typical_distance_is_of_one_class_where_there_is_one() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [13.0]])
    assert typical_distance(x, None).item() == pytest.approx((1 + 10 + 13 + 9 + 12 + 3) / 6)
    assert typical_distance(x, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(2)
    assert typical_distance(x, torch.arange(4)).item() == pytest.approx(8)  # no two of one class: all
    assert typical_distance(x[:1], None).item() == 0


def test_the_page_and_the_table_hold_the_findings(clothes: np.ndarray, tmp_path: Path) -> None:
    findings_of(clothes[:1].repeat(40, 0), tmp_path / "run", images=320)
    report = doctor.read_report(tmp_path / "run")
    doctor.write_page(report, tmp_path / "doctor.html")
    page = (tmp_path / "doctor.html").read_text()
    assert "pictures-alike" in page and page.count("<svg") >= 5 and "http" not in page.replace("http://www.w3.org", "")
    assert doctor.table(report).row_count == 1
    (tmp_path / "run" / "log.jsonl").unlink()
    with pytest.raises(ValueError, match="holds no log"):
        doctor.read_report(tmp_path / "run")

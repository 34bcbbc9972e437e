"""`limner search`: its space, successive halving, the study on disk, and a search that is killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("optuna")

from sqlalchemy.exc import OperationalError

from limner.core.files import write_whole, writing
from limner.data.request import DataRequest
from limner.families.search import run as searching
from limner.families.search.halving import SHARES, Job, Run, best, next_job, noise
from limner.families.search.picture import draw
from limner.families.search.space import Range, space
from limner.families.search.study import Study
from limner.families.train import defaults
from limner.recipes.changes import changed
from limner.runs.options import Options
from limner.training.loop import Outcome

# ---- the space ---------------------------------------------------------------------------------------------------------


def test_the_space_follows_the_options_of_the_recipe() -> None:
    found = space(defaults("spectral"))
    assert set(found) == {
        "batch", "generator.width", "discriminator.width", "objective", "discriminator_optimizer.lr", "generator_optimizer.lr", "augmentation",
    }  # fmt: skip
    assert found["batch"].choices == (16, 32, 64)
    lr = found["generator_optimizer.lr"]
    assert lr.log and (lr.low, lr.high) == (pytest.approx(8e-4), pytest.approx(7.2e-3))
    width = found["generator.width"]
    assert (width.low, width.high, width.step) == (16, 64, 4) and width.holds(32) and not width.holds(33) and not width.holds(68)
    restorer = space(defaults("super-resolution"))
    assert "restorer_optimizer.lr" in restorer and "discriminator_optimizer.lr" not in restorer, "it has no effect without a discriminator"


def test_ranges_are_given_in_the_types_of_the_options() -> None:
    given = ["batch=8,32", "generator-optimizer.lr=1e-4..1e-2", "generator.width=8..32", "flip", "objective=hinge,wasserstein", "lr_warmup=0..0.1"]
    found = space(defaults("spectral"), given)
    assert list(found) == ["batch", "generator_optimizer.lr", "generator.width", "flip", "objective", "lr_warmup"]
    assert found["batch"].choices == (8, 32) and found["flip"].choices == (False, True)
    assert found["generator_optimizer.lr"].log and not found["lr_warmup"].log
    assert found["generator.width"].step and str(found["lr_warmup"]) == "0 to 0.1"
    assert space(changed(defaults("spectral"), {"penalty": "r1"}), ["gamma=1,2.5"])["gamma"].choices == (1, 2.5), "its default is None"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("widht", "no option 'widht' to search"),
        ("batch=8..x", "two numbers"),
        ("batch=0..8", "give 1 or more"),
        ("batch=64..8", "the lower end first"),
        ("objective=hinge,best", "choose"),
        ("gamma=1..2", "does nothing while penalty is none"),
        ("ema_half_life", "has no range of its own"),
    ],
)
def test_meaningless_ranges_are_refused(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space(defaults("spectral"), [given])


# ---- halving -----------------------------------------------------------------------------------------------------------


def played(settings: int, metric: Any, better: str = "lower", fails: tuple[int, ...] = ()) -> tuple[list[Run], list[Job]]:
    """The runs and jobs of a whole search, where `metric(setting, repeat, rung)` is what a run measures."""
    runs: dict[tuple[int, int], Run] = {}
    jobs: list[Job] = []
    while job := next_job(list(runs.values()), settings, better):
        jobs.append(job)
        assert len(jobs) < 100
        key = (job.setting, job.repeat)
        if job.action == "draw":
            runs[key] = Run(job.setting)
        elif job.setting in fails:
            runs[key] = Run(job.setting, job.repeat, failed=True)
        else:
            before = runs.get(key, Run(*key)).values
            assert job.rung not in before, "a run goes to a rung once"
            runs[key] = Run(*key, {**before, job.rung: metric(*key, job.rung)})
    return list(runs.values()), jobs


def test_halving_takes_each_run_on_once_and_finishes_the_best() -> None:
    runs, jobs = played(12, lambda setting, repeat, rung: abs(setting - 5) + 1)
    assert sum(job.action == "draw" for job in jobs) == 12
    assert sorted(job.setting for job in jobs if job.action == "run" and job.rung == 1) == [3, 4, 5, 6]
    assert [job.setting for job in jobs if job.action == "repeat"] == [5, 4, 6]
    assert [(job.setting, job.rung) for job in jobs if job.rung == 2] == [(5, 2)] and jobs[-1].rung == 2
    highest, _ = played(6, lambda setting, repeat, rung: setting, better="higher")
    assert best(highest, "higher") == max((run for run in highest if not run.repeat), key=lambda run: run.setting)


def test_a_lucky_seed_does_not_win() -> None:
    def metric(setting: int, repeat: int, rung: int) -> float:
        lucky = {0: 1.0, 1: 20.0}  # of setting 2, by the seed
        return lucky[repeat] if setting == 2 else 5.0 + setting

    runs, jobs = played(9, metric)
    assert jobs[-1].setting == 0 and noise(runs) > 0.3
    assert noise(runs[:3]) is None


def test_failures_and_the_end_of_the_time_do_not_stop_a_search() -> None:
    _, jobs = played(6, lambda setting, repeat, rung: setting, fails=(0, 1))
    assert jobs[-1] == Job("run", 2, rung=2)
    _, nothing = played(3, lambda *_: 1.0, fails=(0, 1, 2))
    assert all(job.rung == 0 for job in nothing) and best([], "lower") is None
    drawn = [Run(0, 0, {0: 2.0}), Run(1, 0, {0: 1.0})]
    assert next_job(drawn, 12, "lower", spent=0.1) == Job("draw", 2)
    assert next_job(drawn, 12, "lower", spent=0.3) == Job("run", 1, rung=1), "no time for another setting"
    assert next_job(drawn, 12, "lower", spent=0.6) == Job("run", 1, rung=2), "the last run has half of the time"


# ---- on disk -----------------------------------------------------------------------------------------------------------


def test_a_study_goes_on_from_its_file(tmp_path: Path) -> None:
    ranges = {"lr": Range(1e-4, 1e-2, log=True), "width": Range(8, 32, step=4), "objective": Range(choices=("hinge", "relativistic"))}
    values = {"lr": 1e-3, "width": 16, "objective": "hinge"}
    (tmp_path / "other").mkdir()
    drawn = []
    for folder in (tmp_path, tmp_path / "other"):
        study = Study(folder, "lower", 3)
        study.check_request({"seed": 3, "data": "a"})
        assert study.draw(ranges, values) == 0 and study.options(0) == values, "the recipe as it is comes first"
        study.report(0, 0, 0, 5.0)
        if folder == tmp_path:
            study = Study(folder, "lower", 3)  # a new process
        study.draw(ranges, values)
        drawn.append(study.options(1))
        study.fail(1, 0, "it diverged")
        study.report(0, 1, 1, 6.0)
        assert study.runs() == [Run(0, 0, {0: 5.0}), Run(0, 1, {1: 6.0}), Run(1, failed=True)]
    assert drawn[0] == drawn[1] and all(ranges[name].holds(value) for name, value in drawn[0].items())
    with pytest.raises(ValueError, match="other pictures"):
        Study(tmp_path, "lower", 3).check_request({"seed": 3, "data": "b"})
    with pytest.raises(ValueError, match="was started with seed 3, now it is 4"):
        Study(tmp_path, "lower", 4).check_request({"seed": 4, "data": "a"})


def test_a_search_that_stops_anywhere_goes_on_there(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings are replaced by a formula of their options, which writes the log as a run does."""
    calls: list[tuple[str, int]] = []

    def trained(*, options: Options, changes: dict[str, Any], pause: Any, **_: Any) -> SimpleNamespace:
        seen = pause.at or int(options.images)
        calls.append((options.out.name, seen))
        if len(calls) == 7:
            raise KeyboardInterrupt
        options.out.mkdir(parents=True, exist_ok=True)
        value = abs(np.log(changes.get("generator_optimizer.lr", 2.4e-3) / 3e-3)) + 1 / seen + 0.01 * options.seed
        with (options.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"images": seen, "fd_pixels": value}) + "\n")
        (options.out / "checkpoint").mkdir(exist_ok=True)
        return SimpleNamespace(outcome=Outcome(seen, 1.0, not pause.at))

    monkeypatch.setattr(searching, "train", trained)
    command: dict[str, Any] = {
        "recipe": "spectral", "settings": 6, "changes": {"generator.width": 4, "discriminator.width": 4}, "out": tmp_path / "search",
        "options": Options(images=9600, metric="pixels", device="cpu", threads=1, doctor=False),
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        searching.search(str(squares), **command)
    found = searching.search(str(squares), **command)
    assert calls[6] == calls[7] and len({*calls}) == len(calls) - 1, "only the run that was stopped is begun again"
    assert found.finished and found.noise and calls[-1] == (found.folder.name, 9600)
    summary = json.loads((tmp_path / "search/search.json").read_text())
    assert summary["best"] == found.folder.name and (tmp_path / "search/search.png").stat().st_size > 1000
    assert "--images 9600" in found.command and found.command.startswith(f"limner train {squares} --recipe spectral")
    assert (found.folder / "checkpoint").exists() and not list((tmp_path / "search/runs").glob("*-again/checkpoint"))
    assert searching.search(str(squares), **command).folder == found.folder and calls[-1] == (found.folder.name, 9600)
    with pytest.raises(ValueError, match="was started with settings 6, now it is 5"):
        searching.search(str(squares), **(command | {"settings": 5}))


def test_a_full_disk_stops_the_search_and_not_the_trial(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    full = {"run", "study"}  # what cannot be written, once each

    def trained(*, options: Options, pause: Any, **_: Any) -> SimpleNamespace:
        seen = pause.at or int(options.images)
        calls.append((options.out.name, seen))
        if len(calls) == 2 and "run" in full:
            with writing(options.out / "x"):
                full.remove("run")
                raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(options.out / "log.jsonl", json.dumps({"images": seen, "fd_pixels": 1.0 + len(calls)}) + "\n")
        return SimpleNamespace(outcome=Outcome(seen, 1.0, not pause.at))

    report = Study.report

    def reported(self: Study, *given: Any) -> None:
        if len(calls) == 4 and "study" in full:
            full.remove("study")
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))
        report(self, *given)

    monkeypatch.setattr(searching, "train", trained)
    monkeypatch.setattr(Study, "report", reported)
    command: dict[str, Any] = {
        "recipe": "spectral", "settings": 3, "changes": {"generator.width": 4, "discriminator.width": 4}, "out": tmp_path / "search",
        "options": Options(images=9600, metric="pixels", device="cpu", threads=1, doctor=False),
    }  # fmt: skip
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^The disk is full: .*the same command again"):
            searching.search(str(squares), **command)
    assert searching.search(str(squares), **command).finished
    assert calls[1] == calls[2] and calls[3] == calls[4] and len({*calls}) == len(calls) - 2
    assert not any(row["failed"] for row in json.loads((tmp_path / "search/search.json").read_text())["trials"])


def test_minutes_that_end_during_the_last_run_leave_it_the_best(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]  # seconds

    def trained(*, options: Options, pause: Any, **_: Any) -> SimpleNamespace:
        now[0] += 60 if pause.at else 3600
        seen = pause.at or int(options.images) // 2
        if pause.at:
            options.out.mkdir(parents=True, exist_ok=True)
            with (options.out / "log.jsonl").open("a") as file:
                file.write(json.dumps({"images": seen, "fd_pixels": 1.0 + abs(int(options.out.name[:3]) - 1)}) + "\n")
        return SimpleNamespace(outcome=Outcome(seen, 1.0, False))

    monkeypatch.setattr(searching, "train", trained)
    monkeypatch.setattr(searching, "decide", lambda *_: ({"images": 96_000}, ""))
    monkeypatch.setattr(searching, "time", SimpleNamespace(monotonic=lambda: now[0]))
    found = searching.search(
        str(squares), recipe="spectral", settings=4, changes={"generator.width": 4, "discriminator.width": 4}, out=tmp_path / "search",
        options=Options(minutes=60, metric="pixels", device="cpu", threads=1, doctor=False), request=DataRequest(size=(16, 16), unconditional=True),
    )  # fmt: skip
    assert found.folder.name == "001" and not found.finished
    assert not any(row["failed"] for row in json.loads((tmp_path / "search/search.json").read_text())["trials"])
    assert "--size 16x16 --unconditional" in found.command


def test_what_cannot_be_searched_is_refused(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="compares nothing"):
        searching.search(str(squares), settings=1, out=tmp_path / "x")
    with pytest.raises(ValueError, match="The option metric is 'best': choose auto"):
        searching.search(str(squares), options=Options(metric="best"), out=tmp_path / "x")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/study.db").write_text("not a database" * 100)
    with pytest.raises(ValueError, match=r"study\.db is damaged"):
        Study(tmp_path / "damaged", "lower", 0)
    with pytest.raises(ValueError, match="leave --metric none out"):
        searching.search(str(squares), recipe="spectral", options=Options(metric="none", threads=1, device="cpu"), out=tmp_path / "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        searching.search(str(squares), out=tmp_path / "x")


def test_the_picture_shows_every_run() -> None:
    options = {"batch": 16, "lr": 1e-3, "objective": "hinge", "flip": True}
    content = draw({"000": [(100, 5.0), (300, 4.0)], "001": [(100, 6.0)]}, "000", [(options, 5.0), (options | {"lr": 2e-3}, 6.0)], "fd")
    assert content[:8] == b"\x89PNG\r\n\x1a\n"


# ---- real runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_search_loses_only_a_checkpoint_and_survivors_equal_unbroken_runs(squares: Path, tmp_path: Path) -> None:
    import limner

    command = [
        sys.executable, "-m", "limner", "search", str(squares), "--recipe", "spectral", "--settings", "4", "--images", "4800", "--metric", "pixels",
        "--threads", "1", "--device", "cpu", "--over", "generator-optimizer.lr", "generator.width=4..8", "--checkpoint-minutes", "0.01",
        "--out", str(tmp_path / "search"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 240
    while not list((tmp_path / "search/runs").glob("002/checkpoint/latest.safetensors")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "Trial 000 (" not in done.stderr.partition("Trial 002")[0], "what was measured is not measured again"
    summary = json.loads((tmp_path / "search/search.json").read_text())
    best_run = tmp_path / "search/runs" / summary["best"]
    (row,) = [row for row in summary["trials"] if row["trial"] == summary["best"]]
    assert len(row["values"]) == len(SHARES)
    recipe = defaults("spectral")
    assert recipe
    again = limner.train(
        str(squares), recipe="spectral", changes=row["options"], images=row["budget"], metric="pixels", threads=1, device="cpu", out=tmp_path / "again", quiet=True
    )  # fmt: skip
    one, two = (load_file(run / "checkpoint/latest.safetensors") for run in (best_run, again.folder))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)

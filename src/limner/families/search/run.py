"""`search`: draws settings, runs them as far as halving says, repeats the leaders, and finishes the best run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core import artifact
from limner.core.device import out_of_memory
from limner.core.distributed import ALONE
from limner.core.files import is_disk_error, write_whole
from limner.core.machine import Machine
from limner.core.options import values_of
from limner.core.text import sentence
from limner.data.request import DataRequest
from limner.families import presets
from limner.families.search import halving, picture
from limner.families.search.halving import SHARES, Job, next_job
from limner.families.search.space import Range, space
from limner.families.search.study import FILE, Study, check_installed, stored
from limner.families.train import AUTO, Choice, check_apart, choose, read_amounts, train
from limner.recipes.changes import changed
from limner.runs.decide import decide
from limner.runs.options import Options
from limner.runs.run import start
from limner.training.interrupt import Pause
from limner.training.run import locked

MINUTES = 60.0  # of a search
SETTINGS = 12  # drawn at most
RUNS, SUMMARY, PICTURE = "runs", "search.json", "search.png"  # in the search's folder
LEAST_IMAGES = 2_000  # at the first rung, below which the metric hardly tells settings apart
LEAST_ROOM = 0.02  # of the minutes, without which a job is not begun


@dataclass(frozen=True)
class Found:
    """The result of a search. folder: the run that was kept. noise: the relative difference between two seeds of one setting."""

    folder: Path
    command: str
    value: float
    metric: str
    finished: bool
    noise: float | None
    signal: int | None = None


def search(
    data: Any,
    *,
    recipe: str = AUTO,
    over: Sequence[str] = (),
    options: Options | None = None,
    settings: int = SETTINGS,
    changes: Mapping[str, Any] | None = None,
    out: Path | None = None,
    request: DataRequest | None = None,
    progress: Any = None,
) -> Found:
    """Search for options of a recipe on a set of pictures; the same call continues a search that was stopped or killed.

    Parameters
    ----------
    data
        As in `limner.train`.
    recipe
        The name of a recipe, or auto.
    over
        The options to vary: `NAME`, `NAME=LOW..HIGH` or `NAME=A,B,C`; by default learning rates, widths, batch, objective
        and augmentation, as far as the recipe has them.
    options
        Options of every run. minutes: of the whole search (60 by default). images: instead, the budget of the last run.
    settings
        How many settings are drawn at most; the first is that of the recipe as it is.
    changes
        Options of the recipe that are the same in all runs.
    out
        The folder of the search.
    request
        How pictures are read; its `data` is replaced.

    Returns
    -------
    Found
        The run that was kept, the command that trains it anew, and its metric.

    Raises
    ------
    ValueError
        In one sentence, for whatever a user can fix.
    """
    check_installed()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("A search runs in one process: start it without torchrun.")
    if settings < 2:
        raise ValueError(f"A search of {settings} settings compares nothing: give 2 or more.")
    options = read_amounts(dataclasses.replace(options or Options(), quiet=True))
    minutes = None if options.images is not None else float(options.minutes or MINUTES)
    options = dataclasses.replace(options, minutes=minutes)
    request = dataclasses.replace(request or DataRequest(), data=data)
    machine = start(options, ALONE)
    last = options if minutes is None else dataclasses.replace(options, minutes=minutes * halving.END_SHARE)
    choice = choose(request, recipe, last, dict(changes or {}), progress, machine)
    folder = out or Path("runs") / f"{choice.data.name}-search"
    check_apart(folder / FILE if (folder / FILE).exists() else folder, [data, request.second])
    last = dataclasses.replace(last, out=folder)  # builds read nothing of another run
    found = space(choice.recipe, over)
    if not found:
        raise ValueError(f"The recipe {choice.name} has no option that is searched by default: name some with --over.")
    validators = choice.build(last, machine).validators
    if not validators:
        raise ValueError("Nothing is measured, so nothing can be searched: leave --metric none out, or give more pictures.")
    with locked(folder), stored(folder):
        study = Study(folder, validators[0].better, options.seed)
        study.check_request({
            "data": choice.data.fingerprint, "recipe": dataclasses.asdict(choice.recipe), "space": {name: str(r) for name, r in found.items()},
            "minutes": minutes, "images": options.images, "settings": settings, "seed": options.seed, "metric": validators[0].name,
        })  # fmt: skip
        return _Search(study, folder, choice, found, last, settings, minutes, request, validators[0].name, machine).run()


@dataclass
class _Search:
    """A search while it runs. last: the options of the last run, whose budget is that of the settings. minutes: of the search."""

    study: Study
    folder: Path
    choice: Choice
    space: Mapping[str, Range]
    last: Options
    settings: int
    minutes: float | None
    request: DataRequest
    metric: str
    machine: Machine

    def run(self) -> Found:
        names = ", ".join(f"{name} ({found})" for name, found in self.space.items())
        _say(f"Searching {names}; results go to {self.folder}.")
        began, before = time.monotonic(), float(self.study.get("seconds", 0.0))

        def seconds() -> float:
            return before + time.monotonic() - began

        signal = None
        while job := next_job(self.study.runs(), self.settings, self.study.better, self._spent(seconds())):
            if job.action == "draw":
                self.study.draw(self.space, values_of(self.choice.recipe))
            else:
                if self.minutes is not None and self._spent(seconds()) > 1 - LEAST_ROOM and job.rung == len(SHARES) - 1:
                    place = self.folder / RUNS / run_name(job.setting, job.repeat)
                    _say(f"The minutes are over before the end of the best run: `{shlex.join(['limner', 'train', '--resume', str(place)])}` finishes it.")
                    break
                signal = self._do(job, seconds())
            self.study.set("seconds", round(seconds(), 2))
            self._summarize()
            if signal:
                _say("Stopped; the same command continues the search.")
                break
        return self._finish(signal)

    def _spent(self, seconds: float) -> float:
        return seconds / 60 / self.minutes if self.minutes is not None else 0.0

    def _do(self, job: Job, seconds: float) -> int | None:
        """Take a run to its rung. Returns the signal that stopped it, or None."""
        own = self.study.options(job.setting)
        name = run_name(job.setting, job.repeat)
        place = self.folder / RUNS / name
        try:
            recipe = changed(self.choice.recipe, own)
            budget = self._budget(job.setting, recipe)
            if not (job.setting or job.repeat or job.rung) and budget * SHARES[0] < LEAST_IMAGES:
                _say(f"At the first rung a run sees only {budget * SHARES[0]:,.0f} images, which says little: give more minutes or images.")
            final = job.rung == len(SHARES) - 1
            at = 0 if final else max(1, round(budget * SHARES[job.rung] / recipe.batch)) * recipe.batch
            deadline = time.monotonic() + self.minutes * 60 - seconds if final and self.minutes is not None else math.inf
            outcome = train(
                recipe=self.choice.name,
                changes=self._changes(recipe),
                options=dataclasses.replace(self.last, minutes=None, images=budget, out=place, seed=self.last.seed + job.repeat),
                pause=Pause(at, deadline),
                **{f.name: getattr(self.request, f.name) for f in dataclasses.fields(self.request)},
            ).outcome
        except (ValueError, MemoryError, RuntimeError) as error:
            if is_disk_error(error) or not (isinstance(error, ValueError) or out_of_memory(error)):
                raise  # a full disk is no fault of the setting: its run goes on once there is space
            reason = str(error) if isinstance(error, ValueError) else "there is not enough memory."
            self.study.fail(job.setting, job.repeat, reason)
            _say(f"Trial {name} ({text_of(own)}) failed: {reason}")
            return None
        if outcome.signal or (final and not outcome.finished):  # or the minutes are over
            return outcome.signal
        value = value_at(place, self.metric, outcome.seen)
        if value is None or not math.isfinite(value):
            self.study.fail(job.setting, job.repeat, "its metric is not a number")
            _say(f"Trial {name} ({text_of(own)}) has no finite {self.metric}.")
        else:
            self.study.report(job.setting, job.repeat, job.rung, value)
            _say(f"Trial {name} ({text_of(own)}): {self.metric} {value:.4g} after {outcome.seen:,} of {budget:,} images.")
        return None

    def _budget(self, setting: int, recipe: Any) -> int:
        """Return the budget of a setting in images: what it can see in the minutes of the last run, measured once."""
        if (known := self.study.budget(setting)) is not None:
            return known
        budget = int(self.last.images or 0)
        if not budget:
            experiment = dataclasses.replace(self.choice, recipe=recipe).build(self.last, self.machine)
            decided, _ = decide(experiment, self.last, self.machine, time.monotonic())
            budget = int(decided["images"])
        self.study.set(f"budget-{setting}", budget)
        return budget

    def _changes(self, recipe: Any) -> dict[str, Any]:
        """Return the options of a recipe that differ from its preset, by dotted name."""
        preset = values_of(presets()[self.choice.name].make())
        return {path: value for path, value in values_of(recipe).items() if path not in preset or preset[path] != value}

    def _command(self, setting: int) -> str:
        """Return the command that trains a setting with the budget of the last run."""
        recipe = changed(self.choice.recipe, self.study.options(setting))
        sets = [place for place in (self.request.data, self.request.second) if place is not None]
        words = ["limner", "train", *(str(place) if isinstance(place, str | Path) else "DATA" for place in sets), "--recipe", self.choice.name]
        given = {name: getattr(self.request, name) for name in self.request.changed() if name not in ("data", "second")}
        for path, value in (given | self._changes(recipe)).items():
            words += flag_of(path, value)
        words += ["--seed", str(self.last.seed), "--images", str(self.study.budget(setting))]
        return shlex.join(words)

    def _summarize(self, with_picture: bool = False) -> None:
        """Write the results so far, and, if wanted, their picture where matplotlib is installed; drawing it takes a second."""
        runs = self.study.runs()
        found = halving.best(runs, self.study.better)
        rows = [
            {
                "trial": run_name(run.setting, run.repeat),
                "options": self.study.options(run.setting),
                "budget": self.study.budget(run.setting),
                "values": {f"{SHARES[rung]:.3g}": value for rung, value in run.values.items()},
                "failed": self.study.get(f"failed-{run.setting}-{run.repeat}"),
            }
            for run in runs
        ]
        best = run_name(found.setting, 0) if found else ""
        summary = {"metric": self.metric, "better": self.study.better, "best": best, "noise": halving.noise(runs), "seconds": self.study.get("seconds"), "trials": rows}
        write_whole(self.folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
        curves = {
            run_name(run.setting, run.repeat): [((self.study.budget(run.setting) or 0) * SHARES[rung], value) for rung, value in sorted(run.values.items())]
            for run in runs if run.values
        }  # fmt: skip
        settings = [(self.study.options(run.setting), run.values[0]) for run in runs if not run.repeat and 0 in run.values]
        if with_picture and len(settings) > 1:
            try:
                write_whole(self.folder / PICTURE, picture.draw(curves, best, settings, self.metric))
            except ImportError:
                return

    def _finish(self, signal: int | None) -> Found:
        """Return the result. When the search is over, the checkpoints of all runs but the best are removed."""
        runs = self.study.runs()
        winner = halving.best(runs, self.study.better)
        if winner is None:
            if signal:
                return Found(self.folder, "", math.nan, self.metric, False, None, signal)
            reasons = [self.study.get(f"failed-{run.setting}-{run.repeat}") for run in runs if run.failed]
            raise ValueError(f"No setting could be trained: {reasons[0] if reasons else 'give more minutes'}")
        self._summarize(with_picture=True)
        finished = len(SHARES) - 1 in winner.values
        kept = self.folder / RUNS / run_name(winner.setting, 0)
        if finished:
            for run in runs:
                if (run.setting, run.repeat) != (winner.setting, 0):
                    shutil.rmtree(self.folder / RUNS / run_name(run.setting, run.repeat) / "checkpoint", ignore_errors=True)
        value = winner.values[max(winner.values)]
        return Found(kept, self._command(winner.setting), value, self.metric, finished, halving.noise(runs), signal)


def flag_of(path: str, value: Any) -> list[str]:
    """Return an option by its dotted name and its value as words of a command."""
    flag = path.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):  # a size
        return [f"--{flag}", "x".join(map(str, value))]
    return [f"--{flag}", f"{value:.6g}" if isinstance(value, float) else str(value)]


def run_name(setting: int, repeat: int) -> str:
    """Return the name of a run's folder."""
    return f"{setting:03d}" + ("-again" if repeat else "")


def text_of(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in options.items())


def value_at(run: Path, metric: str, seen: int) -> float | None:
    """Return the metric that a run's log has for a number of images seen; None if it has none."""
    values = [entry[metric] for entry in artifact.read_log(run) if entry["images"] == seen and metric in entry]
    return float(values[-1]) if values else None


def _say(text: str) -> None:
    print(sentence(text), file=sys.stderr, flush=True)

"""What every recipe's run shares: the machine, the folder, the budget, the previews, the published model.

A family (recipes/gan.py, …) states its decisions and builds a method; `play` turns that into a run folder.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core import device, dist, schedule
from limner.core.files import write_whole
from limner.core.text import printable, sentence
from limner.data import Dataset
from limner.data.pairs import Pairs
from limner.methods.phase import Method
from limner.networks import parameter_count
from limner.recipes.publishing import publish
from limner.recipes.watching import FEWEST, METRICS, SAMPLES, Meter, Previews, animate
from limner.training.doctor import Doctor, Examination
from limner.training.log import Board, duration
from limner.training.loop import Hook, Outcome, Plan, Stream, View, fit, measure
from limner.training.run import claimed, recall, remember
from limner.training.state import Optimiser

SKIPPED = "skipped.txt"  # in the run folder
MARK_SECONDS = 100  # of training between two marks, by the measured speed; a mark is what a bad loss steps back to
MARKS = 40  # a run, at most
FREE = 0.6  # share of the time that a trial of the speed computes on a machine that does little else


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every `train` understands, whatever the recipe."""

    minutes: float | None = None  # budget in minutes (default 10), turned into images once, by a short measurement
    images: int | None = None  # budget in images seen, instead of minutes
    out: Path | None = None  # run folder (default: runs/DATA-RECIPE-SIZE)
    seed: int = 0  # of everything random
    device: str = "auto"  # auto, cpu, cuda or mps
    precision: str = "auto"  # auto, bf16 or fp32
    threads: int | None = None  # CPU threads (default: PyTorch's choice)
    checkpoint_minutes: float = 2.0  # at most this much is lost by a kill
    doctor: bool = True  # look for trouble while training; keeps one picture in twenty aside, at most 256 (generators only)
    auto_tune: bool = False  # let the doctor change rates, penalty and augmentation within bounds, each change logged
    metric: str = "convolutions"  # features of the metric watched while training: convolutions, pixels, own or none (generators only)
    tensorboard: bool = False  # write curves and grids for TensorBoard too (needs limner[tensorboard])
    quiet: bool = False  # say nothing while it works


@dataclass(frozen=True)
class Preset:
    """A recipe that people choose by name."""

    make: Callable[[], Any]  # its family's dataclass
    summary: str
    source: str


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    folder: Path
    outcome: Outcome


@dataclass
class Machine:
    """Where a run happens."""

    device: torch.device
    precision: torch.dtype  # what it chooses, until `play` finds what the run was started with
    ranks: dist.Ranks

    def __str__(self) -> str:
        ranks = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        return f"{device.describe(self.device)}, {device.name_of(self.precision)}{ranks}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run as a family states it."""

    name: str  # the recipe's name
    recipe: Any  # its dataclass, kept in the description; every family's says batch, micro, clip, ema_half_life and how rates fall
    dataset: Dataset | Pairs
    options: Options
    method: Method
    stream: Stream
    optimisers: Mapping[str, Optimiser]  # one a player
    network: dict[str, Any]  # how to build the published network again (networks.describe)
    published: str  # which of the method's networks is the product
    kind: str  # what the product is: "generator", …
    preview: Callable[[nn.Module], np.ndarray]  # averaged network -> uint8 [N,C,H,W], always the same inputs
    generate: Callable[[nn.Module, int], np.ndarray] | None = None  # (averaged network, n) -> n samples, for the metric
    examine: Examination | None = None  # what the doctor looks at
    kept_aside: int = 0  # pictures of the dataset that are not trained on
    hooks: Sequence[Hook] = ()  # further things to do between iterations
    notes: list[str] = field(default_factory=list)  # sentences to say before the start


def start(options: Options, ranks: dist.Ranks) -> Machine:
    """Settle threads and allocator, choose device and precision. Raises ValueError for options that no run can have."""
    if options.metric not in METRICS:
        raise ValueError(f"The metric {options.metric!r} is not known: say one of {', '.join(METRICS)}.")
    if options.tensorboard and find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not installed: `pip install limner[tensorboard]`, or leave out --tensorboard.")
    device.settle(options.threads)
    chosen = device.pick(options.device, ranks.local)
    return Machine(chosen, device.precision(chosen, options.precision), ranks)


def plan_of(job: Job, images: int) -> Plan:
    """How a budget of so many images is played. What the machine or the command adds, `play` puts in."""
    recipe = job.recipe
    return Plan(
        images=images,
        batch=recipe.batch,
        micro=recipe.micro,
        optimisers=job.optimisers,
        rate=lambda clock: schedule.rate(
            clock.seen, clock.budget, recipe.schedule, recipe.falling_from, recipe.rising
        ),
        ema_half_life=recipe.ema_half_life,
        clip=recipe.clip,
        seed=job.options.seed,
    )


def play(job: Job, machine: Machine) -> Trained:
    """Train the job in its folder, or resume it there; returns when it is finished or was asked to stop.

    Raises ValueError (one sentence) for a folder that is in use, unwritable or belongs to another command, for a full
    disk, and when training diverges.
    """
    options = job.options
    if options.auto_tune and job.examine is None:
        reason = "looks at games of a generator and a critic only" if options.doctor else "was sent away by --no-doctor"
        raise ValueError(f"--auto-tune needs the doctor, who {reason}: leave it out.")
    for optimiser in job.optimisers.values():
        optimiser.build([nn.Parameter(torch.zeros(1))])  # refuses what no optimizer takes before any folder is made
    folder = run_folder(options, job.dataset, job.name)
    say = _speaker(options.quiet or not machine.ranks.first)
    if not machine.ranks.first:
        return _play_claimed(job, machine, folder, say)
    with claimed(folder):
        return _play_claimed(job, machine, folder, say)


def run_folder(options: Options, dataset: Dataset | Pairs, recipe: str) -> Path:
    """Where a run goes unless a person says otherwise: runs/DATA-RECIPE-SIZE."""
    spec = dataset.spec
    size = f"{spec.height}" if spec.height == spec.width else f"{spec.height}x{spec.width}"
    return options.out or Path("runs") / f"{dataset.name}-{recipe}-{size}"


def _play_claimed(job: Job, machine: Machine, folder: Path, say: Callable[[str], None]) -> Trained:
    options, spec = job.options, job.dataset.spec
    asked = {
        "recipe": job.name,
        "options": dataclasses.asdict(job.recipe),
        "data": job.dataset.fingerprint,
        "size": list(spec.size),
        "channels": spec.channels,
        "classes": spec.classes,
        "minutes": None if options.images else options.minutes or 10.0,
        "images": options.images,
        "seed": options.seed,
        "doctor": job.examine is not None,
        "auto_tune": options.auto_tune,
    }
    decided: Any = dist.told_by_first(recall(folder, asked) if machine.ranks.first else None)
    if decided is None:
        decided = dist.told_by_first(decide(job, machine))  # clocks differ
        if machine.ranks.first:
            remember(folder, asked, decided)
    _keep_precision(decided, job, machine, folder)
    plan = dataclasses.replace(
        plan_of(job, decided["images"]),
        precision=machine.precision,
        checkpoint_seconds=options.checkpoint_minutes * 60,
        mark_every=max(1, round(decided["images_per_second"] * MARK_SECONDS), decided["images"] // MARKS),
    )
    if machine.ranks.first:
        write_skipped(job.dataset, folder)
    sizes = ", ".join(f"{name} {_short(parameter_count(net))}" for name, net in job.method.nets.items())
    for note in (*facts(job.dataset, folder), *job.notes):
        say(note)
    say(
        f"Training {job.name} ({sizes} parameters) on {len(job.dataset):,} "
        f"{'picture' if len(job.dataset) == 1 else 'pictures'} of {job.dataset.name} ({spec}), "
        f"{machine}: {plan.images:,} images seen, about {duration(plan.images / decided['images_per_second'])}. "
        f"Results go to {folder}."
    )
    board = Board(folder / "tensorboard") if options.tensorboard and machine.ranks.first else None
    hooks: list[Hook] = [Previews(job.preview, job.published, plan.images, plan.batch), *job.hooks]
    if job.generate and options.metric != "none" and len(job.dataset) >= FEWEST:
        keep = best_keeper(job, machine, decided)
        data = job.dataset
        assert isinstance(data, Dataset), "a metric of samples compares with one set of pictures"
        hooks.append(Meter(job.generate, job.published, data, options.metric, plan.images, plan.batch, keep))
    outcome = fit(
        job.method,
        job.stream,
        folder,
        plan,
        device=machine.device,
        ranks=machine.ranks,
        hooks=hooks,
        publish=lambda view: publish(job, machine, view, decided),
        doctor=Doctor(job.examine, options.auto_tune) if job.examine else None,
        quiet=options.quiet,
        board=board,
    )
    if board:
        board.close()
    if outcome.finished and machine.ranks.first:
        animate(folder)
    return Trained(folder, outcome)


def _keep_precision(decided: Mapping[str, Any], job: Job, machine: Machine, folder: Path) -> None:
    """Go on in the precision the run was started in, whatever this machine would choose by itself.

    Raises ValueError where the command says another.
    """
    here, wanted = device.name_of(machine.precision), job.options.precision
    kept = decided.get("precision", here)  # runs of before it was recorded go on as the machine chooses
    if wanted not in ("auto", kept):
        raise ValueError(
            f"{folder} was started with precision {kept}, now it is {wanted}: choose another folder with --out, or "
            "leave --precision out to resume it."
        )
    if kept != here:
        job.notes.append(f"The run was started in {kept} and goes on so; this machine by itself takes {here}.")
    machine.precision = device.precision(machine.device, kept)


def facts(dataset: Any, folder: Path) -> list[str]:
    """What a person should know of the data before it is trained on: classes, skipped files, decisions."""
    said = []
    if dataset.labels is not None and dataset.spec.classes:
        counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
        told = [f"{name} {count:,}" for name, count in zip(dataset.classes, counts, strict=True)]
        more = f" and {len(told) - 20} more" if len(told) > 20 else ""
        said.append(f"{len(told)} classes: {', '.join(told[:20])}{more}.")
    said += dataset.notes
    if dataset.bad:
        said.append(f"{folder / SKIPPED} lists every picture that was left out, and why.")
    return said


def write_skipped(dataset: Any, folder: Path) -> None:
    """Write the pictures that this start leaves out, a line each, or no file where there are none."""
    if dataset.bad:
        write_whole(folder / SKIPPED, "".join(f"{printable(name)}: {why}\n" for name, why in dataset.bad))
    else:
        (folder / SKIPPED).unlink(missing_ok=True)


def best_keeper(job: Job, machine: Machine, decided: Mapping[str, Any]) -> Callable[[View, Mapping[str, float]], None]:
    """What to do when the watched metric is the lowest so far: publish that state as `best/` beside the last."""

    def keep(view: View, figures: Mapping[str, float]) -> None:
        folder = view.folder / "best"
        publish(job, machine, view, decided, folder, {**figures, "at_images": view.clock.seen})
        write_whole(folder / "preview.png", (view.folder / "preview.png").read_bytes())

    return keep


def decide(job: Job, machine: Machine) -> dict[str, Any]:
    """What is settled once, at the first start: the speed measured on this machine, precision, the budget in images."""
    trial = dataclasses.replace(plan_of(job, job.options.images or 10**9), precision=machine.precision)
    wall, worked = time.monotonic(), time.thread_time()
    speed = measure(job.method, job.stream, trial, machine.device, machine.ranks)
    share = (time.thread_time() - worked) / (time.monotonic() - wall)
    if share < FREE and machine.device.type == "cpu" and machine.ranks.world == 1:  # alone nothing waits but for a core
        job.notes.append(
            f"The machine was busy while the speed was measured: this run got {share:.0%} of a core. If that does not last, "
            "it ends sooner than told" + ("." if job.options.images else ", and is shorter than the minutes asked for.")
        )
    if job.options.images:
        images = job.options.images
    else:  # the seconds that the trial, previews, the metric and checkpoints take are not the players'
        seconds = (job.options.minutes or 10.0) * 60
        spent = time.monotonic() - wall + watching_seconds(job)
        images = int(speed * max(seconds - spent, 0.2 * seconds) * 0.97)
    images = max(1, round(images / trial.batch)) * trial.batch
    return {
        "images": images,
        "images_per_second": round(speed, 2),
        "precision": device.name_of(machine.precision),
        "started": time.strftime("%Y-%m-%d"),
    }


def watching_seconds(job: Job) -> float:
    """What the previews and the samples of the metric will take in a whole run: one of each, as often as there are marks."""
    network = job.method.nets[job.published]
    training, start = network.training, time.monotonic()
    network.eval()
    job.preview(network)
    seconds = time.monotonic() - start
    if job.generate and job.options.metric != "none":
        part = 32
        start = time.monotonic()
        job.generate(network, part)
        seconds += (time.monotonic() - start) * SAMPLES / part
    network.train(training)
    return seconds * len(schedule.preview_marks(10**9))


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(sentence(text), file=sys.stderr, flush=True))

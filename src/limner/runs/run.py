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

from limner.core import device, distributed, schedule
from limner.core.files import write_whole
from limner.core.machine import Machine
from limner.core.text import sentence
from limner.data import Dataset
from limner.data.pairs import Pairs
from limner.methods.phase import Method
from limner.monitor.doctor import CHECKS, Doctor, Probe
from limner.networks import parameter_count
from limner.networks.contracts import ProgressiveNet
from limner.runs import command
from limner.runs.callbacks import FEWEST, Meter, Previews, animate
from limner.runs.costs import ending_seconds, metric_seconds, watching_seconds
from limner.runs.extending import budget_of, extended
from limner.runs.facts import facts, write_skipped
from limner.runs.inventory import difference, record
from limner.runs.options import Options
from limner.runs.publish import publish
from limner.training.budget import Budget
from limner.training.log import TensorBoardWriter, duration
from limner.training.loop import Callback, Outcome, Plan, Stream, View, fit
from limner.training.run import check_free, claimed, recall, remember
from limner.training.state import OptimizerConfig
from limner.training.trial import QUARTERS, choose_threads, measure, thread_counts

MARK_SECONDS = 100  # of training between two marks, by the measured speed; a mark is what a bad loss steps back to
MARKS = 40  # a run, at most
TRIAL = 4.0  # seconds that the trial of the speed takes, at most about so many
ROUNDS = 3  # trials, at most, while the machine is busy
OWN = 0.97  # share of the training time that is the players'; the rest goes to the log, checkpoints and the doctor
FREE = 0.6  # share of the time that a trial of the speed computes on a machine that does little else


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
    recipe: str  # its name


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run as a family states it."""

    name: str  # the recipe's name
    recipe: Any  # its dataclass, kept in the description; every family's says batch, micro_batch, grad_clip, ema_half_life and how rates fall
    dataset: Dataset | Pairs
    options: Options
    method: Method
    stream: Stream
    optimizers: Mapping[str, OptimizerConfig]  # one a player
    network: dict[str, Any]  # how to build the published network again (networks.describe)
    published: str  # which of the method's networks is the product
    kind: str  # what the product is: "generator", …
    preview: Callable[[nn.Module], np.ndarray]  # averaged network -> uint8 [N,C,H,W], always the same inputs
    generate: Callable[[nn.Module, int], np.ndarray] | None = None  # (averaged network, n) -> n samples, for the metric
    examine: Probe | None = None  # what the doctor looks at
    held_out_count: int = 0  # pictures of the dataset that are not trained on
    callbacks: Sequence[Callback] = ()  # further things to do between iterations
    notes: list[str] = field(default_factory=list)  # sentences to say before the start


def start(options: Options, ranks: distributed.Ranks) -> Machine:
    """Settle threads and allocator, choose device and precision. Raises ValueError for options that no run can have."""
    if options.tensorboard and find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not installed: `pip install limner[tensorboard]`, or leave out --tensorboard.")
    device.configure_runtime(options.threads)
    chosen = device.select_device(options.device, ranks.local)
    return Machine(chosen, device.precision(chosen, options.precision), ranks)


def plan_of(job: Job, images: int) -> Plan:
    """How a budget of so many images is played. What the machine or the command adds, `play` puts in."""
    recipe = job.recipe
    return Plan(
        images=images,
        batch=recipe.batch,
        micro_batch=recipe.micro_batch,
        optimizers=job.optimizers,
        lr_factor=lambda clock: schedule.lr_factor(
            clock.seen, clock.budget, recipe.schedule, recipe.lr_decay_start, recipe.lr_warmup
        ),
        ema_half_life=recipe.ema_half_life,
        clip=recipe.grad_clip,
        seed=job.options.seed,
    )


def play(job: Job, machine: Machine) -> Trained:
    """Train the job in its folder, or resume it there; returns when it is finished or was asked to stop.

    Raises ValueError (one sentence) for a folder that is in use, unwritable or belongs to another command, for a full
    disk, and when training diverges.
    """
    options = job.options
    if options.auto_tune and (job.examine is None or job.kind != "generator"):
        reason = "changes games of a generator and a discriminator only" if options.doctor else "was sent away by --no-doctor"
        raise ValueError(f"--auto-tune needs the doctor, who {reason}: leave it out.")
    for optimizer in job.optimizers.values():
        optimizer.build([nn.Parameter(torch.zeros(1))])  # refuses what no optimizer takes before any folder is made
    folder = run_folder(options, job.dataset, job.name)
    say = _speaker(options.quiet or not machine.ranks.first)
    if not machine.ranks.first:
        return _play_claimed(job, machine, folder, say)
    check_free(folder)
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
        "size": list(spec.size),
        "channels": spec.channels,
        "data": job.dataset.fingerprint,
        "classes": spec.classes,
        "minutes": None if options.images else options.minutes or 10.0,
        "images": options.images,
        "seed": options.seed,
        "doctor": job.examine is not None,
        "auto_tune": options.auto_tune,
    }
    decided: Any = distributed.broadcast_from_rank0(recall(folder, asked, lambda: difference(folder, job.dataset)) if machine.ranks.first else None)
    for note in (*facts(job.dataset, folder), *job.notes):
        say(note)
    job.notes.clear()
    meter = meter_of(job, lambda view, figures: keep_best(job, machine, decided, view, figures))
    if decided is None:
        if machine.more:
            raise ValueError(f"{folder} holds no run to train longer: leave --more out.")
        say("Measuring the speed ...")
        decided = distributed.broadcast_from_rank0(decide(job, machine, meter))  # clocks differ
        if machine.ranks.first:
            remember(folder, asked, decided)
            record(folder, job.dataset)
            if machine.command:
                command.keep(folder, machine.command)
    elif machine.more:
        decided = distributed.broadcast_from_rank0(extended(decided, plan_of(job, 1).batch, machine, folder) if machine.ranks.first else None)
        if machine.ranks.first:
            remember(folder, asked, decided)
    _keep_precision(decided, job, machine, folder)
    _keep_threads(decided, job, machine)

    def keep_revisions(entries: list[dict[str, Any]]) -> None:
        decided["revisions"] = entries[1:]
        remember(folder, asked, decided)

    budget = budget_of(decided, plan_of(job, 1).batch, keep_revisions, folder)
    plan = dataclasses.replace(
        plan_of(job, decided["images"]),
        precision=machine.precision,
        checkpoint_seconds=float(options.checkpoint_minutes) * 60,
        mark_every=max(1, round(decided["images_per_second"] * MARK_SECONDS), decided["images"] // MARKS),
    )
    if machine.ranks.first:
        write_skipped(job.dataset, folder)
    sizes = ", ".join(f"{name} {_short(parameter_count(net))}" for name, net in job.method.nets.items())
    for note in job.notes:
        say(note)
    say(
        f"Training {job.name} ({sizes} parameters) on {len(job.dataset):,} "
        f"{'picture' if len(job.dataset) == 1 else 'pictures'} of {job.dataset.name} ({spec}), "
        f"{machine}: {budget.decisions[-1].images:,} images seen, {_told(decided, budget, machine)}. "
        f"Results go to {folder}."
    )
    tensorboard_writer = TensorBoardWriter(folder / "tensorboard") if options.tensorboard and machine.ranks.first else None
    callbacks: list[Callback] = [Previews(job.preview, job.published), *job.callbacks, *([meter] if meter else [])]
    outcome = fit(
        job.method,
        job.stream,
        folder,
        plan,
        device=machine.device,
        ranks=machine.ranks,
        callbacks=callbacks,
        publish=lambda view: publish(job, machine, view, decided),
        doctor=Doctor(job.examine, options.auto_tune) if job.examine else None,
        quiet=options.quiet,
        tensorboard_writer=tensorboard_writer,
        budget=budget,
    )
    if tensorboard_writer:
        tensorboard_writer.close()
    if machine.command and machine.ranks.first:  # not before: a run that is refused is left as it is
        command.keep(folder, machine.command)
    if outcome.finished and machine.ranks.first:
        animate(folder)
    return Trained(folder, outcome, job.name)


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


def meter_of(job: Job, keep: Callable[[View, Mapping[str, float]], None]) -> Meter | None:
    """The hook of the metric that the options ask for; keep: called when a value is the lowest so far."""
    if not job.generate or job.options.metric == "none" or len(job.dataset) < FEWEST:
        return None
    assert isinstance(job.dataset, Dataset), "a metric of samples compares with one set of pictures"
    return Meter(job.generate, job.published, job.dataset, job.options.metric, keep)


def keep_best(job: Job, machine: Machine, decided: Mapping[str, Any], view: View, figures: Mapping[str, float]) -> None:
    """When the watched metric is the lowest so far: publish that state as `best/` beside the last."""
    folder = view.folder / "best"
    publish(job, machine, view, decided, folder, {**figures, "at_images": view.clock.seen})
    write_whole(folder / "preview.png", (view.folder / "preview.png").read_bytes())


def decide(job: Job, machine: Machine, meter: Meter | None = None) -> dict[str, Any]:
    """What is settled once, at the first start: threads, the speed measured on this machine, precision, the budget.

    The trial takes at most a twentieth of the budget, and a second trial is made where the machine was busy in the first.
    """
    options, ranks = job.options, machine.ranks
    trial = dataclasses.replace(plan_of(job, options.images or 10**9), precision=machine.precision)  # type: ignore[arg-type]
    grows = any(isinstance(net, ProgressiveNet) for net in job.method.nets.values())
    statistics_of = QUARTERS if grows else QUARTERS[1:2]
    on_cpu = machine.device.type == "cpu"

    share = 1.0  # of a core that the newest measurement got

    def speed(seconds: float, moment: float = statistics_of[0]) -> float:
        nonlocal share
        wall, worked = time.monotonic(), time.thread_time()
        found = measure(job.method, job.stream, trial, machine.device, ranks, seconds, (moment,))
        share = (time.thread_time() - worked) / max(1e-9, time.monotonic() - wall)
        return found

    chosen = torch.get_num_threads()
    counts = thread_counts(device.most_threads()) if on_cpu and options.threads is None else [chosen]
    if on_cpu:
        torch.set_num_threads(counts[0])  # even where others compute, one thread does what it can
    first = speed(0.0)  # three iterations
    total = float(options.minutes or 10.0) * 60 if not options.images else int(options.images) / first
    seconds = float(distributed.broadcast_from_rank0(min(TRIAL, total / 20)))  # type: ignore[arg-type]
    speeds = [first]
    if seconds > 3 * trial.batch / first:
        if len(counts) > 1:

            def with_threads(n: int) -> float:
                torch.set_num_threads(n)
                return speed(seconds / 4 / len(counts))

            chosen = choose_threads(with_threads, counts[-1])
            torch.set_num_threads(chosen)
        for _ in range(ROUNDS):
            speeds = [speed(seconds / 2 / len(statistics_of), moment) for moment in statistics_of]
            if distributed.broadcast_from_rank0(share >= FREE or not on_cpu or ranks.world > 1):  # alone nothing waits but for a core
                break
    else:
        chosen = counts[0]
    if share < FREE and on_cpu and ranks.world == 1:
        job.notes.append(
            f"The machine is busy: in the trial of the speed this run got {share:.0%} of a core. "
            + ("If that does not last, it ends sooner than told." if options.images else "The budget follows the clock at first.")
        )
    costs = [1 / found for found in speeds]
    mean = len(costs) / sum(costs)
    watching = watching_seconds(job) + (metric_seconds(job, meter) if meter and ranks.first else 0.0)
    watching += 0.5 * CHECKS * trial.batch / mean if job.examine else 0.0  # the doctor, and the iterations that are weighed
    ending = ending_seconds(job)
    allowed = None
    if options.images:
        images = int(options.images)
    else:  # the seconds of start-up, previews, the metric and the end are not the players'
        allowed = total - (time.monotonic() - machine.started) - ending
        images = int(mean * max(allowed - watching, 0.2 * total) * OWN)
        allowed = max(allowed, 0.2 * total)
    images = max(1, round(images / trial.batch)) * trial.batch
    return {
        "images": images,
        "images_per_second": round(mean, 2),
        "costs": [float(f"{cost:.4g}") for cost in costs],  # seconds an image, in equal parts of the run
        "besides": round(watching + ending, 2),  # seconds of the run that are not training
        "seconds": allowed,  # of training and watching that the images are meant for; null for a budget in images
        "threads": chosen,
        "precision": device.name_of(machine.precision),
        "started": time.strftime("%Y-%m-%d"),
    }


def _keep_threads(decided: Mapping[str, Any], job: Job, machine: Machine) -> None:
    """Compute with as many threads as the run was started with, for the last bits of sums depend on their number."""
    kept, wanted = decided.get("threads"), job.options.threads
    if machine.device.type != "cpu" or not kept:
        return
    if wanted not in (None, kept):
        job.notes.append(f"The run was started with {kept} CPU threads and goes on with {wanted}: the last bits of its weights may differ.")
    torch.set_num_threads(wanted or kept)


def _told(decided: Mapping[str, Any], budget: Budget, machine: Machine) -> str:
    """How long the whole run takes, as a person waits for it: from the command on."""
    images = budget.decisions[-1].images
    seconds = images / decided["images_per_second"] / OWN + decided.get("besides", 0.0)
    return f"about {duration(seconds + time.monotonic() - machine.started)} from start to end"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(sentence(text), file=sys.stderr, flush=True))

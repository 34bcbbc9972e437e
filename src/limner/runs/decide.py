"""The decisions of a run's first start: threads, the speed measured on this machine, precision, the budget."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from limner.core import device, distributed, schedule
from limner.core.machine import Machine
from limner.methods.phase import Clock, PeriodicWork
from limner.monitor.doctor import CHECKS
from limner.networks.contracts import ProgressiveNet
from limner.runs.costs import ending_seconds, validation_seconds
from limner.runs.experiment import Experiment
from limner.runs.options import Options
from limner.training.budget import Budget, Decision
from limner.training.iteration import Plan, Stream
from limner.training.trial import QUARTERS, choose_threads, measure, thread_counts

MINUTES = 10.0  # default budget
TRIAL_SECONDS = 4.0  # maximum duration of the speed trial, approximately
MAX_TRIALS = 3  # while the machine is busy
TRAINING = 0.97  # fraction of the training time spent in iterations; the rest is for the log, checkpoints and the doctor
MIN_LEFT = 0.2  # fraction of a budget in minutes that is left for the run when the start took longer
AVERAGE_EVERY = 8  # iterations between averages of ranks on CPUs
MIN_CPU_SHARE = 0.6  # CPU time / wall time of the trial's thread on a machine without much other load


def stream_of(experiment: Experiment, options: Options) -> Stream:
    """Return the run's data in the order of its seed."""
    return lambda first, count: experiment.batches.batch(first, count, options.seed)


def average_every(options: Options, machine: Machine) -> int:
    """Return the iterations between averages of the ranks; 0 if there is one, or if gradients are summed.

    Raises ValueError for an interval with one rank, and with batch statistics of all ranks, for which these must stay equal.
    """
    wanted = options.average_every
    if wanted and options.sync_batch_norm:
        raise ValueError("--sync-batch-norm needs ranks that are equal at every moment: leave out --average-every.")
    if machine.ranks.world == 1:
        if wanted:
            raise ValueError("--average-every averages the networks of several ranks: add --ranks 2, or leave it out.")
        return 0
    default = AVERAGE_EVERY if machine.device.type == "cpu" and not options.sync_batch_norm else 0
    return default if wanted is None else wanted


def plan_of(experiment: Experiment, options: Options, images: int) -> Plan:
    """Return the plan for a budget of `images`, without the decisions of the machine and the trial."""
    recipe = experiment.recipe
    return Plan(
        images=images,
        batch=recipe.batch,
        micro_batch=recipe.micro_batch,
        optimizers=experiment.optimizers,
        lr_factor=lambda clock: schedule.lr_factor(
            clock.seen, clock.budget, recipe.schedule, recipe.lr_decay_start, recipe.lr_warmup
        ),
        ema_half_life=recipe.ema_half_life,
        grad_clip=recipe.grad_clip,
        seed=options.seed,
    )


def decide(
    experiment: Experiment, options: Options, machine: Machine, started: float, say: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, Any], str]:
    """Return the decisions, as stored in `run.json`, and a sentence for people if the machine is busy (otherwise empty).

    started: the `time.monotonic()` from which a budget in minutes counts. The trial takes at most a twentieth of the budget,
    and is repeated while the machine is busy. The method's periodic work that is due at the start follows it: its time is then known.
    """
    trial = _Trial(experiment, options, machine)
    on_cpu = machine.device.type == "cpu"
    chosen = torch.get_num_threads()
    counts = thread_counts(device.most_threads()) if on_cpu and options.threads is None else [chosen]
    counts = cast("list[int]", distributed.broadcast_from_rank0(counts))  # every trial is one of all ranks
    if on_cpu:
        torch.set_num_threads(counts[0])  # the speed of one thread depends least on other programs
    first = trial.speed(0.0)  # three iterations
    total = float(options.minutes or MINUTES) * 60 if not options.images else int(options.images) / first
    seconds = float(cast(float, distributed.broadcast_from_rank0(min(TRIAL_SECONDS, total / 20))))
    speeds = [first]
    if seconds > 3 * trial.plan.batch / first:
        if len(counts) > 1:
            share = seconds / 4 / len(counts)
            chosen = choose_threads(lambda n: trial.speed_with(n, share), counts[-1])
            torch.set_num_threads(chosen)
        for _ in range(MAX_TRIALS):
            speeds = [trial.speed(seconds / 2 / len(trial.moments), moment) for moment in trial.moments]
            if distributed.broadcast_from_rank0(not trial.busy):
                break
    else:
        chosen = counts[0]
    busy = ""
    if trial.busy:
        busy = f"The machine is busy: in the speed trial this run got {trial.share:.0%} of a core. " + (
            "If other programs end, it ends sooner than announced." if options.images else "The budget follows the clock at first."
        )
    periodic, batch, span = experiment.method.periodic, trial.plan.batch, trial.plan.span
    if periodic and periodic.due(Clock(0, batch, batch)):
        say(f"{periodic.title} ...")
        periodic.run(Clock(0, batch, batch))
    costs = [1 / found for found in speeds]
    mean = len(costs) / sum(costs)
    validation, ending = validation_seconds(experiment), ending_seconds(experiment)  # of one milestone
    allowed = None
    if options.images:
        images = max(1, round(int(options.images) / span)) * span
    else:  # without the seconds of start-up, previews, validation and the end
        left = max(total - (time.monotonic() - started), MIN_LEFT * total)
        images = _affordable(costs, batch, span, left, validation + ending, experiment.probe is not None, periodic)
        allowed = max(0.0, left - ending * schedule.milestone_batches(images, batch))
    besides = (validation + ending) * schedule.milestone_batches(images, batch)
    besides += _doctor_seconds(images, batch, mean) if experiment.probe else 0.0
    besides += periodic.remaining(Clock(0, images, batch), 1 / mean) if periodic else 0.0
    decided = {
        "images": images,
        "images_per_second": round(mean, 2),
        "costs": [float(f"{cost:.4g}") for cost in costs],  # seconds per image, in equal parts of the run
        "besides": round(besides, 2),  # seconds of the run other than training
        "seconds": allowed,  # of training and validation for these images; null for a budget in images
        "threads": chosen,
        "ranks": machine.ranks.world,
        "average_every": trial.plan.average_every,
        "precision": device.name_of(machine.precision),
        "started": time.strftime("%Y-%m-%d"),
    }
    return decided, busy


def _affordable(
    costs: Sequence[float], batch: int, span: int, seconds: float, milestone: float, doctor: bool, periodic: PeriodicWork | None
) -> int:
    """Return the largest budget in images, in whole spans, that takes at most `seconds`; at least one span.

    costs: seconds per image in equal parts of the run. span: images between equal ranks. milestone: seconds besides training at each milestone.
    """
    mean = sum(costs) / len(costs)
    budget = Budget([Decision(0, span, 0.0)], span, [cost / TRAINING for cost in costs])
    images = span
    checks = 0.0
    for _ in range(2):  # the doctor checks a short run less often
        images = budget.affordable(0, seconds - milestone - checks, callback=milestone, periodic=periodic)  # there is one milestone at the start
        checks = _doctor_seconds(images, batch, 1 / mean) if doctor else 0.0
    return images


def _doctor_seconds(images: int, batch: int, speed: float) -> float:
    """Return the seconds of the doctor's checks, and of recording the iterations before them: half an iteration each."""
    return 0.5 * min(CHECKS, images // batch) * batch / speed


class _Trial:
    """Measures the speed of an experiment, and the load of the machine during the measurement."""

    def __init__(self, experiment: Experiment, options: Options, machine: Machine) -> None:
        self.experiment, self.machine = experiment, machine
        self.plan = dataclasses.replace(
            plan_of(experiment, options, int(options.images or 10**9)), precision=machine.precision, average_every=average_every(options, machine)
        )
        self.stream = stream_of(experiment, options)
        method = experiment.method
        changes = any(isinstance(net, ProgressiveNet) for net in method.nets.values()) or any(p.window != (0, 1) for p in method.phases)
        self.moments = QUARTERS if changes else QUARTERS[1:2]  # of the run; the speed differs between them if networks or phases change
        self.share = 1.0  # CPU time / wall time of the last measurement

    def speed(self, seconds: float, moment: float | None = None) -> float:
        """Return the images per second, measured for `seconds` at a moment of the run (by default its first one)."""
        moment = self.moments[0] if moment is None else moment
        wall, worked = time.monotonic(), time.thread_time()
        found = measure(
            self.experiment.method, self.stream, self.plan, self.machine.device, self.machine.ranks, seconds, (moment,)
        )
        self.share = (time.thread_time() - worked) / max(1e-9, time.monotonic() - wall)
        return found

    def speed_with(self, threads: int, seconds: float) -> float:
        torch.set_num_threads(threads)
        return self.speed(seconds)

    @property
    def busy(self) -> bool:
        """Whether other programs used the core: on a CPU, a single process waits for nothing else."""
        return self.share < MIN_CPU_SHARE and self.machine.device.type == "cpu" and self.machine.ranks.world == 1

"""What a run settles once, at its first start: threads, the speed measured on this machine, precision, the budget."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, cast

import torch

from limner.core import device, distributed, schedule
from limner.core.machine import Machine
from limner.monitor.doctor import CHECKS
from limner.networks.contracts import ProgressiveNet
from limner.runs.costs import ending_seconds, watching_seconds
from limner.runs.experiment import Experiment
from limner.runs.options import Options
from limner.training.loop import Plan, Stream
from limner.training.trial import QUARTERS, choose_threads, measure, thread_counts

MINUTES = 10.0  # budget of a command without one
TRIAL = 4.0  # seconds that the trial of the speed takes at most, approximately
ROUNDS = 3  # trials at most, while the machine is busy
TRAINING = 0.97  # share of the training time that the players take; the rest goes to the log, checkpoints and the doctor
IDLE = 0.6  # share of its time that the trial's thread computes on a machine that does little else


def stream_of(experiment: Experiment, options: Options) -> Stream:
    """The run's pictures in the order of its seed."""
    return lambda first, count: experiment.batches.batch(first, count, options.seed)


def plan_of(experiment: Experiment, options: Options, images: int) -> Plan:
    """How a budget of so many images is trained, but for what the machine and the trial decide."""
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
        clip=recipe.grad_clip,
        seed=options.seed,
    )


def decide(experiment: Experiment, options: Options, machine: Machine, started: float) -> tuple[dict[str, Any], str]:
    """The decisions, as `run.json` keeps them, and a sentence for people where the machine is busy (else empty).

    started: the `time.monotonic()` from which a budget in minutes counts. The trial takes at most a twentieth of the
    budget, and is repeated where the machine was busy.
    """
    trial = _Trial(experiment, options, machine)
    on_cpu = machine.device.type == "cpu"
    chosen = torch.get_num_threads()
    counts = thread_counts(device.most_threads()) if on_cpu and options.threads is None else [chosen]
    if on_cpu:
        torch.set_num_threads(counts[0])  # one thread computes at its speed even where other programs do
    first = trial.speed(0.0)  # three iterations
    total = float(options.minutes or MINUTES) * 60 if not options.images else int(options.images) / first
    seconds = float(cast(float, distributed.broadcast_from_rank0(min(TRIAL, total / 20))))
    speeds = [first]
    if seconds > 3 * trial.plan.batch / first:
        if len(counts) > 1:
            share = seconds / 4 / len(counts)
            chosen = choose_threads(lambda n: trial.speed_with(n, share), counts[-1])
            torch.set_num_threads(chosen)
        for _ in range(ROUNDS):
            speeds = [trial.speed(seconds / 2 / len(trial.moments), moment) for moment in trial.moments]
            if distributed.broadcast_from_rank0(not trial.busy):
                break
    else:
        chosen = counts[0]
    busy = ""
    if trial.busy:
        busy = f"The machine is busy: in the trial of the speed this run got {trial.share:.0%} of a core. " + (
            "If other programs end, it ends sooner than announced." if options.images else "The budget follows the clock at first."
        )
    costs = [1 / found for found in speeds]
    mean = len(costs) / sum(costs)
    watching = watching_seconds(experiment)
    watching += 0.5 * CHECKS * trial.plan.batch / mean if experiment.probe else 0.0  # the doctor, and the iterations it records
    ending = ending_seconds(experiment)
    allowed = None
    if options.images:
        images = int(options.images)
    else:  # the seconds of start-up, previews, validation and the end are not the players'
        allowed = total - (time.monotonic() - started) - ending
        images = int(mean * max(allowed - watching, 0.2 * total) * TRAINING)
        allowed = max(allowed, 0.2 * total)
    images = max(1, round(images / trial.plan.batch)) * trial.plan.batch
    decided = {
        "images": images,
        "images_per_second": round(mean, 2),
        "costs": [float(f"{cost:.4g}") for cost in costs],  # seconds an image, in equal parts of the run
        "besides": round(watching + ending, 2),  # seconds of the run that are not training
        "seconds": allowed,  # of training and validation that the images are meant for; null for a budget in images
        "threads": chosen,
        "precision": device.name_of(machine.precision),
        "started": time.strftime("%Y-%m-%d"),
    }
    return decided, busy


class _Trial:
    """Measures the speed of an experiment, and how busy the machine is meanwhile."""

    def __init__(self, experiment: Experiment, options: Options, machine: Machine) -> None:
        self.experiment, self.machine = experiment, machine
        self.plan = dataclasses.replace(
            plan_of(experiment, options, int(options.images or 10**9)), precision=machine.precision
        )
        self.stream = stream_of(experiment, options)
        grows = any(isinstance(net, ProgressiveNet) for net in experiment.method.nets.values())
        self.moments = QUARTERS if grows else QUARTERS[1:2]  # of the run, whose speeds differ where networks grow
        self.share = 1.0  # of a core that the newest measurement got

    def speed(self, seconds: float, moment: float | None = None) -> float:
        """Images a second, measured for so long at a moment of the run (its first one by default)."""
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
        """Whether other programs took the core: on a CPU, one process waits for nothing else."""
        return self.share < IDLE and self.machine.device.type == "cpu" and self.machine.ranks.world == 1

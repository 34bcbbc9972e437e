"""What every recipe's run shares: the machine, the folder, the budget, the previews, the published model.

A family (recipes/gan.py, …) states its decisions and builds a method; `play` turns that into a run folder.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import limner
from limner.core import artifact, device, dist, schedule
from limner.core.images import grid, write_animation, write_png
from limner.data import Dataset
from limner.methods.phase import Clock, Method
from limner.networks import parameter_count
from limner.training.log import Board, duration
from limner.training.loop import Hook, Outcome, Plan, Stream, View, fit, measure
from limner.training.run import claimed, recall, remember


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
    tensorboard: bool = False  # write curves and grids for TensorBoard too (needs limner[tensorboard])
    quiet: bool = False  # say nothing while it works


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    folder: Path
    outcome: Outcome


@dataclass(frozen=True)
class Machine:
    """Where a run happens."""

    device: torch.device
    precision: torch.dtype
    ranks: dist.Ranks

    def __str__(self) -> str:
        kind = "bf16" if self.precision == torch.bfloat16 else "fp32"
        ranks = f", {self.ranks.world} ranks" if self.ranks.world > 1 else ""
        return f"{device.describe(self.device)}, {kind}{ranks}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run as a family states it."""

    name: str  # the recipe's name
    recipe: Any  # its dataclass, kept in the description
    dataset: Dataset
    options: Options
    method: Method
    stream: Stream
    plan: Callable[[int], Plan]  # images of the budget -> the plan
    network: dict[str, Any]  # how to build the published network again (networks.describe)
    published: str  # which of the method's networks is the product
    kind: str  # what the product is: "generator", …
    preview: Callable[[nn.Module], np.ndarray]  # averaged network -> uint8 [N,C,H,W], always the same inputs
    hooks: Sequence[Hook] = ()  # further things to do between iterations
    asked: Mapping[str, Any] = field(default_factory=dict)  # what else of the command changes the result
    notes: list[str] = field(default_factory=list)  # sentences to say before the start


def start(options: Options, ranks: dist.Ranks) -> Machine:
    """Settle threads and allocator, choose device and precision."""
    device.settle(options.threads)
    chosen = device.pick(options.device, ranks.local)
    return Machine(chosen, device.precision(chosen, options.precision), ranks)


def play(job: Job, machine: Machine) -> Trained:
    """Train the job in its folder, or resume it there; returns when it is finished or was asked to stop.

    Raises ValueError (one sentence) for a folder that is in use, unwritable or belongs to another command, for a full
    disk, and when training diverges.
    """
    options = job.options
    folder = options.out or Path("runs") / default_name(job)
    say = _speaker(options.quiet or not machine.ranks.first)
    if not machine.ranks.first:
        return _play_claimed(job, machine, folder, say)
    with claimed(folder):
        return _play_claimed(job, machine, folder, say)


def default_name(job: Job) -> str:
    spec = job.dataset.spec
    size = f"{spec.height}" if spec.height == spec.width else f"{spec.height}x{spec.width}"
    return f"{job.dataset.name}-{job.name}-{size}"


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
        **job.asked,
    }
    decided: Any = dist.told_by_first(recall(folder, asked) if machine.ranks.first else None)
    if decided is None:
        decided = decide(job, machine)
        if machine.ranks.first:
            remember(folder, asked, decided)
    plan = dataclasses.replace(
        job.plan(decided["images"]),
        seed=options.seed,
        precision=machine.precision,
        checkpoint_seconds=options.checkpoint_minutes * 60,
    )
    sizes = ", ".join(f"{name} {_short(parameter_count(net))}" for name, net in job.method.nets.items())
    for note in job.notes:
        say(note)
    say(
        f"Training {job.name} ({sizes} parameters) on {len(job.dataset):,} pictures of {job.dataset.name} ({spec}), "
        f"{machine}: {plan.images:,} images seen, about {duration(plan.images / decided['images_per_second'])}. "
        f"Results go to {folder}."
    )
    board = Board(folder / "tensorboard") if options.tensorboard and machine.ranks.first else None
    previews = Previews(job.preview, job.published, plan.images, plan.batch)
    outcome = fit(
        job.method,
        job.stream,
        folder,
        plan,
        device=machine.device,
        ranks=machine.ranks,
        hooks=[previews, *job.hooks],
        publish=lambda view: publish(job, machine, view, decided),
        quiet=options.quiet,
        board=board,
    )
    if board:
        board.close()
    if outcome.finished and machine.ranks.first:
        animate(folder)
    return Trained(folder, outcome)


def decide(job: Job, machine: Machine) -> dict[str, Any]:
    """What is settled once, at the first start: the speed measured on this machine, and the budget in images."""
    trial = job.plan(job.options.images or 10**9)
    trial = dataclasses.replace(trial, seed=job.options.seed, precision=machine.precision)
    speed = measure(job.method, job.stream, trial, machine.device, machine.ranks)
    if job.options.images:
        images = job.options.images
    else:  # the seconds that the trial, previews and checkpoints take are not the players'
        images = int(speed * ((job.options.minutes or 10.0) * 60 - 6) * 0.97)
    images = max(1, round(images / trial.batch)) * trial.batch
    return {"images": images, "images_per_second": round(speed, 2), "started": time.strftime("%Y-%m-%d")}


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda sentence: None) if quiet else (lambda sentence: print(sentence, file=sys.stderr, flush=True))


# ---- what people look at ---------------------------------------------------------------------------------------------


class Previews:
    """A hook: a sheet of samples from the averaged network and fixed inputs, often at first, then evenly."""

    def __init__(self, preview: Callable[[nn.Module], np.ndarray], network: str, budget: int, batch: int) -> None:
        self.preview, self.network, self.batch = preview, network, batch
        self.marks = schedule.preview_marks(budget)

    def due(self, clock: Clock) -> bool:
        return any(clock.seen - self.batch < mark <= clock.seen for mark in self.marks)

    def __call__(self, view: View) -> None:
        sheet = grid(self.preview(view.averages[self.network]), columns=8)
        write_png(view.folder / "samples" / f"{view.clock.seen:09d}.png", sheet)
        write_png(view.folder / "preview.png", sheet)
        if view.board:
            view.board.picture(view.clock.seen, sheet)


def animate(folder: Path) -> None:
    """`progress.webp`: the sample sheets of the whole run in their order, at most about 640 px wide."""
    frames = []
    for path in sorted((folder / "samples").glob("*.png")):
        with Image.open(path) as picture:
            picture.thumbnail((640, 640), Image.Resampling.BOX)
            array = np.asarray(picture)
        frames.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    if frames:
        write_animation(folder / "progress.webp", frames, milliseconds=400)


# ---- what people use -------------------------------------------------------------------------------------------------


def publish(job: Job, machine: Machine, view: View, decided: Mapping[str, Any]) -> None:
    """Write the averaged network as a self-describing folder."""
    data = job.dataset
    description = {
        "limner": limner.__version__,
        "kind": job.kind,
        "recipe": {"name": job.name, **dataclasses.asdict(job.recipe)},
        "data": {
            "name": data.name,
            "origin": data.origin,
            "count": len(data),
            "spec": dataclasses.asdict(data.spec),
            "classes": list(data.classes),
            "class_counts": torch.bincount(data.labels, minlength=len(data.classes)).tolist()
            if data.labels is not None and data.spec.classes
            else [],
            "fingerprint": data.fingerprint,
            "attribution": data.attribution,
        },
        "network": {"name": job.published, **job.network},
        "training": {
            "images": view.clock.seen,
            "budget": view.clock.budget,
            "batch": view.clock.batch,
            "seconds": round(view.seconds, 1),
            "seed": job.options.seed,
            "machine": str(machine),
            "torch": str(torch.__version__),
            "started": decided["started"],
        },
        "metrics": {},
        "license": None,
    }
    artifact.save(view.folder, {job.published: view.averages[job.published]}, description, model_card(description))


def model_card(description: Mapping[str, Any]) -> str:
    """The README.md of a run folder, with the front matter that model hubs read."""
    data, training, spec = description["data"], description["training"], description["data"]["spec"]
    done = training["images"] / training["budget"]
    classes = f"\nClasses: {', '.join(data['classes'])}.\n" if spec["classes"] else ""
    attribution = f"\n{data['attribution']}\n" if data["attribution"] else ""
    metrics = "\n".join(f"- {name}: {value}" for name, value in description["metrics"].items())
    metrics = metrics or "No figures were measured; `limner evaluate` does."
    channels = {1: "grey", 3: "RGB", 4: "RGBA"}[spec["channels"]]
    return f"""---
library_name: limner
license: {description["license"] or "other  # state the licence of your pictures and weights here"}
tags: [image-generation, gan, limner]
---

# {data["name"]}: an image {description["kind"]}

![samples](preview.png)

Made by [Limner](https://pypi.org/project/limner/) {description["limner"]} with the recipe `{description["recipe"]["name"]}`.

## What it was trained on

{data["origin"]}: {data["count"]:,} pictures of {spec["height"]}x{spec["width"]} pixels, {channels}.
{classes}{attribution}
## How

{training["images"]:,} images seen ({done:.0%} of the budget) in {duration(training["seconds"])} on {training["machine"]}, seed {training["seed"]}.
Every setting is in `limner.json`.

## Figures

{metrics}

## Use

    limner sample THIS_FOLDER -n 64 --out grid.png

    import limner
    model = limner.load("THIS_FOLDER")
    model.sample(16, seed=0).save("grid.png")

The folder holds numbers and text only: loading it runs no code.

## Limits

It imitates its training pictures, with their biases and gaps, and may come close to single ones of them when they were few.
State the licence of the pictures and of these weights in the front matter above before you share it.
"""

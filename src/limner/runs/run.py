"""The run of an experiment in its folder: decisions, training, publication."""

from __future__ import annotations

import copy
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from limner.core import device, distributed
from limner.core.artifact import read_description
from limner.core.files import lies_in, write_whole
from limner.core.images import write_png
from limner.core.machine import Machine
from limner.core.text import counted, sentence
from limner.monitor.doctor import Doctor
from limner.networks import parameter_count
from limner.runs import command
from limner.runs.callbacks import Previews, Validation, animate, sheet_of
from limner.runs.decide import MINUTES, TRAINING, average_every, decide, plan_of, stream_of
from limner.runs.experiment import Experiment, Invocation, Trained, TrainingSet
from limner.runs.extending import budget_of, extended
from limner.runs.facts import facts, write_skipped
from limner.runs.inventory import difference, only_added
from limner.runs.inventory import record as record_pictures
from limner.runs.options import Options
from limner.runs.publish import publish
from limner.runs.transfer import Transfer, compare, freeze, is_tried, read_parent, transfer
from limner.training.budget import Budget
from limner.training.log import TensorBoardWriter, duration
from limner.training.loop import Callback, View, fit
from limner.training.run import FIRST_SHEET, check_free, locked, read_decisions, recorded_request, write_decisions
from limner.training.state import progress

ROLLBACK_SECONDS = 100  # of training between two rollback states, by the measured speed
MAX_ROLLBACKS = 40  # rollback states per run

Print = Callable[[str], None]


def start(options: Options, ranks: distributed.Ranks) -> Machine:
    """Configure threads and allocator, select device and precision. Raises ValueError for invalid options."""
    if options.tensorboard and find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not installed: `pip install limner[tensorboard]`, or leave out --tensorboard.")
    device.configure_runtime(options.threads)
    chosen = device.select_device(options.device, ranks.local)
    return Machine(chosen, device.precision(chosen, options.precision), ranks)


def run_folder(options: Options, data: TrainingSet, recipe: str) -> Path:
    """Return the folder of a run: `options.out`, by default runs/DATA-RECIPE-SIZE."""
    spec = data.spec
    size = f"{spec.height}" if spec.height == spec.width else f"{spec.height}x{spec.width}"
    return options.out or Path("runs") / f"{data.name}-{recipe}-{size}"


def run(experiment: Experiment, options: Options, machine: Machine, invocation: Invocation | None = None) -> Trained:
    """Train the experiment in its folder, or resume it there; returns when it is finished or a stop was requested.

    Raises ValueError for a folder that is in use, cannot be written or belongs to another command, for a full disk, and when
    training diverges.
    """
    if options.auto_tune and not (experiment.probe and experiment.method.levers):
        reason = "adjusts GANs only" if options.doctor else "is turned off by --no-doctor"
        raise ValueError(f"--auto-tune needs the doctor, which {reason}: leave it out.")
    average_every(options, machine)  # raises, too
    for optimizer in experiment.optimizers.values():
        optimizer.build([nn.Parameter(torch.zeros(1))])  # raises for invalid options before a folder is made
    folder = run_folder(options, experiment.data, experiment.name)
    say = _printer(options.quiet or not machine.ranks.first)
    invocation = invocation or Invocation()
    if invocation.parent and lies_in(invocation.parent, folder):
        raise ValueError(f"The run would go to {folder}, where the run of --from is: choose another folder with --out.")
    if not machine.ranks.first:
        return _run_in(folder, experiment, options, machine, invocation, say)
    check_free(folder)
    with locked(folder):
        return _run_in(folder, experiment, options, machine, invocation, say)


def request_of(experiment: Experiment, options: Options, parent: str | None = None) -> dict[str, Any]:
    """Return everything of a command that changes the result of its run. parent: SHA-256 of the weights it starts from."""
    spec = experiment.data.spec
    return {
        "recipe": experiment.name,
        "options": dataclasses.asdict(experiment.recipe),
        "size": list(spec.size),
        "channels": spec.channels,
        "data": experiment.data.fingerprint,
        "condition": dataclasses.asdict(spec.condition),
        "minutes": None if options.images else options.minutes or MINUTES,
        "images": options.images,
        "seed": options.seed,
        "held_out_count": experiment.held_out_count,
        "doctor": experiment.probe is not None,
        "auto_tune": options.auto_tune,
        "sync_batch_norm": options.sync_batch_norm,
        "average_every": options.average_every,
        "from": parent,
        "adapt": options.adapt,
    }


def _run_in(
    folder: Path, experiment: Experiment, options: Options, machine: Machine, invocation: Invocation, say: Print
) -> Trained:
    first, data = machine.ranks.first, experiment.data
    parent = read_parent(invocation.parent) if invocation.parent else None
    start = transfer(experiment, parent, options.adapt) if parent else None
    sha256 = parent.sha256 if parent else recorded_request(folder).get("from") if invocation.resume else None
    request = request_of(experiment, options, sha256)
    decided: Any = distributed.broadcast_from_rank0(_decisions(folder, request, data, invocation) if first else None)
    for note in (*facts(data, folder), *experiment.notes, *(start.notes if start and decided is None else [])):
        say(note)
    if decided is None:
        if invocation.more:
            raise ValueError(f"{folder} holds no run to extend: leave --more out.")
        if first:
            write_first_sheet(experiment, folder)
        record = _tried(experiment, start, options, machine, say) if start else {}
        experiment = freeze(experiment, start.record["frozen"] if start else [])
        say("Measuring the speed ...")
        found = decide(experiment, options, machine, invocation.started, say)
        decided, busy = cast(Any, distributed.broadcast_from_rank0(found))  # clocks differ: that of rank 0 is used
        decided |= record
        if busy:
            say(busy)
        if first:
            write_decisions(folder, request, decided)
            record_pictures(folder, data)
            if invocation.command:
                command.keep(folder, invocation.command)
    else:
        if "transfer" in decided and not start and progress(folder / "checkpoint") is None:
            raise ValueError(f"{folder} was stopped before its first checkpoint: give the command it was started with, --from among it.")
        experiment = freeze(experiment, decided.get("transfer", {}).get("frozen", []))
    span = experiment.recipe.batch * max(1, decided["average_every"])
    if invocation.more:
        decided = distributed.broadcast_from_rank0(
            extended(decided, span, invocation.more, invocation.started, folder) if first else None
        )
        if first:
            write_decisions(folder, request, decided)
            record_pictures(folder, data)
    _keep_precision(decided, options, machine, folder, say)
    _keep_threads(decided, options, machine, say)
    _compare_ranks(decided, experiment.recipe.batch, options, machine, say)

    def keep_revisions(entries: list[dict[str, Any]]) -> None:
        decided["revisions"] = entries[1:]
        write_decisions(folder, request, decided)

    budget = budget_of(decided, span, keep_revisions, folder)
    plan = dataclasses.replace(
        plan_of(experiment, options, decided["images"]),
        precision=machine.precision,
        average_every=decided["average_every"] if machine.ranks.world > 1 else 0,
        checkpoint_seconds=float(options.checkpoint_minutes) * 60,
        rollback_every=max(1, round(decided["images_per_second"] * ROLLBACK_SECONDS), decided["images"] // MAX_ROLLBACKS),
    )
    if first:
        write_skipped(data, folder)
    say(_announcement(experiment, machine, decided, budget, invocation, folder))
    writer = TensorBoardWriter(folder / "tensorboard") if options.tensorboard and first else None
    outcome = fit(
        experiment.method,
        stream_of(experiment, options),
        folder,
        plan,
        device=machine.device,
        ranks=machine.ranks,
        callbacks=callbacks_of(experiment, options, machine, decided, invocation.pause.at),
        publish=lambda view: publish(experiment, options, machine, view, decided),
        doctor=Doctor(experiment.probe, options.auto_tune) if experiment.probe else None,
        quiet=options.quiet,
        tensorboard_writer=writer,
        budget=budget,
        averages=start.averages if start else None,
        pause=invocation.pause,
    )
    if writer:
        writer.close()
    if invocation.command and first:  # not earlier: a run that raises an error is left unchanged
        command.keep(folder, invocation.command)
    if outcome.finished and first:
        animate(folder)
        if copies := read_description(folder).get("copies"):
            say(f"Copy check: {copies['verdict']}")
    return Trained(folder, outcome, experiment.name)


def write_first_sheet(experiment: Experiment, folder: Path) -> None:
    """Write the sheet of the untrained network, before the speed trial: whoever watches the folder sees the run at once.

    It is the sheet that training writes again at 0 images; it is drawn from a copy, so that the run does not depend on it.
    """
    product = experiment.product
    network = copy.deepcopy(experiment.method.nets[product.network]).eval().requires_grad_(False)
    write_png(folder / "samples" / FIRST_SHEET, sheet_of(product.preview(network)))


def _tried(experiment: Experiment, start: Transfer, options: Options, machine: Machine, say: Print) -> dict[str, Any]:
    """Compare the start from a parent with one from nothing, if the run is long enough; return the record for `run.json`."""
    if is_tried(experiment, options):
        say("Trying the start from the parent against one from nothing ...")
    figures, finding = compare(experiment, start, options, machine)
    if finding:
        say(finding)
    return {"transfer": start.record | ({"trial": figures} if figures else {})}


def _decisions(folder: Path, request: Mapping[str, Any], data: TrainingSet, invocation: Invocation) -> dict[str, Any] | None:
    """Return the decisions of the first start, or None. A run that is made longer may have more pictures than before."""
    before = recorded_request(folder)
    if invocation.more and before and only_added(folder, data):
        request = {**request, **{name: before.get(name) for name in ("data", "held_out_count")}}
    return read_decisions(folder, request, lambda: difference(folder, data))


def callbacks_of(
    experiment: Experiment, options: Options, machine: Machine, decided: Mapping[str, Any], pause: int = 0
) -> list[Callback]:
    """Return previews, the experiment's own callbacks, and validation, which publishes the best state as `best/`.

    pause: images seen at which the run ends early, where it is validated too; 0 for none.
    """

    def keep_best(view: View, figures: Mapping[str, float]) -> None:
        folder = view.folder / "best"
        publish(experiment, options, machine, view, decided, folder, {**figures, "at_images": view.clock.seen})
        write_whole(folder / "preview.png", (view.folder / "preview.png").read_bytes())

    product = experiment.product
    validation = [Validation(experiment.validators, product.network, keep_best, pause)] if experiment.validators else []
    return [Previews(product.preview, product.network), *experiment.callbacks, *validation]


def _announcement(
    experiment: Experiment, machine: Machine, decided: Mapping[str, Any], budget: Budget, invocation: Invocation, folder: Path
) -> str:
    """Return a sentence on the start: networks, data, machine, the duration from the command on, and the folder."""
    data, images = experiment.data, budget.decisions[-1].images
    sizes = ", ".join(f"{name} {_short(parameter_count(net))}" for name, net in experiment.method.nets.items())
    seconds = images / decided["images_per_second"] / TRAINING + decided["besides"]
    seconds += time.monotonic() - invocation.started
    return (
        f"Training {experiment.name} ({sizes} parameters) on {counted(len(data), 'picture')} of "
        f"{data.name} ({data.spec}), {machine}: {images:,} images seen, about {duration(seconds)} from start to end. "
        f"Results go to {folder}."
    )


def _keep_precision(decided: Mapping[str, Any], options: Options, machine: Machine, folder: Path, say: Print) -> None:
    """Continue in the precision the run was started in, whatever this machine's default.

    Raises ValueError when the command gives another.
    """
    here, wanted = device.name_of(machine.precision), options.precision
    kept = decided["precision"]
    if wanted not in ("auto", kept):
        raise ValueError(
            f"{folder} was started with precision {kept}, now it is {wanted}: choose another folder with --out, or "
            "leave --precision out to resume it."
        )
    if kept != here:
        say(f"The run was started in {kept} and continues in it; the default of this machine is {here}.")
    machine.precision = device.precision(machine.device, kept)


def _keep_threads(decided: Mapping[str, Any], options: Options, machine: Machine, say: Print) -> None:
    """Use as many threads as the run was started with, since the last bits of sums depend on their number; on another number of ranks,
    the threads that each has here."""
    kept, wanted = decided["threads"], options.threads
    if machine.device.type != "cpu" or decided["ranks"] != machine.ranks.world:
        return
    if wanted not in (None, kept):
        say(f"The run was started with {kept} CPU threads and continues with {wanted}: the last bits of its weights may differ.")
    torch.set_num_threads(wanted or kept)


def _compare_ranks(decided: Mapping[str, Any], batch: int, options: Options, machine: Machine, say: Print) -> None:
    """Say how several ranks train one model, and that another number of them than at the start changes the result."""
    kept, world, every = decided["ranks"], machine.ranks.world, decided["average_every"]
    if kept != world:
        effect = "differ in their last bits" if options.sync_batch_norm else "differ"
        say(f"The run was started on {counted(kept, 'rank')} and continues on {world}: its weights will {effect}.")
    if world > 1 and every:
        say(f"{world} processes train together, each on {counted(batch // world, 'picture')} an iteration; their networks are averaged every {every}.")
    elif world > 1 and not options.sync_batch_norm:
        say("Each rank normalizes its own rows: the weights are not those of one process, which --sync-batch-norm gives.")


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _printer(quiet: bool) -> Print:
    return (lambda text: None) if quiet else (lambda text: print(sentence(text), file=sys.stderr, flush=True))

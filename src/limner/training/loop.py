"""`fit`: the training loop. It handles checkpoints, the log, callbacks, the doctor, the budget and recovery from non-finite losses;
`training.iteration` runs the players' turns, and the method defines their losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from limner.core import distributed, schedule
from limner.methods.phase import Clock, Method
from limner.monitor.doctor import Doctor, not_finite
from limner.training import state as checkpoints
from limner.training.budget import Budget
from limner.training.interrupt import NO_PAUSE, Diverged, Interrupt, Pause
from limner.training.iteration import Plan, Stream, iterate, main_phases, training_mode
from limner.training.log import Console, LogFile, Means, TensorBoardWriter
from limner.training.state import State


@dataclass(frozen=True)
class View:
    """The argument of a callback."""

    clock: Clock
    nets: Mapping[str, nn.Module]
    averages: Mapping[str, nn.Module]
    seconds: float  # of training so far
    folder: Path
    tensorboard_writer: TensorBoardWriter | None
    settings: Mapping[str, float]  # factors on the learning rates and the method's levers, as adjusted by the doctor


class Callback(Protocol):
    """A function called between iterations; it returns values to log, and does not change the run."""

    def due(self, clock: Clock) -> bool: ...

    def __call__(self, view: View) -> Mapping[str, float] | None: ...


@dataclass(frozen=True)
class Outcome:
    seen: int
    seconds: float
    finished: bool
    signal: int | None = None  # the signal that stopped the run early


def fit(
    method: Method,
    stream: Stream,
    folder: Path,
    plan: Plan,
    *,
    device: torch.device,
    ranks: distributed.Ranks = distributed.ALONE,
    callbacks: Sequence[Callback] = (),
    publish: Callable[[View], None] | None = None,
    doctor: Doctor | None = None,
    quiet: bool = False,
    tensorboard_writer: TensorBoardWriter | None = None,
    budget: Budget | None = None,
    averages: Mapping[str, Mapping[str, Tensor]] | None = None,
    pause: Pause = NO_PAUSE,
) -> Outcome:
    """Train `method` on `stream` until the plan's budget is spent; resumes automatically when `folder` holds a checkpoint.

    The order and all random numbers are functions of images seen, so that a resumed run gives bit for bit the weights of an
    unbroken one (same machine, same threads). `publish` is called with every checkpoint and at the end: it writes the product.
    Callbacks run on rank 0. doctor: checks the run periodically, reports findings and, if allowed, adjusts learning rates and
    levers. budget: replaces the plan's images, and may be revised by the clock. averages: network -> tensors of its average at the
    start, which otherwise is the network itself. pause: ends the run early, after a checkpoint, to be resumed.

    Raises ValueError when the disk is full, the checkpoint belongs to another recipe, or training diverges twice; the last
    good state is then on disk. SIGINT and SIGTERM end the run after a checkpoint; the outcome holds the signal.
    """
    budget = budget or Budget.fixed(plan.images, plan.span)
    state = State(method, plan.optimizers, {"doctor": doctor} if doctor else None)
    saves = folder / "checkpoint"
    resumed = checkpoints.load(state, saves, device, most=max(d.images for d in budget.decisions) + plan.span)
    first = plan
    plan = _with_budget(first, budget.at(state.seen))
    console = Console(plan.images, state.seen, quiet or not ranks.first)
    log = LogFile(folder / "log.jsonl", state.seen) if ranks.first else None
    means, terms = Means(), {}
    mains = main_phases(method)
    longest_interval = max(phase.every for phase in mains)  # iterations in which every player has a turn
    before = state.seconds
    callback_seconds: list[float] = []  # of each call of the callbacks
    started = saved = time.monotonic()

    def elapsed() -> float:
        return before + time.monotonic() - started

    def now() -> Clock:
        return Clock(state.seen, plan.images, plan.batch)

    def view() -> View:
        return View(now(), method.nets, state.averages, state.seconds, folder, tensorboard_writer, state.settings())

    def save(rollback: bool = False) -> None:
        nonlocal saved
        if ranks.first:
            checkpoints.save(state, saves, rollback)
            if publish:
                publish(view())
        saved = time.monotonic()

    def check_by_doctor() -> dict[str, Any]:
        """Run the doctor's check and apply its adjustments; rank 0 decides for all. Returns values to log."""
        assert doctor
        settings = state.settings()
        result = doctor.check(state.seen, state.grad_stats, settings) if ranks.first else None
        result, settings = cast(Any, distributed.broadcast_from_rank0((result, settings)))
        state.set(settings)
        signals, finding, action = result
        if finding is None:
            return signals
        console.message(f"Doctor: {finding.message}; {'changed ' + action + '.' if action else finding.advice}")
        return {**signals, "doctor": finding.log_entry(action)}

    def after_iteration() -> None:
        """Run the doctor, the callbacks and the log; the latter two do not change the run."""
        clock = now()
        figures: dict[str, Any] = check_by_doctor() if doctor and doctor.due(clock) else {}
        due = [callback for callback in callbacks if ranks.first and callback.due(clock)]
        start = time.monotonic()
        for callback in due:
            figures |= callback(view()) or {}
        if due:
            callback_seconds.append(time.monotonic() - start)
        if schedule.crosses_multiple(state.seen, plan.batch, plan.log_every) or state.seen >= plan.images:
            terms.update(means.take())
            figures = terms | figures
        if figures and log:
            entry = {"images": state.seen, "seconds": round(state.seconds, 2), "lr_factor": plan.lr_factor(clock)}
            log.write(entry | figures)
            if tensorboard_writer:
                tensorboard_writer.write(state.seen, {name: value for name, value in figures.items() if name != "doctor"})
        console.update(state.seen, terms)

    def revise() -> None:
        """Update the plan to the budget in effect, which rank 0 may revise by the clock."""
        nonlocal plan
        if budget.open and schedule.crosses_multiple(state.seen, plan.batch, plan.log_every):
            decision = budget.revised(state.seen, elapsed(), callback_seconds, method.periodic) if ranks.first else None
            decision = cast(Any, distributed.broadcast_from_rank0(decision))
            if decision:
                budget.decide(decision)
                if ranks.first:
                    budget.record(budget.entries())  # before it takes effect, so that a kill cannot lose it
        images = budget.at(state.seen)
        if images != plan.images:
            console.revise(images)
            plan = _with_budget(first, images)

    try:
        if resumed:
            console.message(resumed)
        else:
            for name, tensors in (averages or {}).items():
                state.averages[name].load_state_dict(tensors)
            save(rollback=True)  # also shows that the folder can be written, before training
            after_iteration()
        with training_mode(method), Interrupt() as interrupt:
            while state.seen < min(plan.images, pause.at or plan.images):
                if method.periodic and method.periodic.due(now()):
                    console.message(f"{method.periodic.title} ...")
                    method.periodic.run(now())
                soon = doctor is not None and any(
                    doctor.due(Clock(state.seen + (i + 1) * plan.batch, plan.images, plan.batch)) for i in range(longest_interval)
                )
                stop_requested = interrupt.signal is not None or time.monotonic() > pause.deadline
                diverged, stop = iterate(state, stream, plan, ranks, device, stop_requested, means, mains if soon else ())
                state.seconds = elapsed()
                if diverged:
                    _roll_back(state, saves, device, diverged, console, log)
                    means.take()
                    plan = _with_budget(first, budget.at(state.seen))
                    save()  # after a kill, a run does not repeat the discarded iterations and their log
                    continue
                after_iteration()
                revise()
                if plan.equal_at(state.seen):
                    rollback = schedule.crosses_multiple(state.seen, plan.span, plan.rollback_every)
                    if rollback or time.monotonic() - saved >= plan.checkpoint_seconds:
                        save(rollback)
                if stop:
                    break
            save()
            signal = interrupt.signal
        return Outcome(state.seen, state.seconds, state.seen >= plan.images, signal)
    finally:
        console.close()


def _with_budget(plan: Plan, images: int) -> Plan:
    """Return the plan for another budget, with as many rollback states as before."""
    return replace(plan, images=images, rollback_every=max(1, round(plan.rollback_every * images / plan.images)))


def _roll_back(
    state: State, saves: Path, device: torch.device, player: str, console: Console, log: LogFile | None
) -> None:
    """After a non-finite loss, restore the rollback state and halve the learning rates, once.

    It is not the newest checkpoint, whose time depends on the clock: a run that was killed returns to the same state.
    Raises Diverged the second time.
    """
    at, nonfinite_count = state.seen, state.nonfinite_count
    checkpoints.load(state, saves, device, rollback=True)
    state.nonfinite_count = nonfinite_count + 1
    state.lr_scale = {name: factor * 0.5 for name, factor in state.lr_scale.items()}
    finding = not_finite(player, at)
    back = f"went back to {state.seen:,} images and on at half the learning rates"
    if log:
        log.cut(state.seen)
        entry = {"images": state.seen, "seconds": round(state.seconds, 2)}
        log.write(entry | {"doctor": finding.log_entry("stopped" if nonfinite_count else back)})
    if nonfinite_count:
        raise Diverged(player, at)
    console.message(f"Doctor: {finding.message}; {back}.")

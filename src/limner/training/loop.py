"""`fit`: the training loop. It handles backward, accumulation, clipping, precision, ranks, EMA, checkpoints, the log, callbacks
and recovery from non-finite losses; the method defines the players' losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from limner.core import distributed, schedule
from limner.core.device import autocast, seed_generators
from limner.core.images import IMAGES, to_float
from limner.methods.phase import Batch, Clock, Method, Phase
from limner.monitor.doctor import Doctor, not_finite
from limner.training import state as checkpoints
from limner.training.budget import Budget
from limner.training.interrupt import NO_PAUSE, Diverged, Interrupt, Pause
from limner.training.log import Console, LogFile, Means, TensorBoardWriter
from limner.training.state import OptimizerConfig, State

Stream = Callable[[int, int], Mapping[str, Tensor]]
"""(first, count) -> `count` items of the run's order from position `first`, as named tensors (`data.batches`)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a run, besides the method and the data."""

    images: int  # budget
    batch: int  # images per iteration, over all ranks
    optimizers: Mapping[str, OptimizerConfig]  # by player
    seed: int = 0
    micro_batch: int = 0  # images per forward pass on one rank (gradients are accumulated); 0: all of the rank's rows at once
    lr_factor: Callable[[Clock], float] = lambda clock: 1.0  # factor on all learning rates
    ema_half_life: float = 10_000  # images
    ema_ramp: float = 0.05  # early, the half-life is at most this fraction of the images seen
    precision: torch.dtype = torch.float32
    grad_clip: float = 0.0  # largest gradient norm of a turn; 0 does not clip
    checkpoint_seconds: float = 120.0
    rollback_every: int = 100_000  # images between the states that a non-finite loss returns to

    @property
    def log_every(self) -> int:
        """Images between two lines of the log: about a thousand lines per run."""
        return max(self.batch, self.images // 1000)


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


# ---- one turn, one iteration -----------------------------------------------------------------------------------------


def _mix(seed: int, rank: int, seen: int) -> int:
    """Return one 63-bit seed from three numbers (splitmix64's finalizer)."""
    x = (seed * 0x9E3779B97F4A7C15 + rank * 0xD1B54A32D192ED03 + seen * 0x8CB92BA72F3D8DD7 + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) >> 1


def _gather(stream: Stream, clock: Clock, seed: int, ranks: distributed.Ranks, device: torch.device) -> Batch:
    """Return this rank's rows of the global batch at the clock; pictures, identified by name, become float."""
    rows = ranks.rows(clock.batch)
    tensors: dict[str, Tensor] = {}
    for name, tensor in stream(clock.seen + rows.start, rows.stop - rows.start).items():
        tensor = tensor.to(device, non_blocking=True)
        tensors[name] = to_float(tensor) if name in IMAGES and tensor.dtype == torch.uint8 else tensor
    return Batch(tensors, rows.start, clock.batch, (seed, clock.seen))


def _freeze_others(method: Method, player: str) -> None:
    """Enable gradients for one player only: those of the others would be computed and discarded."""
    for name, parameters in method.players.items():
        for p in parameters:
            p.requires_grad_(name == player)


def _turn(
    state: State, phase: Phase, batch: Batch, clock: Clock, plan: Plan, stop_requested: Tensor, means: Means, record_stats: bool
) -> tuple[bool, bool]:
    """Run one phase: forward, backward, sum over ranks, step. Returns (finite, a stop was requested on any rank).

    A non-finite loss or gradient is detected before the step, on every rank alike. record_stats: record the gradient and step.
    """
    method = state.method
    _freeze_others(method, phase.player)
    parameters = method.players[phase.player]
    optimizer = state.optimizers[phase.player]
    for p in parameters:
        p.grad = None
    device = parameters[0].device
    share = len(batch)
    micro_batch = plan.micro_batch or share
    losses: list[Tensor] = []
    for start in range(0, share, micro_batch):
        part = batch.rows(slice(start, min(start + micro_batch, share)))
        with autocast(device, plan.precision):
            loss, terms = phase.loss(part, clock)
        # each slice is weighted by its rows, so that the sum over slices and ranks is the mean over the global batch
        loss = loss.float().sum() / clock.batch if loss.ndim else loss.float() * (len(part) / clock.batch)
        loss.backward()
        losses.append(loss.detach())
        means.add(terms)
    total = torch.stack((sum(losses[1:], losses[0]), stop_requested))  # the loss; the number of ranks with a stop request
    gradients = _summed(parameters, total, distributed.unsynchronized(method.nets.values()))
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    loss_value, stop_votes, norm_value = torch.cat([total, norm[None]]).tolist()
    if not math.isfinite(loss_value + norm_value):
        return False, stop_votes > 0
    if plan.grad_clip and norm_value > plan.grad_clip:
        torch._foreach_mul_(gradients, plan.grad_clip / norm_value)
    for group in optimizer.param_groups:
        group["lr"] = state.base_lr[phase.player] * plan.lr_factor(clock.within(phase.window)) * state.lr_scale[phase.player]
    before = [p.detach().clone() for p in parameters] if record_stats else []
    optimizer.step()
    if record_stats:
        moved = torch._foreach_norm(torch._foreach_sub(list(parameters), before))
        step = torch.stack(moved).norm() / torch.stack(torch._foreach_norm(before)).norm().clamp_min(1e-12)
        state.grad_stats |= {f"gradient_{phase.player}": norm_value, f"step_{phase.player}": step.item()}
    return True, stop_votes > 0


def _summed(parameters: Sequence[nn.Parameter], total: Tensor, statistics: Sequence[Tensor] = ()) -> list[Tensor]:
    """Sum gradients and `total` over ranks and average running `statistics`, in place, in one all-reduce; return the gradients of
    the parameters used in this phase. Averaged after every turn, the statistics that rank 0 saves are those of all ranks.

    Parameters unused on every rank (of a layer that is not faded in yet) keep `grad=None`: a zero gradient would count as an
    Adam step, and the running mean of squared gradients would then make the first real steps many times too large.
    """
    if distributed.is_distributed():  # every rank must send the same shapes
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=total.device)
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        distributed.all_reduce_in_place([*(p.grad for p in parameters if p.grad is not None), total, used, *statistics])
        if statistics:
            torch._foreach_div_(list(statistics), float(distributed.world_size()))
        for p, ranks in zip(parameters, used.tolist(), strict=True):
            if not ranks:
                p.grad = None
    return [p.grad for p in parameters if p.grad is not None]


def iterate(
    state: State,
    stream: Stream,
    plan: Plan,
    ranks: distributed.Ranks,
    device: torch.device,
    stop_requested: bool,
    means: Means,
    recorded: Sequence[Phase] = (),
    due: Callable[[Phase], bool] | None = None,
) -> tuple[str | None, bool]:
    """Run every phase that is due once. Returns (the player with a non-finite loss or None, a stop was requested on any rank).

    recorded: the phases whose gradient and step are recorded. due: which phases to run; by default by their `every`.
    """
    clock = Clock(state.seen, plan.images, plan.batch)
    seed_generators(_mix(plan.seed, ranks.rank, clock.seen), device)  # for layers that draw random numbers themselves
    batch = _gather(stream, clock, plan.seed, ranks, device)
    stop_flag = torch.tensor(float(stop_requested), device=device)
    stop = False
    for turn, phase in enumerate(state.method.phases):
        if not phase.runs_at(clock) or ((clock.seen // clock.batch) % phase.every if due is None else not due(phase)):
            continue
        finite, stop = _turn(state, phase, batch.turn(turn), clock, plan, stop_flag, means, phase in recorded)
        if not finite:
            return phase.player, stop
    state.seen += plan.batch
    state.average(schedule.ema_decay(state.seen, plan.batch, plan.ema_half_life, plan.ema_ramp))
    return None, stop


def _main_phases(method: Method) -> list[Phase]:
    """Return the first phase of each player; later ones are lazy penalties."""
    return list({phase.player: phase for phase in reversed(method.phases)}.values())


def _all_trainable(method: Method) -> None:
    for parameters in method.players.values():
        for p in parameters:
            p.requires_grad_(True)


@contextmanager
def training_mode(method: Method) -> Iterator[None]:
    """Put the networks in training mode; at the end all parameters require gradients again."""
    for net in method.nets.values():
        net.train()
    try:
        yield
    finally:
        _all_trainable(method)


# ---- the run ---------------------------------------------------------------------------------------------------------


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
    budget = budget or Budget.fixed(plan.images, plan.batch)
    state = State(method, plan.optimizers, {"doctor": doctor} if doctor else None)
    saves = folder / "checkpoint"
    resumed = checkpoints.load(state, saves, device, most=max(d.images for d in budget.decisions) + plan.batch)
    first = plan
    plan = _with_budget(first, budget.at(state.seen))
    console = Console(plan.images, state.seen, quiet or not ranks.first)
    log = LogFile(folder / "log.jsonl", state.seen) if ranks.first else None
    means, terms = Means(), {}
    mains = _main_phases(method)
    longest_interval = max(phase.every for phase in mains)  # iterations in which every player has a turn
    before = state.seconds
    callback_seconds: list[float] = []  # of each call of the callbacks
    started = saved = time.monotonic()

    def elapsed() -> float:
        return before + time.monotonic() - started

    def view() -> View:
        clock = Clock(state.seen, plan.images, plan.batch)
        return View(clock, method.nets, state.averages, state.seconds, folder, tensorboard_writer, state.settings())

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
        clock = Clock(state.seen, plan.images, plan.batch)
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
            decision = budget.revised(state.seen, elapsed(), callback_seconds) if ranks.first else None
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
                rollback = schedule.crosses_multiple(state.seen, plan.batch, plan.rollback_every)
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

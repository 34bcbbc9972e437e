"""One iteration of training: every phase that is due, with backward, accumulation, the sum over ranks, clipping, the step and the EMA.

`training.loop.fit` repeats it; the speed trial measures it.

Several ranks train one model in one of two ways. Either the gradients of every turn are summed, so that all ranks hold the same
networks at every moment. Or each rank takes steps of its own, and every `Plan.average_every` iterations networks and optimizers
are averaged (local SGD; Stich 2019, "Local SGD converges fast and communicates little", algorithm 1): ranks then wait for each other
much less often. They are equal after each average, when checkpoints are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core import distributed, schedule
from limner.core.device import autocast, seed_generators
from limner.core.images import IMAGES, to_float
from limner.methods.phase import Batch, Clock, Method, Phase
from limner.training.log import Means
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
    average_every: int = 0  # iterations between averages of the ranks; 0: gradients are summed instead, or there is one rank
    checkpoint_seconds: float = 120.0
    rollback_every: int = 100_000  # images between the states that a non-finite loss returns to

    @property
    def log_every(self) -> int:
        """Images between two lines of the log: about a thousand lines per run."""
        return max(self.batch, self.images // 1000)

    @property
    def span(self) -> int:
        """Images after which all ranks are equal; the budget is a multiple of it."""
        return self.batch * max(1, self.average_every)

    def equal_at(self, seen: int) -> bool:
        """Whether all ranks hold the same networks at `seen` images."""
        return seen % self.span == 0


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
    """Run one phase: forward, backward, sum over ranks, step. Returns (finite, a stop was requested on a rank that this one knows of).

    A non-finite loss or gradient is detected before the step; on every rank alike if gradients are summed. record_stats: record the
    gradient and step.
    """
    method = state.method
    _freeze_others(method, phase.player)
    parameters = method.players[phase.player]
    optimizer = state.optimizers[phase.player]
    for p in parameters:
        p.grad = None
    device = parameters[0].device
    share = len(batch)
    rows = share if plan.average_every else clock.batch  # over which losses are averaged
    micro_batch = plan.micro_batch or share
    losses: list[Tensor] = []
    for start in range(0, share, micro_batch):
        part = batch.rows(slice(start, min(start + micro_batch, share)))
        with autocast(device, plan.precision):
            loss, terms = phase.loss(part, clock)
        # each slice is weighted by its rows, so that the sum over slices, and over ranks whose gradients are summed, is the mean over all rows
        loss = loss.float().sum() / rows if loss.ndim else loss.float() * (len(part) / rows)
        loss.backward()
        losses.append(loss.detach())
        means.add(terms)
    total = torch.stack((sum(losses[1:], losses[0]), stop_requested))  # the loss; the number of ranks with a stop request
    if plan.average_every:
        gradients = [p.grad for p in parameters if p.grad is not None]
    else:
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
        if not finite and not plan.average_every:
            return phase.player, stop
        if not finite:  # the others learn of it at the next average
            state.failed.add(phase.player)
    state.seen += plan.batch
    if not plan.equal_at(state.seen):
        return None, False
    if plan.average_every:
        player, stop = _agree(state, stop_flag)
        if player:
            return player, stop
        average_ranks(state)
    state.average(schedule.ema_decay(state.seen, plan.span, plan.ema_half_life, plan.ema_ramp))
    return None, stop


def _agree(state: State, stop_requested: Tensor) -> tuple[str | None, bool]:
    """Return what `iterate` does, by what happened on any rank since the last average."""
    players = list(state.method.players)
    votes = stop_requested.new_tensor([stop_requested.item(), *(float(player in state.failed) for player in players)])
    distributed.all_reduce_in_place([votes])
    state.failed.clear()
    stops, *failures = votes.tolist()
    return next((player for player, count in zip(players, failures, strict=True) if count), None), stops > 0


def average_ranks(state: State) -> None:
    """Average networks, optimizers and the method's memory over ranks, in one all-reduce. Every player has taken as many steps on each."""
    tensors = state.trained()
    distributed.all_reduce_in_place(tensors)
    torch._foreach_div_(tensors, float(distributed.world_size()))


def main_phases(method: Method) -> list[Phase]:
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

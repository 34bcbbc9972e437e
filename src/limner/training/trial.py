"""The speed trial before a run: images per second on this machine, and the fastest number of threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from limner.core import distributed
from limner.methods.phase import Method
from limner.training.iteration import Plan, Stream, average_ranks, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

QUARTERS = (0.125, 0.375, 0.625, 0.875)  # midpoints of the quarters of a run
MIN_SPEEDUP = 1.05  # of more threads over fewer, which leave cores to other programs and suffer less from them


def measure(method: Method, stream: Stream, plan: Plan, device: torch.device, ranks: distributed.Ranks = distributed.ALONE,
            seconds: float = 4.0, moments: Sequence[float] = QUARTERS) -> float:  # fmt: skip
    """Return the images per second of this run on this machine, from a short trial that leaves the method unchanged.

    Some networks grow during a run, so the trial measures at several moments of it, as the median of iterations without the
    first (allocation, kernel selection). Lazy phases are run out of turn, each together with the phases of every iteration,
    and their cost is divided by their interval: waiting for their turns could take most of a short run. The trial ends after
    `seconds`, but runs at least two iterations at each moment.
    """
    state = State(method, plan.optimizers)
    kept = {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
    kept_scalars = state.scalars()
    lazy = sorted({phase.every for phase in method.phases} - {1})

    def timed(*everies: int) -> float:
        start = time.monotonic()
        iterate(state, stream, plan, ranks, device, False, Means(), due=lambda phase: phase.every in everies)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - start

    means = []
    with training_mode(method):
        for share in moments:
            state.seen = int(share * plan.images) // plan.batch * plan.batch
            timed(1, *lazy)
            took: dict[int, list[float]] = {every: [] for every in (1, *lazy)}
            end = time.monotonic() + seconds / len(moments)
            # all ranks must run the same number of iterations, or they would wait for each other forever: rank 0 decides
            while distributed.broadcast_from_rank0(sum(map(len, took.values())) < 2 or time.monotonic() < end):
                for every, times in took.items():
                    times.append(timed(1, every))
            plain = statistics.median(took[1])
            if plan.average_every:  # the median leaves out the iterations that end with an average
                start = time.monotonic()
                average_ranks(state)
                plain += (time.monotonic() - start) / plan.average_every
            means.append(plain + sum(max(0.0, statistics.median(took[e]) - plain) / e for e in lazy))
    state.restore(kept, kept_scalars)
    return float(distributed.broadcast_from_rank0(plan.batch / statistics.mean(means)))  # type: ignore[arg-type]


def train_briefly(
    state: State, stream: Stream, plan: Plan, ranks: distributed.Ranks, device: torch.device, images: int, seconds: float | None = None
) -> int:
    """Train until `images` are seen, or for `seconds` by the clock of rank 0; return the images seen. It ends early where a loss is
    not finite."""
    end = None if seconds is None else time.monotonic() + seconds
    with training_mode(state.method):
        while state.seen < images and distributed.broadcast_from_rank0(end is None or time.monotonic() < end):
            diverged, _ = iterate(state, stream, plan, ranks, device, False, Means())
            if diverged:
                break
    return state.seen


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4 … and `most`."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def choose_threads(speed: Callable[[int], float], most: int, rounds: int = 2) -> int:
    """Return the number of threads, up to `most`, that trains fastest.

    speed: returns the images per second with a number of threads, measured when called. Each number is measured in every
    round, so that the load of other programs affects all alike; the medians are compared. Once a
    number is slower than 0.7 times the number before it, larger ones are not tried: waiting threads can be slower by orders
    of magnitude.
    """
    counts = thread_counts(most)
    found: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(rounds):
        for i, n in enumerate(counts):
            found[n].append(speed(n))
            if i and found[n][-1] < 0.7 * found[counts[i - 1]][-1]:
                counts = counts[: i + 1]
                break
    best = counts[0]
    for n in counts:
        if statistics.median(found[n]) > MIN_SPEEDUP * statistics.median(found[best]):
            best = n
    return best

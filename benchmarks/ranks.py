"""What a second core gives in training: one thread, two threads, and two ranks of one thread each, alternating A B C D E A B C D E.

    python benchmarks/ranks.py [--rounds 5] [--seconds 3] [--sizes 32 64] [--batches 32 64]

Steps of the default recipe (`spectral`, with the networks of `auto` for ten minutes) on the embedded samples, Fashion at 32x32 and emoji
at 64x64, with labels. A batch is that of all ranks together. Each side lives in processes of its own; all sides of a size and batch are
started, warmed up, and measured in turns. Per side: images a second by the wall clock, CPU milliseconds an image of all its threads, and
the share of the time of its cores in which they did not work for it. The last two hold on a busy machine too, where the share counts what
other programs took. Prints a table, writes results/ranks.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from limner.core import device, distributed
from limner.data import open_source, prepare
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.networks import conv
from limner.recipes.gan import PRESETS
from limner.training.iteration import Plan, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

RESULTS = Path(__file__).parent / "results"
SAMPLES = {32: "fashion", 64: "emoji"}
NETWORKS = {  # size -> options of generator and discriminator, as `auto` sets them for ten minutes
    32: ({}, {}),
    64: ({"width": 16, "patch": 2, "upsampling": "nearest"}, {"width": 16, "patch": 2, "gain": 6.0}),
}
WARM_UP = 12  # iterations


@dataclass(frozen=True)
class Side:
    """A way to use the cores."""

    name: str
    threads: int = 1  # of each rank
    ranks: int = 1
    average_every: int = 0  # iterations between averages; 0 sums gradients
    synchronized: bool = False  # batch statistics of all ranks


SIDES = (
    Side("one thread"), Side("two threads", 2), Side("two ranks, averaged every 8 iterations", 1, 2, 8), Side("two ranks, gradients summed", 1, 2),
    Side("two ranks, --sync-batch-norm", 1, 2, 0, True),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Medians over the rounds."""

    size: int
    batch: int
    side: str
    images_per_second: float  # by the wall clock
    speedup: float  # over one thread: the median of the rounds' ratios
    cpu_ms: float  # an image, of all threads
    idle: float  # share of the time of the side's cores
    rounds: list[tuple[float, float]]  # (wall, CPU) seconds of each round
    iterations: int  # of a round


def worker(side: Side, rank: int, port: int, size: int, batch: int, pipe: Connection) -> None:
    """Run as many iterations as the pipe says, and send (wall, CPU) seconds, until it says 0."""
    if side.ranks > 1:
        os.environ |= {"WORLD_SIZE": str(side.ranks), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.process_group("cpu", side.synchronized) as ranks:
        device.configure_runtime(side.threads)
        dataset = prepare(open_source(SAMPLES[size]), size=size)
        torch.manual_seed(0)
        recipe = PRESETS["spectral"].make()
        of_generator, of_discriminator = NETWORKS[size]
        nets = [
            conv.Generator(dataset.spec, conv.GeneratorConfig(**of_generator)),
            conv.Discriminator(dataset.spec, conv.DiscriminatorConfig(**of_discriminator)),
        ]
        method = GAN(*[net.to(memory_format=torch.channels_last) for net in nets], objective(recipe.objective)).method
        plan = Plan(
            images=10**9, batch=batch, average_every=side.average_every, precision=device.precision(torch.device("cpu")),
            optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        )  # fmt: skip
        state = State(method, plan.optimizers)

        def run(iterations: int) -> tuple[float, float]:
            wall, cpu = time.monotonic(), time.process_time()
            for _ in range(iterations):
                iterate(state, lambda first, count: dataset.batch(first, count, 0), plan, ranks, torch.device("cpu"), False, Means())
            return time.monotonic() - wall, time.process_time() - cpu

        with training_mode(method):
            while iterations := pipe.recv():
                pipe.send(run(iterations))


class Group:
    """The processes of one side."""

    def __init__(self, side: Side, size: int, batch: int) -> None:
        self.side = side
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.pipes, self.processes = [], []
        context = get_context("spawn")
        for rank in range(side.ranks):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=worker, args=(side, rank, port, size, batch, theirs), daemon=True))
            self.processes[-1].start()
            self.pipes.append(ours)

    def run(self, iterations: int) -> tuple[float, float]:
        """(wall, CPU) seconds: the longest and the sum of the ranks'."""
        for pipe in self.pipes:
            pipe.send(iterations)
        walls, cpus = zip(*[pipe.recv() for pipe in self.pipes], strict=True)
        return max(walls), sum(cpus)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(0)
        for process in self.processes:
            process.join()


def measured(size: int, batch: int, rounds: int, seconds: float) -> list[Row]:
    groups = [Group(side, size, batch) for side in SIDES]
    iterations, found = [], [[] for _ in groups]
    for group in groups:
        group.run(WARM_UP)
        iterations.append(max(2, math.ceil(seconds / (group.run(WARM_UP)[0] / WARM_UP))))
    for _ in range(rounds):
        for group, count, times in zip(groups, iterations, found, strict=True):
            times.append(group.run(count))
    for group in groups:
        group.close()
    speeds = [[count * batch / wall for wall, _ in times] for count, times in zip(iterations, found, strict=True)]
    return [
        Row(
            size, batch, group.side.name, statistics.median(own),
            statistics.median(a / b for a, b in zip(own, speeds[0], strict=True)),
            statistics.median(1000 * cpu / (count * batch) for _, cpu in times),
            statistics.median(1 - cpu / wall / (group.side.ranks * group.side.threads) for wall, cpu in times), times, count,
        )
        for group, count, times, own in zip(groups, iterations, found, speeds, strict=True)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sizes", type=int, nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    given = parser.parse_args()
    rows = [row for size in given.sizes for batch in given.batches for row in measured(size, batch, given.rounds, given.seconds)]
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} at the end, torch {torch.__version__}")
    print("| size | batch | | images/s | times one thread | CPU ms an image | idle share of its cores |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.size} | {row.batch} | {row.side} | {row.images_per_second:,.0f} | {row.speedup:.2f} | {row.cpu_ms:.3f} | {row.idle:.0%} |"
        )
    RESULTS.mkdir(exist_ok=True)
    result = {"cores": os.cpu_count(), "load": load, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    (RESULTS / "ranks.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

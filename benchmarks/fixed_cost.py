"""The part of an iteration that does not depend on the batch: CPU time of one thread by batch, and a line through it.

    python benchmarks/fixed_cost.py [--rounds 12] [--batches 8 16 32 64]

Iterations of the default recipe (`spectral`, width 32) on the embedded Fashion sample at 32x32, with labels, ten at a time at each batch in
turns. Prints the medians, the intercept and slope of the line, and how many of PyTorch's operations an iteration calls, which no
other program on the machine can change; writes results/fixed_cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from limner.core import device, distributed
from limner.data import Dataset, open_source, prepare
from limner.recipes.gan import PRESETS, gan_of
from limner.training.iteration import Plan, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
ITERATIONS = 10  # measured at once


class Counter(TorchDispatchMode):
    """Counts the operations that reach the kernels."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Run:
    """The default recipe at one batch."""

    def __init__(self, dataset: Dataset, batch: int) -> None:
        torch.manual_seed(0)
        recipe = PRESETS["spectral"].make()
        self.dataset = dataset
        self.plan = Plan(
            images=10**9, batch=batch, precision=device.precision(CPU),
            optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        )  # fmt: skip
        self.state = State(gan_of(recipe, dataset.spec, CPU).method, self.plan.optimizers)
        self.means = Means()

    def iterate(self, count: int) -> float:
        """Return CPU milliseconds an iteration."""
        with training_mode(self.state.method):
            start = time.process_time()
            for _ in range(count):
                iterate(self.state, lambda first, n: self.dataset.batch(first, n, 0), self.plan, distributed.ALONE, CPU, False, self.means)
            return (time.process_time() - start) * 1000 / count


def measured(batches: Sequence[int], rounds: int) -> tuple[list[float], int]:
    """Return the median CPU milliseconds of an iteration at each batch, and the number of its operations."""
    dataset = prepare(open_source("fashion"), size=32)
    runs = [Run(dataset, batch) for batch in batches]
    for run in runs:
        run.iterate(ITERATIONS)
    times = [[run.iterate(ITERATIONS) for run in runs] for _ in range(rounds)]
    with Counter() as counter:
        runs[0].iterate(1)
    return [statistics.median(column) for column in zip(*times, strict=True)], counter.count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64])
    given = parser.parse_args()
    device.configure_runtime(1)
    times, operations = measured(given.batches, given.rounds)
    slope, intercept = np.polyfit(given.batches, times, 1)
    for batch, milliseconds in zip(given.batches, times, strict=True):
        print(f"batch {batch:3d}: {milliseconds:6.2f} ms CPU an iteration")
    print(f"{intercept:.1f} ms fixed + {slope:.3f} ms an image; {operations} operations an iteration")
    RESULTS.mkdir(exist_ok=True)
    result = {"fixed_ms": intercept, "ms_an_image": slope, "operations": operations, "times": dict(zip(given.batches, times, strict=True))}
    (RESULTS / "fixed_cost.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

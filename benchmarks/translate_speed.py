"""How fast a step of translation is: our CycleGAN and CUT against the textbook's CycleGAN loop, alternating A B C A B C.

    python benchmarks/translate_speed.py [--quick] [--rounds 7] [--seconds 6] [--size 64] [--width 64] [--threads 2]

All use the same translators and patch discriminators on the same random pictures. The textbook's loop is batch 1, fp32,
contiguous, both directions one after another, default Adam; ours is the recipe as it is. An image is one picture of each
kind. Prints a table and writes results/translate_speed.json. --quick: narrow networks and short rounds, to see it run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from limner.core import device, distributed
from limner.core.images import ImageSpec, to_float
from limner.data.pairs import Pairs, prepare_pairs
from limner.networks import patch, resnet
from limner.recipes import translate
from limner.recipes.config import CutRecipe, CycleRecipe
from limner.training.iteration import Plan, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

RESULTS = Path(__file__).parent / "results"
Step = Callable[[], int]  # one iteration -> images seen


class Buffer:
    """The textbook's image pool: a list, and Python's random numbers."""

    def __init__(self, capacity: int = 50) -> None:
        self.capacity, self.pictures = capacity, []

    def query(self, made: torch.Tensor) -> torch.Tensor:
        if len(self.pictures) < self.capacity:
            self.pictures.append(made)
            return made
        if random.random() < 0.5:
            i = random.randrange(self.capacity)
            old, self.pictures[i] = self.pictures[i], made
            return old
        return made


def textbook(pairs: Pairs, network: resnet.Config, discriminator: patch.Config) -> Step:
    """Zhu et al. 2017 as it is usually written down."""
    torch.manual_seed(0)
    spec, l1, mse = pairs.spec, nn.L1Loss(), nn.MSELoss()
    to_b, to_a = (resnet.Translator(spec, network) for _ in range(2))
    of_a, of_b = (patch.Discriminator(spec, discriminator) for _ in range(2))
    g = torch.optim.Adam(itertools.chain(to_a.parameters(), to_b.parameters()), lr=2e-4, betas=(0.5, 0.999))
    d = torch.optim.Adam(itertools.chain(of_a.parameters(), of_b.parameters()), lr=2e-4, betas=(0.5, 0.999))
    pools = Buffer(), Buffer()
    position = 0

    def step() -> int:
        nonlocal position
        sides = pairs.batch(position, 1, 0)
        a, b = (to_float(sides[side].contiguous()) for side in ("a", "b"))
        position += 1
        g.zero_grad()
        made_b = to_b(a)
        back_a = to_a(made_b)
        made_a = to_a(b)
        back_b = to_b(made_a)
        verdict_b, verdict_a = of_b(made_b), of_a(made_a)
        loss = mse(verdict_b, torch.ones_like(verdict_b)) + mse(verdict_a, torch.ones_like(verdict_a))
        loss = loss + 10 * (l1(back_a, a) + l1(back_b, b)) + 5 * (l1(to_a(a), a) + l1(to_b(b), b))
        loss.backward()
        g.step()
        d.zero_grad()
        for discriminator, real, made, pool in ((of_a, a, made_a, pools[0]), (of_b, b, made_b, pools[1])):
            yes, no = discriminator(real), discriminator(pool.query(made.detach()))
            (0.5 * (mse(yes, torch.ones_like(yes)) + mse(no, torch.zeros_like(no)))).backward()
        d.step()
        loss.item()
        return 1

    return step


def ours(recipe: CycleRecipe | CutRecipe, pairs: Pairs, precision: torch.dtype) -> Step:
    """An iteration of our loop, as `fit` plays it."""
    torch.manual_seed(0)
    method, moves, _ = translate.method_of(recipe, pairs.spec, torch.device("cpu"))
    plan = Plan(images=10**9, batch=recipe.batch, optimizers=moves, precision=precision)
    state, means = State(method, plan.optimizers), Means()

    def step() -> int:
        with training_mode(method):
            stream = lambda first, count: pairs.batch(first, count, 0)  # noqa: E731
            iterate(state, stream, plan, distributed.ALONE, torch.device("cpu"), False, means)
        return recipe.batch

    return step


def speed(step: Step, seconds: float) -> float:
    start, seen = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        seen += step()
    return seen / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.size, options.width = 3, 2.0, 32, 32
    device.configure_runtime(options.threads)
    precision = device.precision(torch.device("cpu"))
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 256, (64, options.size, options.size, 3), dtype=np.uint8) for _ in range(2)]
    pairs = prepare_pairs(*sets, paired=False)
    assert pairs.spec == ImageSpec(3, options.size, options.size)
    network, discriminator = resnet.Config(width=options.width), patch.Config(width=options.width)
    cycle = replace(CycleRecipe(), network=network, discriminator=discriminator, identity=2.5)  # the textbook has it too
    cut = replace(CutRecipe(), network=network, discriminator=discriminator)
    steps = {
        "textbook CycleGAN": textbook(pairs, network, discriminator),
        "our CycleGAN": ours(cycle, pairs, precision),
        "our CUT": ours(cut, pairs, precision),
    }
    for step in steps.values():  # compile and allocate
        for _ in range(3):
            step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            found[name].append(speed(step, options.seconds))
    first = found["textbook CycleGAN"]
    print(f"{options.size}x{options.size}, width {options.width}, {torch.get_num_threads()} threads, {precision}")
    table = {}
    for name, values in found.items():
        ratio = statistics.median(v / f for v, f in zip(values, first, strict=True))
        table[name] = {"images_per_second": round(statistics.median(values), 3), "ratio": round(ratio, 2)}
        print(f"{name:20s} {statistics.median(values):8.2f} images/s   {ratio:5.2f} x")
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        facts = {"options": vars(options), "precision": str(precision), "results": table}
        (RESULTS / "translate_speed.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How fast a training step is: our `dcgan` against the textbook's loop with the same layers, alternating A B A B.

    python benchmarks/train_speed.py [--rounds 7] [--seconds 4]

Both train on Fashion-MNIST at 32x32, batch 64. Also told: our achieved GFLOP/s of convolutions and products as a share
of this machine's bf16 (or fp32) GEMM peak, measured in the same run. Prints a table, writes results/train_speed.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import textbook
from limner.core import device, distributed
from limner.core.images import to_float
from limner.data import open_source, prepare
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.networks import dcgan
from limner.recipes.gan import PRESETS
from limner.training.iteration import Plan, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

RESULTS = Path(__file__).parent / "results"


def ours(batch: int, precision: torch.dtype) -> tuple[State, object, Plan]:
    dataset = prepare(open_source("fashion", labels=False), size=32)
    assert dataset.spec.channels == 1
    torch.manual_seed(0)
    recipe = PRESETS["dcgan"].make()
    nets = [
        net.to(memory_format=torch.channels_last) for net in (dcgan.Generator(dataset.spec), dcgan.Discriminator(dataset.spec))
    ]
    method = GAN(*nets, objective(recipe.objective)).method
    plan = Plan(
        images=10**9,
        batch=batch,
        optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        precision=precision,
    )
    return State(method, plan.optimizers), lambda first, count: {"image": dataset.batch(first, count, 0)["image"]}, plan


def flops_an_image(state: State, plan: Plan) -> float:
    """Multiplications and additions of one iteration's convolutions and products, for one image."""
    method = state.method
    image = to_float(torch.zeros(plan.batch, 1, 32, 32, dtype=torch.uint8))
    stream = lambda first, count: {"image": image[:count]}  # noqa: E731
    with FlopCounterMode(display=False) as counter:
        iterate(state, stream, plan, distributed.ALONE, torch.device("cpu"), False, Means())
    assert method.nets
    return counter.get_total_flops() / plan.batch


def gemm_peak(precision: torch.dtype, seconds: float = 1.0) -> float:
    """GFLOP/s of a 2048-cubed product: the best of several."""
    a = torch.randn(2048, 2048).to(precision)
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end or not best:
        start = time.monotonic()
        a @ a
        best = max(best, 2 * 2048**3 / (time.monotonic() - start) / 1e9)
    return best


def speed(step, batch: int, seconds: float) -> float:
    """Images a second of `step` over about `seconds`."""
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        step()
        count += batch
    return count / (time.monotonic() - start)


def worker(kind: str, folder: str, batch: int, seconds: float, pipe: Connection) -> None:
    """A process of its own a side: the allocator's settings and thread pools of one must not help or harm the other."""
    if kind == "ours":
        device.configure_runtime()
        precision = device.precision(torch.device("cpu"))
        state, stream, plan = ours(batch, precision)
        with training_mode(state.method):
            step = lambda: iterate(state, stream, plan, distributed.ALONE, torch.device("cpu"), False, Means())  # noqa: E731
            serve(step, batch, seconds, pipe, {"flops": flops_an_image(state, plan), "precision": str(precision)})
    else:
        loop = textbook.Loop(Path(folder), batch=batch)
        with FlopCounterMode(display=False) as counter:
            loop.step()
        serve(loop.step, batch, seconds, pipe, {"textbook_flops": counter.get_total_flops() / batch})


def serve(step: Callable[[], object], batch: int, seconds: float, pipe: Connection, facts: dict) -> None:
    """Measure whenever asked."""
    for _ in range(8):
        step()
    pipe.send(facts)
    while pipe.recv():
        pipe.send(speed(step, batch, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    source = open_source("fashion")
    assert source.array is not None
    rows, peaks = [], []
    processes = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        textbook.write_pngs(source.array.reshape(-1, 28, 28), Path(folder))
        sides, facts = {}, {}
        for kind in ("textbook", "ours"):
            sides[kind], theirs = processes.Pipe()
            processes.Process(
                target=worker, args=(kind, folder, options.batch, options.seconds, theirs), daemon=True
            ).start()
            facts |= sides[kind].recv()  # one warms up after the other
        precision = torch.bfloat16 if "bfloat16" in facts["precision"] else torch.float32
        for _ in range(options.rounds):
            pair = []
            for kind in ("textbook", "ours"):
                sides[kind].send(True)
                pair.append(sides[kind].recv())
            peaks.append(gemm_peak(precision))
            rows.append(pair)
            a, b = pair
            print(f"textbook {a:7.0f} images/s   ours {b:7.0f} images/s   x{b / a:.2f}   peak {peaks[-1]:.0f} GFLOP/s")
        for side in sides.values():
            side.send(False)
    ratio = statistics.median(b / a for a, b in rows)
    ours_speed, peak, work = statistics.median(b for _, b in rows), statistics.median(peaks), facts["flops"]
    achieved = ours_speed * work / 1e9
    peak32 = gemm_peak(torch.float32)
    theirs_achieved = statistics.median(a for a, _ in rows) * facts["textbook_flops"] / 1e9
    result = {
        "textbook": statistics.median(a for a, _ in rows),
        "ours": ours_speed,
        "ratio": ratio,
        "gflops": achieved,
        "peak_gflops": peak,
        "share_of_peak": achieved / peak,
        "textbook_gflops": theirs_achieved,
        "peak_gflops_fp32": peak32,
        "precision": facts["precision"],
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "rows": rows,
    }
    print(
        f"median ratio x{ratio:.2f}; ours {work / 1e6:.0f} MFLOP an image, {achieved:.0f} of {peak:.0f} GFLOP/s = "
        f"{achieved / peak:.0%} of the {facts['precision']} peak; textbook {facts['textbook_flops'] / 1e6:.0f} MFLOP, "
        f"{theirs_achieved:.0f} of {peak32:.0f} GFLOP/s = {theirs_achieved / peak32:.0%} of the fp32 peak"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "train_speed.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

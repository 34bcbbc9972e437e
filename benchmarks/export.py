"""An exported generator against PyTorch: time for one picture and in batches, size, difference.

    python benchmarks/export.py [RUN ...] [--seconds 5] [--browser]

Without a run it takes the default generator at 64x64 RGB with random weights, whose time is that of a trained one. Each row runs
alternately with the others. PyTorch runs the network in float32, under autocast in the machine's precision (where that is bf16), and in
the form that `limner sample` uses (`networks.inference`). CPU time is that of one thread. One picture uses all cores; batches are computed
one a core, as many at once as there are cores: both runtimes split one batch among threads worse than that. --browser adds what `export_browser.py` measures
of the page of `limner export RUN page.html` in Chromium. Prints a table, writes results/export.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import limner
from limner.apps.export import check, onnx
from limner.apps.export.part import Part
from limner.apps.export.parts import part_of
from limner.apps.export.report import megabytes
from limner.apps.export.wrap import GeneratorGraph
from limner.core import artifact, device
from limner.core.images import ImageSpec
from limner.networks import conv, describe
from limner.networks.inference import inference_form

RESULTS = Path(__file__).parent / "results"
BATCH = 64


@dataclass(frozen=True)
class Row:
    """One way to run a model. Times in ms a picture, the least of all rounds; rates in pictures per second of wall time."""

    model: str
    runtime: str
    size: int  # bytes
    error: float  # from PyTorch in float32, pixels in [0,1]
    one_wall_ms: float
    one_cpu_ms: float | None = None  # None: not measured
    batch_cpu_ms: float | None = None
    batch_per_second: float | None = None


def default_generator(folder: Path) -> Path:
    """A run of the default generator at 64x64 with random weights."""
    spec, config = ImageSpec(3, 64, 64), conv.GeneratorConfig()
    torch.manual_seed(0)
    network = conv.Generator(spec, config).eval()
    description = {
        "limner": limner.__version__, "kind": "generator", "recipe": {"name": "spectral"},
        "data": {"name": "random weights", "origin": "none", "count": 0, "spec": asdict(spec), "classes": []},
        "network": {"name": "generator", "noise": "normal", **describe("conv", config)}, "metrics": {}, "license": None,
        "training": {"images": 0, "budget": 1, "seconds": 0.0, "seed": 0, "machine": "none"},
    }  # fmt: skip
    artifact.save(folder, {"generator": network}, description, "# random weights\n")
    return folder


Run = Callable[[tuple[torch.Tensor, ...]], Any]


def in_pytorch(model: Any) -> dict[str, Run]:
    """The ways to run the default part of a model in PyTorch, with the weights in channels_last."""

    def run(part: Part, precision: torch.dtype) -> Run:
        part.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def once(inputs: tuple[torch.Tensor, ...]) -> Any:
            with torch.inference_mode(), device.autocast(torch.device("cpu"), precision):
                return part(*inputs)

        return once

    precision = device.precision(torch.device("cpu"))
    ways = {"PyTorch fp32": run(part_of(model), torch.float32)}
    if precision != torch.float32:
        ways[f"PyTorch {device.name_of(precision)}, autocast"] = run(part_of(model), precision)
    sampled = part_of(model)
    if isinstance(sampled.module, GeneratorGraph):
        sampled.module.network = inference_form(model.network, precision)
        ways[f"PyTorch {device.name_of(precision)}, as sampled"] = run(sampled, precision)
    return ways


def in_onnxruntime(part: Part, content: bytes, threads: int) -> Run:
    running = check.session(content, threads)
    return lambda inputs: check.run(running, part, inputs)


def measured(run: dict[str, Run], part: Part, seconds: float, clock: Callable[[], float]) -> dict[str, dict[int, float]]:
    """The least time per row in ms, by name and batch; the ways alternate."""
    best = {name: {1: float("inf"), BATCH: float("inf")} for name in run}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for batch in (1, BATCH):
            inputs = part.examples(batch, 0)
            for name, work in run.items():
                for _ in range(8 if batch == 1 else 1):
                    start = clock()
                    work(inputs)
                    best[name][batch] = min(best[name][batch], (clock() - start) * 1000 / batch)
    return best


def rates(run: dict[str, Run], part: Part, seconds: float, cores: int) -> dict[str, float]:
    """Pictures per second of wall time, the best of all rounds, by name: a batch on each core at once; the ways alternate."""
    inputs, best = part.examples(BATCH, 0), dict.fromkeys(run, 0.0)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(cores) as pool:
        while time.monotonic() < end:
            for name, work in run.items():
                start = time.perf_counter()
                list(pool.map(work, [inputs] * (4 * cores)))
                best[name] = max(best[name], 4 * cores * BATCH / (time.perf_counter() - start))
    return best


def rows_of(folder: Path, seconds: float) -> list[Row]:
    model = limner.load(folder, "cpu")
    with tempfile.TemporaryDirectory() as there:
        path = Path(there) / "model.onnx"
        report = onnx.write(model, path)
        content = path.read_bytes()
    part, name = part_of(model), folder.name
    weights = (folder / artifact.WEIGHTS).stat().st_size
    cores = os.cpu_count() or 1
    torch.set_num_threads(1)
    ways = in_pytorch(model)
    inputs = part.examples(BATCH, 1)
    errors = {way: float((run(inputs)[0] - part(*inputs)[0]).abs().max()) for way, run in ways.items()}
    single = ways | {"onnxruntime": in_onnxruntime(part, content, 1)}
    cpu = measured(single, part, seconds, time.process_time)
    rate = rates(single, part, seconds, cores)
    torch.set_num_threads(cores)
    wall = measured(ways | {"onnxruntime": in_onnxruntime(part, content, cores)}, part, seconds, time.perf_counter)
    return [
        Row(
            name, runtime, weights if runtime in ways else report.size, errors.get(runtime, report.error),
            wall[runtime][1], cpu[runtime][1], cpu[runtime][BATCH], rate[runtime],
        )
        for runtime in cpu
    ]  # fmt: skip


def in_browser(runs: list[Path]) -> list[Row]:
    """What `export_browser.py` measures: one picture at a time, on one thread."""
    here = Path(__file__).parent
    subprocess.run([sys.executable, here / "export_browser.py", *runs], check=True)
    found = json.loads((RESULTS / "export_browser.json").read_text())
    return [Row(row["run"], f"browser, {row['runtime']}", row["bytes"], row["error"], row["ms"]) for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--browser", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as there:
        runs = given.runs or [default_generator(Path(there) / "default-64x64")]
        rows = [row for run in runs for row in rows_of(run, given.seconds)]
        rows += in_browser(runs) if given.browser else []
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, numpy {np.__version__}")
    print("| model | runtime | size | difference | one: CPU ms | one: ms | batch: CPU ms | batch: pictures/s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        times = [("" if value is None else f"{value:,.{digits}f}") for value, digits in (
            (row.one_cpu_ms, 2), (row.one_wall_ms, 2), (row.batch_cpu_ms, 2), (row.batch_per_second, 0),
        )]  # fmt: skip
        print(f"| {row.model} | {row.runtime} | {megabytes(row.size)} | {row.error:.1g} | {' | '.join(times)} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "export.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()

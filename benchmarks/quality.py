"""How good the pictures are after 1, 2, 5 and 10 minutes: a recipe against the textbook DCGAN, at equal wall-clock.

    python benchmarks/quality.py --recipes auto textbook --minutes 10 --seeds 1

Data: Fashion-MNIST's 60,000 training images at 32x32 (the Debian package `dataset-fashion-mnist`, or --data). At each
mark 10,000 samples are drawn off the clock and later compared with the 10,000 test images on the features of a
classifier that Limner trains on the 60,000 (`own`): FID, KID, precision and recall, coverage. The clock starts with the
command: opening the data, measuring the speed, previews and checkpoints are the recipe's own cost; the textbook's clock
counts training steps only. Prints a table, writes results/quality.json and a sheet of samples a recipe, seed and mark.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import textbook
from limner.core import device, latents
from limner.core.images import grid, to_uint8, write_png
from limner.data import open_source
from limner.evaluation import Result
from limner.families.train import defaults, train
from limner.methods.phase import Clock
from limner.training.loop import View
from yardstick import RESULTS, SAMPLES, TEST, TRAIN, figures, yardstick


class Marks:
    """A hook that draws samples when the wall-clock passes each mark, its own time not counted."""

    def __init__(self, minutes: list[float], noise: str = "normal") -> None:
        self.noise = noise
        self.waiting, self.started, self.off = sorted(minutes), time.monotonic(), 0.0
        self.samples: dict[float, np.ndarray] = {}
        self.images: dict[float, int] = {}

    def due(self, clock: Clock) -> bool:
        spent = (time.monotonic() - self.started - self.off) / 60
        # the last mark belongs to the end of the run: a budget in images ends near it, not on it
        return bool(self.waiting) and (
            (len(self.waiting) > 1 and spent >= self.waiting[0]) or clock.seen >= clock.budget
        )

    def __call__(self, view: View) -> None:
        start = time.monotonic()
        mark = self.waiting.pop(0)
        if view.clock.seen >= view.clock.budget:
            mark = round((start - self.started - self.off) / 60, 2)
            self.waiting.clear()
        self.samples[mark] = draw(view.averages["generator"], self.noise)
        self.images[mark] = view.clock.seen
        self.off += time.monotonic() - start


@torch.no_grad()
def draw(generator: torch.nn.Module, noise: str, n: int = SAMPLES) -> np.ndarray:
    """uint8 [n,C,H,W] with classes in turn, from fixed latents."""
    rng = np.random.default_rng(1)
    classes = generator.spec.classes
    parts = []
    for start in range(0, n, 500):
        z = latents.draw(rng, 500, generator.z_size, noise)
        y = torch.arange(start, start + 500) % classes if classes else None
        parts.append(to_uint8(generator(z, y)).contiguous().numpy())
    return np.concatenate(parts)


def run_recipe(name: str, data: str, marks: list[float], seed: int, folder: Path, changes: dict) -> Marks:
    unconditional, plain = name.endswith("-unconditional"), name.removesuffix("-unconditional")
    callback = Marks(marks, changes.get("noise", defaults(plain).noise))
    train(
        data,
        recipe=plain,
        size=32,
        minutes=marks[-1],
        seed=seed,
        out=folder,
        quiet=False,
        unconditional=unconditional,
        callbacks=[callback],
        changes=changes,
    )
    return callback


def run_textbook(data: str, marks: list[float], seed: int, folder: Path) -> Marks:
    source = open_source(data)
    assert source.array is not None
    files = textbook.write_pngs(source.array.reshape(len(source), 28, 28), folder / "pngs")
    callback = Marks(marks)
    loop = textbook.Loop(files, size=32, seed=seed)

    def at(mark: float):
        def keep(loop: textbook.Loop, spent: float) -> None:
            callback.samples[mark], callback.images[mark] = loop.sample(SAMPLES, 1), loop.seen

        return keep

    loop.run(marks[-1] * 60, {mark * 60: at(mark) for mark in marks})
    return callback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["auto", "textbook"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", default=str(TRAIN))
    parser.add_argument("--reference", default=str(TEST))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of the recipe to change")
    parser.add_argument("--name", default="quality", help="of the files in results/")
    options = parser.parse_args()
    changes = {k: json.loads(v) for k, v in (pair.split("=", 1) for pair in options.set)}
    marks = sorted({m for m in (1.0, 2.0, 5.0) if m < options.minutes} | {options.minutes})
    device.configure_runtime()
    RESULTS.mkdir(exist_ok=True)
    print("preparing the reference and its classifier", flush=True)
    stick = yardstick(options.data, options.reference)
    real = stick.real()
    print("real against real:", {label: round(value, 4) for label, value in real.items()}, flush=True)
    rows = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.recipes:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                if name == "textbook":
                    callback = run_textbook(options.data, marks, seed, folder)
                else:
                    callback = run_recipe(name, options.data, marks, seed, folder / "run", changes)
            for mark, samples in callback.samples.items():
                result = stick.measure(samples)
                row = {"recipe": name, "seed": seed, "minutes": mark, "images": callback.images[mark]}
                rows.append(row | figures(result))
                print(json.dumps(rows[-1]), flush=True)
                write_png(RESULTS / f"{options.name}-{name}-{seed}-{mark:g}.png", grid(samples[:100], 10))
            write(options, rows, real, result)
    summary(rows, marks)


def write(options: argparse.Namespace, rows: list[dict], real: dict[str, float], result: Result) -> None:
    content = {
        "protocol": vars(options)
        | {"samples": SAMPLES, "threads": torch.get_num_threads(), "evaluation": result.protocol},
        "real": real,
        "rows": rows,
    }
    (RESULTS / f"{options.name}.json").write_text(json.dumps(content, indent=1, default=str) + "\n")


def summary(rows: list[dict], marks: list[float]) -> None:
    """The median over seeds, a line a recipe and mark."""
    labels = [key for key in rows[0] if key not in ("recipe", "seed", "minutes", "images")]
    print(f"{'recipe':24}{'minutes':>8}{'images':>10}" + "".join(f"{label:>18}" for label in labels))
    for name in dict.fromkeys(row["recipe"] for row in rows):
        for i in range(len(marks)):
            group = [sorted((r for r in rows if r["recipe"] == name and r["seed"] == s), key=lambda r: r["minutes"])[i]
                     for s in dict.fromkeys(r["seed"] for r in rows if r["recipe"] == name)]  # fmt: skip
            middle = [statistics.median(r[label] for r in group) for label in ("minutes", "images", *labels)]
            print(f"{name:24}{middle[0]:8.2f}{middle[1]:10,.0f}" + "".join(f"{value:18.4g}" for value in middle[2:]))


if __name__ == "__main__":
    main()

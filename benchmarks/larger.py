"""Generators of larger pictures after some minutes: recipes at equal wall-clock, on features that none of them was trained on.

    python benchmarks/larger.py --minutes 10 --recipes auto latent plain           # emoji, 64x64
    python benchmarks/larger.py --data FOLDER --size 128 --minutes 10 --seeds 3

Recipes run one after the other, each with --threads; the clock starts with the command. `plain` is the preset `spectral` as `auto` chose it
before it knew patches (width 24, transposed convolutions). Samples (--samples) are compared with all pictures of the set by the Fréchet distance,
precision and recall on EfficientNet-Lite0 trained on ImageNet (which decides), and by the Fréchet distance on pictures reduced to 16x16
(shape) and on features learned from the set (`own`). `real` compares two halves of the set. Prints a table, and writes
results/larger-NAME.json and a sheet of the first samples of each run, none chosen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

import limner
from limner.apps.evaluate import evaluate
from limner.core.images import grid, write_png
from yardstick import RESULTS

PLAIN = {"generator.width": 24, "discriminator.width": 24}
FEATURES = ["efficientnet", "lowpass", "own"]


def trained(data: str, recipe: str, folder: Path, size: int, minutes: float, seed: int, threads: int, unconditional: bool) -> float:
    """Train a run anew; returns the minutes that it took."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    name, changes = ("spectral", PLAIN) if recipe == "plain" else (recipe, {})
    limner.train(
        data, recipe=name, size=size, minutes=minutes, seed=seed, threads=threads, out=folder, changes=changes, quiet=True, doctor=False, metric="none",
        unconditional=unconditional,
    )  # fmt: skip
    return (time.monotonic() - start) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--name", default="emoji-64", help="of the results")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--recipes", nargs="+", default=["auto", "latent", "plain"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--classes", action="store_true", help="use the set's classes")
    parser.add_argument("--runs", type=Path, default=Path("build/larger"))
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    print("| recipe | seed | minutes | images | fd_efficientnet | precision | recall | fd_lowpass | fd_own |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for seed in range(args.seeds):
        for recipe in args.recipes:
            folder = args.runs / f"{args.name}-{recipe}-{seed}"
            minutes = trained(args.data, recipe, folder, args.size, args.minutes, seed, args.threads, not args.classes)
            model = limner.load(folder)
            found, _ = evaluate(model, args.data, ["fd", "precision_recall"], FEATURES, n=args.samples, out=folder / "evaluation.html")
            images = json.loads((folder / "limner.json").read_text())["training"]["images"]
            row = {"recipe": recipe, "seed": seed, "minutes": round(minutes, 1), "images": images, "threads": args.threads, **{name: found[name] for name in (
                "fd_efficientnet", "precision_efficientnet", "recall_efficientnet", "fd_lowpass", "fd_own")}}  # fmt: skip
            rows.append(row)
            print(f"| `{recipe}` | {seed} | {row['minutes']} | {images:,} | " + " | ".join(f"{value:.3g}" for value in list(row.values())[5:]) + " |", flush=True)
            write_png(RESULTS / f"larger-{args.name}-{recipe}-{seed}.png", grid(model.sample(96, seed=0), columns=16))
            (RESULTS / f"larger-{args.name}.json").write_text(json.dumps({"data": args.data, "size": args.size, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

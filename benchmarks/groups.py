"""What groups of similar pictures bring where there are no classes: the default with and without `--groups`, at equal images.

    python benchmarks/groups.py                                  # Fashion-MNIST without its classes, and emoji, both at 32x32
    python benchmarks/groups.py --set emoji --size 64 --groups 0 30 60 --seeds 3

fashion: 10,000 samples against the 10,000 test pictures on features of a classifier of the ten classes, which the run never sees (`--fashion` is the
folder of the IDX files). emoji: 3,000 samples against all of them on EfficientNet-Lite0 trained on ImageNet, and reduced to 16x16. Trains one run
after the other, prints a table, and writes results/groups.json and a sheet of the first samples of each run, none chosen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import limner
from limner.apps.evaluate import evaluate
from limner.core.images import grid, write_png
from yardstick import FASHION, RESULTS, TEST, TRAIN, figures, yardstick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", default=["fashion", "emoji"], choices=["fashion", "emoji"])
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--emoji", default="emoji", help="a folder of them; by default the embedded sample")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--groups", type=int, nargs="+", default=[0, 30])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("build/groups"))
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in args.set:
        data = str(args.fashion / TRAIN.name) if name == "fashion" else args.emoji
        for seed in range(args.seeds):
            for groups in args.groups:
                folder = args.runs / f"{name}-{args.size}-{groups}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                used = time.process_time()
                limner.train(
                    data, size=args.size, images=args.images, seed=seed, threads=args.threads, out=folder, changes={"groups": groups},
                    unconditional=True, quiet=True, doctor=False, metric="none",
                )  # fmt: skip
                used, model = time.process_time() - used, limner.load(folder)
                if name == "fashion":
                    judge = yardstick(data, args.fashion / TEST.name, args.size)
                    found = figures(judge.measure(model.sample(10_000, seed=1)))
                else:
                    found = figures(evaluate(model, data, ["fd", "precision_recall"], ["efficientnet", "lowpass"], n=3000, out=folder / "evaluation.html")[0])
                rows.append({"set": name, "size": args.size, "groups": groups, "seed": seed, "images": args.images, "cpu_minutes": round(used / 60, 2), **found})
                print(" ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rows[-1].items()), flush=True)
                write_png(RESULTS / f"groups-{folder.name}.png", grid(model.sample(96, seed=0), columns=16))
                (RESULTS / "groups.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

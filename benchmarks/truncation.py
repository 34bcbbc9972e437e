"""Truncation: precision, recall and distance of what `sample --truncation` makes, from 1 down.

    python benchmarks/truncation.py RUN [RUN ...] [--data fashion]

RUNs are generators trained on --data: a style-based one is truncated by psi, every other by a share of typical samples.
2,000 samples at each truncation against 5,000 pictures of the data, on the `own` features. Prints a table, writes
results/truncation.json and a sheet of 64 samples a run and truncation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import limner
from limner.core import device
from limner.core.images import grid, write_png
from limner.data import open_source, prepare
from limner.evaluation import evaluate, load_image_set
from limner.evaluation.features.own import own_features
from yardstick import RESULTS

SAMPLES, REFERENCE = 2_000, 5_000
METRICS = ["fd", "precision_recall", "density_coverage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", default="fashion")
    parser.add_argument("--truncations", nargs="+", type=float, default=[1.0, 0.7, 0.5, 0.2])
    parser.add_argument("--out", type=Path, default=RESULTS / "truncation.json")
    asked = parser.parse_args()
    device.configure_runtime()
    asked.out.parent.mkdir(exist_ok=True)
    rows = []
    print("| run | truncation | fd_own | precision | recall | density | coverage |\n|---|" + "---:|" * 6)
    for run in asked.runs:
        model = limner.load(run)
        real = load_image_set(prepare(open_source(asked.data), size=model.spec.size))
        features = own_features(real)
        for truncation in asked.truncations:
            samples = model.sample(SAMPLES, seed=0, truncation=truncation)
            found = evaluate(samples, real.some(REFERENCE), metrics=METRICS, features=features)
            figures = {m.name: m.value for m in found.metrics}
            rows.append({"run": run.name, "truncation": truncation, **figures})
            cells = [f"{figures[k]:.3f}" for k in ("fd", "precision", "recall", "density", "coverage")]
            print(f"| {run.name} | {truncation:g} | " + " | ".join(cells) + " |", flush=True)
            write_png(asked.out.with_name(f"truncation-{run.name}-{truncation:g}.png"), grid(samples[:64], 8))
            asked.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

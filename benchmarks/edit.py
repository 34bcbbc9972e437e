"""Inversion: how exactly a generator's own samples and held-out pictures are found, with tuned copies, and how fast.

    python benchmarks/edit.py RUN [RUN ...] [--data fashion] [--own 100] [--held-out 20] [--encoder | --no-encoder]

RUNs are generators trained on --data with `limner train` and its default seed, so that their held-out pictures are known. Own
samples are found with their class unknown. Times are the CPU time of one thread, without the encoder's training, which is listed
beside them. Prints a table, writes results/edit.json and, for each run, a sheet of held-out pictures above their projections
and tuned copies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import limner
from limner.apps.editing.encoder import encoder_for, path_of, training_pictures
from limner.apps.editing.invert import Inverted, Inverter
from limner.apps.editing.invert_files import sheet_of
from limner.apps.editing.latent import fingerprint, latent_of, render
from limner.core import device
from limner.core.images import write_png
from limner.data import open_source, prepare
from limner.data.split import split
from limner.evaluation.image_quality import psnr_of
from yardstick import RESULTS

EXACT, TUNED = 35.0, 30.0  # dB that own samples and tuned copies aim at
OTHERS = 64                # samples that a tuned copy should leave as they are


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the CPU seconds that it took."""
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


def own_samples(model: Any, inverter: Inverter, n: int) -> dict[str, float]:
    """Invert n own samples, with their class unknown."""
    rng = np.random.default_rng(5)
    labels = model.labels(n, None, rng)
    pictures = np.asarray(model.render(model.latents(n, rng, labels), labels))
    rows = [timed(lambda p=picture: inverter.invert(p)) for picture in pictures]
    found = np.array([result.psnr for result, _ in rows])
    figures = {
        "own": float(n), "own_exact": float((found >= EXACT).mean()), "own_psnr": float(np.median(found)),
        "own_psnr_5": float(np.percentile(found, 5)), "own_seconds": float(np.median([s for _, s in rows])),
    }  # fmt: skip
    if labels is not None:
        figures["own_class"] = float(np.mean([result.latent.label == label for (result, _), label in zip(rows, labels, strict=True)]))
    return figures


def held_out(model: Any, inverter: Inverter, data: str, n: int) -> tuple[dict[str, float], list[Inverted]]:
    """Project n held-out pictures, with their class unknown, and tune a copy for each."""
    _, held_out = split(prepare(open_source(data), size=model.spec.size, channels=str(model.spec.channels)), 0)
    assert held_out is not None
    rows = np.linspace(0, len(held_out) - 1, n).round().astype(int)
    pictures, results, seconds, tuning, kept = np.asarray(held_out.images[rows]), [], [], [], []
    rng = np.random.default_rng(6)
    labels = model.labels(OTHERS, None, rng)
    z = model.latents(OTHERS, rng, labels)
    others = [latent_of(model, row, None if labels is None else int(labels[i])) for i, row in enumerate(z)]
    before = render(model, others)
    own = dict(model.network.named_parameters())
    for picture in pictures:
        found, took = timed(lambda p=picture: inverter.invert(p))
        seconds.append(took)
        tuned, took = timed(lambda f=found: inverter.tune(f))
        tuning.append(took)
        results.append(tuned)
        weights = {name: own[name] + change for name, change in tuned.changes.items()}
        kept.append(np.mean([min(psnr_of(a, b), 99) for a, b in zip(render(model, others, weights), before, strict=True)]))
    projected = np.array([result.psnr for result in results])
    reached = np.array([result.tuned_psnr for result in results], float)
    figures = {
        "held_out": float(n), "projected_psnr": float(projected.mean()), "projected_seconds": float(np.median(seconds)),
        "projected_slowest": max(seconds), "tuned_psnr": float(reached.mean()), "tuned_worst": float(reached.min()),
        "tuned_30": float((reached >= TUNED).mean()), "tuned_seconds": float(np.median(tuning)), "tuned_slowest": max(tuning),
        "others_kept": float(np.mean(kept)),
    }  # fmt: skip
    if held_out.labels is not None and model.spec.classes:
        truth = held_out.labels[rows].tolist()
        figures["held_out_class"] = float(np.mean([r.latent.label == label for r, label in zip(results, truth, strict=True)]))
    return figures, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", default="fashion")
    parser.add_argument("--own", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=20)
    parser.add_argument("--encoder", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "edit.json")
    asked = parser.parse_args()
    device.configure_runtime(1)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(asked.out.read_text()) if asked.out.exists() else []
    for run in asked.runs:
        model = limner.load(run, "cpu")
        row: dict[str, Any] = {"part": "inversion", "run": run.name, "pictures": str(model.spec), "encoder": asked.encoder, "torch": torch.__version__}
        if asked.encoder:
            fresh = not path_of(run).exists()
            inverter, row["setup_seconds"] = timed(lambda m=model: Inverter(m))
            row |= {"encoder_trained": fresh, "encoder_pictures": training_pictures(model)}
            encoder_for(model, inverter.space, fingerprint(model))  # trained: reads the file
        else:
            inverter, row["setup_seconds"] = timed(lambda m=model: Inverter(m, encoder=False))
        row |= own_samples(model, inverter, asked.own)
        if asked.held_out:
            figures, results = held_out(model, inverter, asked.data, asked.held_out)
            row |= figures
            write_png(asked.out.with_name(f"edit-{run.name}{'' if asked.encoder else '-random'}.png"), sheet_of(results))
        for name, value in row.items():
            print(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |", flush=True)
        document = [old for old in document if (old["part"], old["run"], old["encoder"]) != ("inversion", run.name, asked.encoder)] + [row]
        asked.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

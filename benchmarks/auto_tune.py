"""What --auto-tune gains where a setting is wrong, and whether it harms where none is.

    python benchmarks/auto_tune.py --recipe dcgan --images 40000 --threads 1
    python benchmarks/auto_tune.py --recipe spectral --cases pictures --seeds 3

A recipe on Fashion-MNIST at 32x32, from the same seed, for the same images seen, once as it is and once with
--auto-tune: as it should be, with a discriminator whose learning rate is a hundred times too high, with a generator's ten or a hundred
times, and with a hundred pictures and no augmentation. Told are fd_own of 10,000 samples to the test pictures (see
yardstick.py) and what the doctor changed in the end. Rows are merged into results/auto_tune.json, so that it can be run
in parts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import limner
from limner.core import device
from limner.core.images import grid, write_png
from limner.families.train import defaults, train
from limner.recipes.measured import FIGURE
from yardstick import RESULTS, Yardstick, yardstick

FEW = 100
CASES: dict[str, dict[str, float]] = {  # name -> factors on the learning rates
    "as it should be": {},
    "discriminator's lr x 100": {"discriminator": 100},
    "generator's lr x 10": {"generator": 10},
    "generator's lr x 100": {"generator": 100},
    f"{FEW} pictures, no augmentation": {},
}


def row(case: str, tune: bool, seed: int, stick: Yardstick, asked: argparse.Namespace) -> dict[str, Any]:
    """One training and what its samples are worth."""
    images, labels = stick.train.images, stick.train.labels
    assert labels is not None
    count = FEW if case.startswith(str(FEW)) else len(images)
    base = defaults(asked.recipe)
    changes: dict[str, Any] = {f"{who}_optimizer.lr": factor * getattr(base, f"{who}_optimizer").lr for who, factor in CASES[case].items()}
    result: dict[str, Any] = {"recipe": asked.recipe, "case": case, "auto_tune": tune, "seed": seed, "images": asked.images}
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                (images[:count].numpy(), labels[:count]), recipe=asked.recipe, images=asked.images, seed=seed,
                threads=asked.threads, device="cpu", quiet=True, auto_tune=tune, out=Path(folder) / "run",
                changes=changes | ({"augmentation": "none"} if count == FEW else {}),
            )  # fmt: skip
        except ValueError as error:
            return result | {"failed": str(error)}
        model = limner.load(Path(folder) / "run", "cpu")
        settings = {k: round(v, 4) for k, v in model.description["training"]["settings"].items() if v not in (0, 1)}
        name = f"auto_tune-{asked.recipe}-{list(CASES).index(case)}-{'tuned' if tune else 'left'}-{seed}.png"
        write_png(RESULTS / name, grid(model.sample(40, seed=2), 10))
        return result | {"fd": round(stick.measure(model.sample(10_000, seed=1))[FIGURE], 4), "settings": settings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="spectral")
    parser.add_argument("--cases", nargs="*", default=[""], help="those whose names hold one of these words")
    parser.add_argument("--images", type=int, default=60_000, help="seen by each")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    device.configure_runtime(asked.threads)
    RESULTS.mkdir(exist_ok=True)
    path, stick = RESULTS / "auto_tune.json", yardstick()
    rows = json.loads(path.read_text()) if path.exists() else []
    for seed in range(asked.seeds):
        for case in (name for name in CASES if any(word in name for word in asked.cases)):
            for tune in (False, True):
                new = row(case, tune, seed, stick, asked)
                same = {key: new[key] for key in ("recipe", "case", "auto_tune", "seed", "images")}
                rows = [old for old in rows if any(old[key] != value for key, value in same.items())] + [new]
                path.write_text(json.dumps(rows, indent=1) + "\n")
                text = new.get("failed") or f"fd_own {new['fd']:.3g}  {new['settings']}"
                print(f"{case:32} {'tuned' if tune else 'left':6} seed {seed}: {text}", flush=True)


if __name__ == "__main__":
    main()

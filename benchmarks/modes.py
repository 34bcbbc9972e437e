"""Which games drop modes: every objective with every penalty on toy mixtures, and some on a thousand real modes.

    python benchmarks/modes.py                       # everything; about an hour on one core
    python benchmarks/modes.py --quick               # a few combinations, a minute or two
    python benchmarks/modes.py --only ring --objectives hinge relativistic --penalties none r1r2

Ring and grid: 8 Gaussians on a circle and 25 on a square, two small perceptrons, the same budget for all, trained by the
same game and loop as pictures are. A sample is good within four deviations of its nearest centre; a mode is covered when
it gets at least a tenth of its share in good samples (2,500 samples, averaged weights).

Stacked: three random Fashion-MNIST pictures are the channels of one 32x32 picture, which makes 1,000 modes, as Metz et
al. 2017 ("Unrolled GANs", section 3.3.1) did with digits. 26,000 samples are counted with a classifier that is trained
here; the table gives the modes that occur and KL(generated || uniform). The line `data` is what real stacks get, which
is the best that can be had of so few samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core import device, latents, schedule
from limner.core.images import ImageSpec, to_float
from limner.data import open_source, prepare
from limner.losses.adversarial import OBJECTIVES, objective
from limner.losses.penalties import PENALTIES
from limner.methods.gan import GAN
from limner.networks import dcgan
from limner.recipes import gan
from limner.training.loop import Plan, fit, measure
from limner.training.state import Optimiser

FASHION = Path("/usr/share/datasets/fashion-mnist")
RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
ADAM = Optimiser(rate=1e-3, beta1=0.0, beta2=0.99)


def trained(method: GAN, stream: Callable[[int, int], Mapping[str, Tensor]], plan: Plan) -> nn.Module:
    """The averaged generator after the whole budget."""
    kept: dict[str, nn.Module] = {}
    with tempfile.TemporaryDirectory() as folder:
        fit(method, stream, Path(folder), plan, device=CPU, quiet=True,
            publish=lambda view: kept.update(view.averages))  # fmt: skip
    return kept["generator"].eval()


# ---- toy mixtures ----------------------------------------------------------------------------------------------------


class Perceptron(nn.Module):
    """Points of the plane as pictures [N,1,1,2], or latents, to points or logits."""

    z_size = 8

    def __init__(self, inputs: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
        )
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.last(self.body(x.flatten(1)))
        return x.squeeze(1) if x.shape[1] == 1 else x.view(-1, 1, 1, 2)


def ring() -> tuple[Tensor, float]:
    angles = torch.arange(8) * torch.pi / 4
    return torch.stack([angles.cos(), angles.sin()], 1), 0.02


def square() -> tuple[Tensor, float]:
    axis = torch.linspace(-1, 1, 5)
    return torch.cartesian_prod(axis, axis), 0.02


MIXTURES = {"ring": ring, "grid": square}


def toy(mixture: str, objective_name: str, penalty: str, seed: int, iterations: int) -> dict[str, float]:
    centres, deviation = MIXTURES[mixture]()

    def stream(first: int, count: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed * 1_000_003 + first)
        which = torch.randint(len(centres), (count,), generator=random)
        points = centres[which] + deviation * torch.randn(count, 2, generator=random)
        return {"image": points.view(-1, 1, 1, 2)}

    torch.manual_seed(seed)
    known = PENALTIES[penalty].weight if penalty != "none" else 0.0
    method = GAN(
        Perceptron(Perceptron.z_size, 2),
        Perceptron(2, 1),
        objective(objective_name),
        penalty=penalty,
        gamma=0.1 if known is None else known,
    )
    plan = Plan(
        images=256 * iterations,
        batch=256,
        seed=seed,
        optimisers={"critic": ADAM, "generator": ADAM},
        rate=lambda clock: schedule.falling(clock.seen, clock.budget),
        ema_half_life=5_000,
        checkpoint_seconds=1e9,
    )
    generator = trained(method, stream, plan)
    with torch.no_grad():
        points = generator(torch.randn(2_500, Perceptron.z_size, generator=torch.Generator().manual_seed(1)))
    distance, nearest = torch.cdist(points.view(-1, 2), centres).min(1)
    good = distance < 4 * deviation
    counts = nearest[good].bincount(minlength=len(centres))
    covered = int((counts >= 2_500 / len(centres) / 10).sum())
    return {"modes": covered, "of": len(centres), "good": round(good.float().mean().item(), 3)}


# ---- stacked fashion -------------------------------------------------------------------------------------------------


class Judge(nn.Module):
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


def judge_of(images: Tensor, labels: Tensor, epochs: int) -> tuple[Judge, float]:
    """A judge trained on nine tenths of the pictures, and how often it is right about the rest."""
    torch.manual_seed(0)
    judge = Judge().to(memory_format=torch.channels_last)
    held = len(images) // 10
    adam = torch.optim.Adam(judge.parameters(), 2e-3)
    steps = epochs * ((len(images) - held) // 128)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, steps)
    for _ in range(steps):
        rows = torch.randint(held, len(images), (128,))
        F.cross_entropy(judge(to_float(images[rows])), labels[rows]).backward()
        adam.step()
        falling.step()
        adam.zero_grad()
    judge.eval()
    return judge, (classes(judge, images[:held]) == labels[:held]).float().mean().item()


@torch.no_grad()
def classes(judge: Judge, images: Tensor) -> Tensor:
    """[N,1,32,32], uint8 or float -> [N]"""
    parts = [images[i : i + 500] for i in range(0, len(images), 500)]
    return torch.cat([judge(to_float(x) if x.dtype == torch.uint8 else x).argmax(1) for x in parts])


def count_modes(judge: Judge, stacks: Tensor) -> dict[str, float]:
    """Which of the 1,000 triples of classes occur in [N,3,32,32], and how far from evenly."""
    found = torch.stack([classes(judge, stacks[:, c : c + 1]) for c in range(3)], 1) @ torch.tensor([100, 10, 1])
    share = found.bincount(minlength=1000).double() / len(found)
    kl = (share[share > 0] * (share[share > 0] * 1000).log()).sum().item()
    return {"modes": int((share > 0).sum()), "of": 1000, "kl": round(kl, 4)}


def stacked_stream(images: Tensor, seed: int) -> Callable[[int, int], dict[str, Tensor]]:
    def stream(first: int, count: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed * 1_000_003 + first)
        return {"image": images[torch.randint(len(images), (count, 3), generator=random), 0]}

    return stream


def stacked_game(name: str, images: Tensor, seed: int, seconds: float) -> tuple[nn.Module, str, int]:
    """A preset's game, or `objective+penalty` on the nets of DCGAN without norms in the critic; its kind of noise; and pictures seen."""
    spec = ImageSpec(3, 32, 32)
    if name in gan.PRESETS:
        recipe = gan.PRESETS[name].make()
    else:
        objective_name, penalty = name.split("+")
        adam = Optimiser(rate=2e-4, beta1=0.5, beta2=0.99)
        recipe = gan.Recipe(
            architecture="dcgan", network=dcgan.Config(width=32, critic_norm=False), objective=objective_name,
            penalty=penalty, critic=adam, generator=adam, falling_from=1.0,
        )  # fmt: skip
    torch.manual_seed(seed)
    method = gan.game(recipe, spec, CPU)

    def plan(budget: int) -> Plan:
        return Plan(
            images=budget, batch=recipe.batch, seed=seed, checkpoint_seconds=1e9, ema_half_life=recipe.ema_half_life,
            precision=device.precision(CPU),
            optimisers={"critic": recipe.critic, "generator": recipe.generator},
            rate=lambda clock: schedule.falling(clock.seen, clock.budget, recipe.falling_from),
        )  # fmt: skip

    stream = stacked_stream(images, seed)
    speed = measure(method, stream, plan(10**9), CPU, seconds=min(4.0, seconds / 10))
    budget = max(1, round(speed * seconds / recipe.batch)) * recipe.batch
    return trained(method, stream, plan(budget)), recipe.noise, budget


@torch.no_grad()
def samples(generator: nn.Module, noise: str, n: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    size: int = generator.z_size  # type: ignore[assignment]
    z = latents.bent(torch.randn(n // 500 * 500, size, generator=random), noise)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*MIXTURES, "stacked"])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--penalties", nargs="+", default=["none", *PENALTIES])
    parser.add_argument("--games", nargs="+", default=["spectral", "r3gan", "non-saturating+none", "non-saturating+r1r2",
                                                       "relativistic+none", "relativistic+r1r2", "wasserstein+wgan-gp"],
                        help="of stacked: presets, or objective+penalty")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=2_000, help="of a toy")
    parser.add_argument("--minutes", type=float, default=4.0, help="of a stacked game")
    parser.add_argument("--data", help="Fashion-MNIST (default: the Debian package's, or the embedded sample)")
    parser.add_argument("--out", type=Path, help="default: results/modes.json, and with --quick nowhere")
    parser.add_argument("--quick", action="store_true", help="see that it works")
    asked = parser.parse_args()
    if asked.quick:
        asked.objectives, asked.penalties = ["non-saturating", "relativistic"], ["none", "r1r2"]
        asked.games, asked.iterations, asked.minutes = ["spectral"], 500, 0.1
    device.settle()
    rows: list[dict[str, Any]] = []
    out = asked.out or (None if asked.quick else RESULTS / "modes.json")

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        if out:
            out.parent.mkdir(exist_ok=True)
            out.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1))

    for mixture in MIXTURES if asked.only is None else [asked.only] if asked.only in MIXTURES else []:
        for name in asked.objectives:
            for penalty in asked.penalties:
                for seed in range(asked.seeds):
                    row = {"on": mixture, "game": f"{name}+{penalty}", "seed": seed}
                    keep(attempt(row, lambda m=mixture, n=name, p=penalty, s=seed: toy(m, n, p, s, asked.iterations)))
    if asked.only in (None, "stacked"):
        default = FASHION if FASHION.exists() and not asked.quick else "fashion"
        dataset = prepare(open_source(asked.data or str(default)), size=32)
        images, labels = dataset.batch(0, len(dataset), 0)
        assert labels is not None
        judge, accuracy = judge_of(images, labels, 1 if asked.quick else 6)
        print(f"The judge is right about {accuracy:.1%} of {len(images) // 10:,} pictures it has not seen.")
        n = 5_000 if asked.quick else 26_000
        real = stacked_stream(images, 99)(0, n)["image"]
        keep(attempt({"on": "stacked", "game": "data", "seed": 0, "judge": accuracy},
                     lambda: count_modes(judge, real)))  # fmt: skip
        for name in asked.games:
            for seed in range(asked.seeds):

                def play(name: str = name, seed: int = seed) -> dict[str, float]:
                    generator, noise, seen = stacked_game(name, images, seed, asked.minutes * 60)
                    return count_modes(judge, samples(generator, noise, n)) | {"images": seen}

                keep(attempt({"on": "stacked", "game": name, "seed": seed}, play))


if __name__ == "__main__":
    main()

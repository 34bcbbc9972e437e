"""What a penalty without double backward saves, how well it agrees with the exact one, and what the pictures say.

    python benchmarks/penalties.py                                  # speed and agreement of r1 and r1-fast: a minute or two
    python benchmarks/penalties.py --penalty r1r2 --recipe r3gan
    python benchmarks/penalties.py --minutes 5 --seeds 2            # and pictures at equal time
    python benchmarks/penalties.py --images 50000                   # and pictures at equal images seen

`r1-fast` estimates |grad D|^2 by |D(x + sigma e) - D(x)|^2 / sigma^2 (Lin et al. 2025, eq. 6).

Speed: whole iterations of one recipe's game on Fashion-MNIST at 32x32 with either penalty and with none, from the same
start, alternating A B A B in one process; the median of the rounds' ratios is told. Agreement: on the discriminator that those
rounds trained, over pictures of the data: the estimate's mean over many draws against the exact value (their ratio, their
correlation over pictures), how far one draw's mean over a batch strays, and the cosine between the gradients that both
send to the discriminator's weights. Pictures: 10,000 samples against the 10,000 test pictures, see yardstick.py. Prints tables,
writes results/penalties.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import limner
from limner.core import device, distributed
from limner.core.images import to_float
from limner.data import open_source, prepare
from limner.families.train import train
from limner.losses.penalties import estimated_gradient_norm, squared_gradient_norm
from limner.recipes import gan
from limner.recipes.config import Recipe
from limner.training.iteration import Plan, iterate, training_mode
from limner.training.log import Means
from limner.training.state import State
from yardstick import RESULTS, TRAIN, figures, yardstick

CPU = torch.device("cpu")
FIGURES = ("fd_own", "mmd_own", "precision_own", "recall_own", "coverage_own")


# ---- speed -----------------------------------------------------------------------------------------------------------


def side(recipe: Recipe, dataset: Any, precision: torch.dtype) -> tuple[State, Callable[[], object]]:
    """A game from its start, and one iteration of it."""
    torch.manual_seed(0)
    method = gan.gan_of(recipe, dataset.spec, CPU).method
    plan = Plan(
        images=10**9,
        batch=recipe.batch,
        optimizers={"discriminator": recipe.discriminator_optimizer, "generator": recipe.generator_optimizer},
        precision=precision,
    )
    state = State(method, plan.optimizers)

    return state, lambda: iterate(state, lambda first, count: dataset.batch(first, count, 0), plan, distributed.ALONE, CPU, False, Means())


def speed(step: Callable[[], object], batch: int, seconds: float) -> float:
    """Images a second over about `seconds`."""
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        step()
        count += batch
    return count / (time.monotonic() - start)


def speeds(base: Recipe, penalty: str, dataset: Any, rounds: int, seconds: float) -> tuple[dict[str, Any], nn.Module]:
    """Images a second of every round, and the discriminator that the exact penalty trained."""
    names = [penalty, f"{penalty}-fast", "none"]
    precision = device.precision(CPU)
    sides = {name: side(replace(base, penalty=name), dataset, precision) for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for state, step in sides.values():
        with training_mode(state.method):
            for _ in range(3):
                step()
    for i in range(rounds):
        for name, (state, step) in sides.items():
            with training_mode(state.method):
                found[name].append(speed(step, base.batch, seconds))
        told = "   ".join(f"{name} {found[name][i]:.0f}" for name in names)
        print(f"round {i + 1}: {told} images/s   x{found[names[1]][i] / found[names[0]][i]:.2f}", flush=True)
    ratio = statistics.median(b / a for a, b in zip(found[names[0]], found[names[1]], strict=True))
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    result = {"images_per_second": medians, "ratio": round(ratio, 3), "rounds": found, "precision": str(precision)}
    return result, sides[penalty][0].method.nets["discriminator"]


# ---- agreement -------------------------------------------------------------------------------------------------------


def gradient(loss: Tensor, discriminator: nn.Module) -> Tensor:
    """What the loss sends to all weights, as one row; zero where it sends nothing."""
    weights = list(discriminator.parameters())
    parts = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(weights, parts, strict=True)])


def agreement(discriminator: nn.Module, x: Tensor, y: Tensor | None, draws: int) -> dict[str, float]:
    """Of pictures float [N,C,H,W] with their labels [N]; in fp32, out of training, so that nothing moves meanwhile."""
    discriminator.eval().requires_grad_(True)
    random = torch.Generator().manual_seed(0)

    def logits(pictures: Tensor) -> Tensor:
        return discriminator(pictures, None if y is None else y.repeat(len(pictures) // len(y)))

    exact = squared_gradient_norm(logits, x)
    right = gradient(exact.mean(), discriminator)
    values, slopes = [], []
    for _ in range(draws):
        estimate = estimated_gradient_norm(logits, x, torch.randn(x.shape, generator=random))
        values.append(estimate.detach())
        slopes.append(gradient(estimate.mean(), discriminator))
    value, input_gradient = torch.stack(values), torch.stack(slopes)
    cosine = nn.functional.cosine_similarity
    return {
        "mean_ratio": (value.mean() / exact.detach().mean()).item(),
        "correlation": torch.corrcoef(torch.stack([value.mean(0), exact.detach()]))[0, 1].item(),
        "stray_of_one_draw": (value.mean(1).std() / value.mean()).item(),
        "cosine_of_one_draw": cosine(input_gradient, right[None]).mean().item(),
        "cosine_of_the_mean": cosine(input_gradient.mean(0), right, dim=0).item(),
        "length_ratio": (input_gradient.mean(0).norm() / right.norm()).item(),
    }


# ---- pictures --------------------------------------------------------------------------------------------------------


def picture_row(asked: argparse.Namespace, penalty: str, seed: int, budget: dict[str, Any]) -> dict[str, Any]:
    """One training and what its samples are worth, or why there are none."""
    row: dict[str, Any] = {"penalty": penalty, "seed": seed, **budget}
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        try:
            outcome = train(
                str(TRAIN), recipe=asked.recipe, size=32, seed=seed, threads=asked.threads, device="cpu", quiet=True,
                out=Path(folder) / "run", changes={"penalty": penalty}, **budget,
            ).outcome  # fmt: skip
        except ValueError as error:
            return row | {"failed": str(error)}
        row |= {"seen": outcome.seen, "minutes_taken": round((time.monotonic() - start) / 60, 2)}
        return row | figures(yardstick().measure(limner.load(Path(folder) / "run", "cpu").sample(10_000, seed=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="r1", help="whose game and nets")
    parser.add_argument("--penalty", default="r1", choices=["r1", "r2", "r1r2"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a side in a round")
    parser.add_argument("--draws", type=int, default=64, help="of the estimate, for the agreement")
    parser.add_argument("--minutes", type=float, help="train both for so long and compare pictures")
    parser.add_argument("--images", type=int, help="train both for so many images and compare pictures")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    device.configure_runtime(asked.threads)
    base = gan.PRESETS[asked.recipe].make()
    dataset = prepare(open_source("fashion"), size=32)
    result: dict[str, Any] = {"recipe": asked.recipe, "penalty": asked.penalty, "threads": asked.threads}
    result["speed"], discriminator = speeds(base, asked.penalty, dataset, asked.rounds, asked.seconds)
    print(f"{asked.penalty}-fast is {result['speed']['ratio']:.2f} times as fast as {asked.penalty}, whole iterations")
    images, labels = dataset.batch(0, base.batch, 1).values()
    result["agreement"] = agreement(discriminator, to_float(images), labels, asked.draws)
    print("  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in result["agreement"].items()), flush=True)
    result["pictures"] = rows = []
    budgets = [{name: value} for name in ("minutes", "images") if (value := getattr(asked, name))]
    for budget in budgets:
        for seed in range(asked.seeds):
            for penalty in (asked.penalty, f"{asked.penalty}-fast"):
                rows.append(row := picture_row(asked, penalty, seed, budget))
                told = row.get("failed") or "  ".join(f"{name} {row[name]:.3g}" for name in ("seen", *FIGURES))
                print(f"{penalty:10} seed {seed} {budget}: {told}", flush=True)
                keep(result)
    keep(result)


def keep(result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "penalties.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

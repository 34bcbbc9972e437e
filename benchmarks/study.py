"""Human studies: coverage of the intervals in 10,000 simulated studies each, and the score of a bot that does not look at pixels.

    python benchmarks/study.py [--part intervals|bot] [--studies 10000]

The raters and pictures of a simulated study have random effects (`tests/study_simulation.py`), so that the true error rate is
known. A 95 % interval should cover it in 95 % of the studies. Beside the interval over raters stand Wilson's, which takes all
answers as independent, and two bootstraps over raters with 1,000 resamples: of percentiles, and with percentiles corrected for few
raters (Hesterberg 2015). The bot (`tests/study_bot.py`) learns from ids, headers, lengths and times. Prints tables and writes
results/study.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from limner.apps.study.intervals import crossed, t_quantile, wilson
from yardstick import RESULTS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from study_bot import Direct, Wire, noise_study, score, watch
from study_simulation import World, simulate

CHUNK, RESAMPLES, PICTURES = 500, 1_000, 25
EVEN, LOW, ALIKE, DIFFERENT = World(), World(-1.5, -1.5), World(skill=0, bias=0, difficulty=0), World(skill=1, difficulty=1)
HARD = World(-3, -2.5, skill=1, bias=0.5, difficulty=1)
SCENARIOS: list[tuple[str, World, int, bool]] = [
    *((f"{n} raters, own pictures", EVEN, n, False) for n in (2, 3, 5, 10, 30)),
    *((f"{n} raters, the same pictures", EVEN, n, True) for n in (2, 3, 5, 10, 30)),
    ("10 raters, few errors", LOW, 10, False), ("10 raters, all alike", ALIKE, 10, False),
    ("10 raters, very different", DIFFERENT, 10, False), ("10 raters, very different, few errors", HARD, 10, False),
]  # fmt: skip


def percentiles(answers: np.ndarray, raters: int, weights: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the percentile bootstrap over raters, of answers [S,N] in order of the raters. weights: [B,R]."""
    means = answers.reshape(len(answers), raters, -1).mean(2)
    low, high = np.quantile(weights @ means.T, [share, 1 - share], axis=0)
    return low, high


def coverage(world: World, studies: int, raters: int, same: bool, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of studies whose interval covers the truth, by method."""
    truth = sum(world.errors) / 2
    weights = rng.multinomial(raters, [1 / raters] * raters, RESAMPLES) / raters
    few = NormalDist().cdf(-math.sqrt(raters / (raters - 1)) * float(t_quantile(np.array(raters - 1.0))))
    covered: dict[str, list[np.ndarray]] = {}
    for _ in range(studies // CHUNK):
        answers, design = simulate(world, CHUNK, raters, PICTURES, rng, same)
        found = crossed(answers, design)
        bounds = {
            "over raters": (found.low, found.high),
            "wilson": wilson(found.rate, answers.shape[1]),
            "bootstrap": percentiles(answers, raters, weights, 0.025),
            "bootstrap, corrected": percentiles(answers, raters, weights, few),
        }
        for name, (low, high) in bounds.items():
            covered.setdefault(name, []).append((low <= truth) & (truth <= high))
    return {"error": truth, **{name: float(np.mean(parts)) for name, parts in covered.items()}}


def intervals(studies: int) -> list[dict[str, Any]]:
    """Print and return the coverage of every scenario."""
    rows = []
    print("| simulated | true error | over raters | Wilson | bootstrap | bootstrap, corrected |\n|---|" + "---:|" * 5)
    for name, world, raters, same in SCENARIOS:
        row = coverage(world, studies, raters, same, np.random.default_rng(0))
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f} %" for value in row.values()) + " |", flush=True)
        rows.append({"simulated": name, "studies": studies, **row})
    print("\n| one rater | true error | Wilson |\n|---|---:|---:|")
    for mean, n in ((0.0, 100), (-1.0, 100), (-2.0, 100), (0.0, 20)):
        rng = np.random.default_rng(2)
        rates = 1 / (1 + np.exp(-(mean + rng.normal(0, 0.5, studies))))
        low, high = wilson(rng.binomial(n, rates) / n, n)
        covered = float(((low <= rates) & (rates <= high)).mean())
        print(f"| {n} answers | {100 * rates.mean():.1f} % on average | {100 * covered:.1f} % |")
        rows.append({"simulated": f"one rater, {n} answers", "studies": studies, "error": float(rates.mean()), "wilson": covered})
    return rows


def bot() -> list[dict[str, Any]]:
    """Print and return the scores of the bot."""
    rows = []
    print("\n| bot | questions | right | standard error |\n|---|---:|---:|---:|")
    for name, pairs, over, count, raters in (
        ("real or fake", False, Direct, 100, 20), ("pairs", True, Direct, 220, 10), ("real or fake, over a socket", False, Wire, 50, 10),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            right, n = score(watch(noise_study(Path(folder), count, raters, pairs), raters, over))
        print(f"| {name} | {n:,} | {100 * right:.1f} % | {50 / math.sqrt(n):.1f} % |", flush=True)
        rows.append({"bot": name, "questions": n, "right": right})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["intervals", "bot"])
    parser.add_argument("--studies", type=int, default=10_000)
    asked = parser.parse_args()
    rows = [] if asked.part == "bot" else intervals(asked.studies)
    rows += [] if asked.part == "intervals" else bot()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "study.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

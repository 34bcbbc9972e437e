"""The Fréchet distance from features, and the own features' speed: `python benchmarks/metrics.py [--quick]`.

A is the field's way (scipy.linalg.sqrtm of the product of the covariances), B is Limner's; they run in turn, A B A B, and
the ratio is the median of the pairs'. Writes benchmarks/results/metrics.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import torch

from limner.core.device import configure_runtime
from limner.evaluation.distances import polynomial_mmd
from limner.evaluation.features import OwnFeatures, extract
from limner.evaluation.features.encoder import train_classifier, train_contrastive, working_size
from limner.evaluation.features.extractor import resized
from limner.evaluation.frechet import frechet_distance, frechet_from_statistics
from limner.evaluation.precision_recall import density_coverage, precision_recall
from limner.evaluation.statistics import statistics_of

RESULTS = Path(__file__).parent / "results" / "metrics.json"
FASHION = Path("/usr/share/datasets/fashion-mnist")


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def features(n: int, f: int, seed: int) -> np.ndarray:
    """Rows with a spectrum over four orders of magnitude, shifted a little from seed to seed."""
    mix = np.linalg.qr(np.random.default_rng(0).normal(size=(f, f)))[0] * np.geomspace(1, 1e-2, f)[:, None]
    return np.random.default_rng(seed).normal(size=(n, f)) @ mix + 0.003 * seed


def by_matrix_root(x: np.ndarray, y: np.ndarray, s: np.ndarray, t: np.ndarray) -> float:
    root = scipy.linalg.sqrtm(s @ t)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s) + np.trace(t) - 2 * np.trace(root).real)


def alternate(name: str, a: Callable[[], float], b: Callable[[], float], rounds: int) -> dict:
    """Times of A and B in turn, the median of the ratios, and how far the values are apart."""
    times, values = [], (0.0, 0.0)
    for _ in range(rounds):
        (ta, va), (tb, vb) = seconds(a), seconds(b)
        times.append((ta, tb))
        values = (float(va), float(vb))  # type: ignore[arg-type]
    row = {
        "what": name, "reference_s": statistics.median(t[0] for t in times),
        "limner_s": statistics.median(t[1] for t in times), "ratio": statistics.median(p / q for p, q in times),
        "relative_difference": abs(values[0] - values[1]) / abs(values[0]), "rounds": rounds,
    }
    print(f"{name:58s} {row['reference_s']:9.2f} s {row['limner_s']:8.2f} s {row['ratio']:7.1f} ×"
          f"   differs {row['relative_difference']:.1e}", flush=True)
    return row


def distances(quick: bool, rounds: int) -> list[dict]:
    n, f = (2000, 256) if quick else (10_000, 2048)
    x, y = features(n, f, 1), features(n, f, 2)
    few, tiny = x[: n // 4], x[: f // 7]
    s, t = (np.cov(z, rowvar=False) for z in (x, y))
    a, b = statistics_of(x), statistics_of(y)
    print(f"{'':58s} {'reference':>11s} {'Limner':>10s} {'ratio':>9s}")
    found = [
        alternate(f"distance of two covariances {f}x{f}", lambda: by_matrix_root(x, y, s, t), lambda: frechet_from_statistics(a, b), rounds),
        alternate(
            f"whole, {n}x{f} features on both sides",
            lambda: by_matrix_root(x, y, np.cov(x, rowvar=False), np.cov(y, rowvar=False)), lambda: frechet_distance(x, y), rounds,
        ),
        alternate(
            f"{len(few)} against {n}, reference known",
            lambda: by_matrix_root(few, y, np.cov(few, rowvar=False), t), lambda: frechet_distance(few, b), rounds,
        ),
        alternate(
            f"{len(tiny)} against {n} (rank deficient: roots differ), reference known",
            lambda: by_matrix_root(tiny, y, np.cov(tiny, rowvar=False), t), lambda: frechet_distance(tiny, b), rounds,
        ),
    ]
    for name, run in (
        ("KID, all pairs", lambda: polynomial_mmd(x, y).value),
        ("precision and recall", lambda: precision_recall(x, y)[0]),
        ("density and coverage", lambda: density_coverage(x, y)[0]),
    ):
        spent, _ = seconds(run)
        print(f"{name:58s} {'':11s} {spent:8.2f} s", flush=True)
        found.append({"what": name, "limner_s": spent})
    return found


def own(quick: bool) -> list[dict]:
    """Training on Fashion-MNIST padded to 32x32, extraction, and what bf16 would do to the distance."""
    if not FASHION.is_dir():
        print("Fashion-MNIST is not installed: the own features are left out.")
        return []

    def images(part: str) -> torch.Tensor:
        raw = np.frombuffer(gzip.decompress((FASHION / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
        return torch.from_numpy(np.pad(raw.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2))))

    def labels(part: str) -> torch.Tensor:
        raw = np.frombuffer(gzip.decompress((FASHION / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        return torch.from_numpy(raw.astype(np.int64))

    n = 600 if quick else 60_000
    x, y, test, truth = images("train")[:n], labels("train")[:n], images("t10k"), labels("t10k")
    size = working_size(32, 32)
    x, test = resized(x, size), resized(test, size)
    found = []
    for name, train in (
        ("labels", lambda: train_classifier(x, y, 10)), ("no labels", lambda: train_contrastive(x)),
    ):
        spent, encoder = seconds(train)
        extractor = OwnFeatures(encoder, 1, size, 10 if name == "labels" else 0)  # type: ignore[arg-type]
        passing, rows = seconds(lambda extractor=extractor: extract(extractor, x))
        unseen = extract(extractor, test)
        row = {"what": f"own features, {name}", "n": n, "train_s": spent, "images_per_second": n / passing}
        row["fid_of_unseen_real"] = frechet_distance(unseen, rows)  # type: ignore[arg-type]
        noisy = (test + 10 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
        noisy = noisy.to(torch.uint8)
        row["fid_of_noise_10"] = frechet_distance(extract(extractor, noisy), rows)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16):
            half, (half_passing, half_rows) = extract(extractor, noisy), seconds(lambda e=extractor: extract(e, x))
        row["bf16_images_per_second"] = n / half_passing
        row["bf16_fid_moves_by"] = abs(frechet_distance(half, half_rows) / row["fid_of_noise_10"] - 1)  # type: ignore[arg-type]
        if name == "labels":
            row["accuracy"] = (extractor.probabilities(test).argmax(1) == truth).double().mean().item()
        print({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    configure_runtime()
    found = {
        "quick": options.quick, "machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "scipy": scipy.__version__, "numpy": np.__version__,
        "distances": distances(options.quick, options.rounds), "own": own(options.quick),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    path = RESULTS.with_stem("metrics-quick") if options.quick else RESULTS
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"Written to {path}")


if __name__ == "__main__":
    main()

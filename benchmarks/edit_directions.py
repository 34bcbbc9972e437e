"""What the directions of a generator do: class changes of a slider, and what they keep.

    python benchmarks/edit_directions.py RUN [--data LABELED] [--queries 200] [--out benchmarks/results/edit_directions.md]

For a generator with classes. Each of `queries` samples is moved to a class other than its own, at several amounts, with and
without the latent following (`apps.editing.class_change`):

    flips   share that a classifier trained on real pictures takes for the new class
    latent  share whose own latent is the most probable one among 1,000, given the picture and its class. A ridge regression for
            each class reads the latent out of the picture: random rectified features of the principal components of its pixels,
            trained on other samples; the residuals' covariance says how sure it is of which numbers. It is the identity that the
            generator knows: whether the picture still is a function of its latent and nothing was lost.
    look    share whose attributes (`apps.editing.attributes`), in standard deviations from the mean of their class, are nearest to
            those of the sample it was made from, among 1,000 of all classes. It is the identity that an eye can see.

Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import limner
from limner.apps.editing.attributes import measure
from limner.apps.editing.class_change import change_class, class_look
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.effect import predict
from limner.apps.editing.predictor import independent

GALLERY = 1000
TRAINING = 20_000   # samples of each class for the regression
COMPONENTS, FEATURES, RIDGE = 200, 2000, 0.03
AMOUNTS = (0.5, 0.75, 1.0, 1.1)


class Reader:
    """Reads the latent out of pictures of one class."""

    def __init__(self, model: Any, label: int, random: np.random.Generator) -> None:
        codes = drawn(model, TRAINING, 100 + label, label)
        x = self._pixels(pictures(model, codes))
        self.mean = x.mean(0)
        values, vectors = np.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))
        keep = slice(None, -min(COMPONENTS, x.shape[1]) - 1, -1)
        self.basis = (vectors[:, keep] / np.sqrt(np.clip(values[keep], 0, None) + 1e-3 * values.max())).astype(np.float32)
        k = self.basis.shape[1]
        self.weights = (random.standard_normal((k, FEATURES)) / k**0.5).astype(np.float32)
        self.biases = random.standard_normal(FEATURES).astype(np.float32)
        f = self._features(x)
        self.center, self.z_center = f.mean(0), codes.rows.mean(0)
        f, z = f - self.center, codes.rows - self.z_center
        fit = slice(0, int(0.9 * TRAINING))
        gram = f[fit].T @ f[fit]
        gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
        self.matrix = np.linalg.solve(gram, f[fit].T @ z[fit])
        rest = z[fit.stop :] - f[fit.stop :] @ self.matrix  # of samples that were not fitted
        noise = rest.T @ rest / len(rest)
        self.root = np.linalg.cholesky(np.linalg.inv(noise + 1e-3 * np.trace(noise) / len(noise) * np.eye(len(noise))))

    def _pixels(self, shown: torch.Tensor) -> np.ndarray:
        return shown.flatten(1).numpy().astype(np.float32) / 255

    def _features(self, x: np.ndarray) -> np.ndarray:
        y = (x - self.mean) @ self.basis
        return np.concatenate([y, np.maximum(y @ self.weights + self.biases, 0)], 1)

    def nearest(self, shown: torch.Tensor, gallery: np.ndarray) -> np.ndarray:
        """Return the row of the most probable latent of the gallery [M,D] for each picture."""
        found = ((self._features(self._pixels(shown)) - self.center) @ self.matrix) @ self.root
        known = (gallery - self.z_center) @ self.root
        distances = np.square(found).sum(1)[:, None] - 2 * found @ known.T + np.square(known).sum(1)
        return np.asarray(distances.argmin(1))


def class_table(model: Any, predictor: Any, queries: int) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
    """Return rows (follows, amount, flips, latent, look, CPU ms a picture) and the figures of unmoved samples."""
    random = np.random.default_rng(0)
    count = model.spec.classes
    look = class_look(model)
    codes = drawn(model, GALLERY, 2)
    assert codes.c is not None
    shown = pictures(model, codes)
    relative = look.relative(measure(shown).numpy(), codes.weights(count))
    names = [predictor.classes.index(name) for name in model.classes]
    base = float((predict(predictor, shown) == np.asarray(names)[codes.c]).mean())
    plan = [(i, (int(codes.c[i]) + 1 + j) % count) for j, i in ((n % (count - 1), n) for n in range(queries))]
    latents = codes.code.ndim == 2  # the latent of a style-based network is not what is moved
    readers = {k: Reader(model, k, random) for k in range(count)} if latents else {}
    own = [readers[k].nearest(shown[codes.c == k], codes.rows) == np.flatnonzero(codes.c == k) for k in readers]
    rows = []
    for keep in (False, True):
        for by in AMOUNTS:
            flips, read, seen, spent = [], [], [], 0.0
            for k in range(count):
                at = np.array([i for i, target in plan if target == k], int)
                if not len(at):
                    continue
                start = time.process_time()
                end = change_class(model, Codes(codes.code[at], codes.c[at]), k, by, look, keep)
                spent += time.process_time() - start
                made = pictures(model, end)
                flips.append(predict(predictor, made) == names[k])
                if latents:
                    read.append(readers[k].nearest(made, codes.rows) == at)
                a = look.relative(measure(made).numpy(), end.weights(count))
                seen.append(np.square(a[:, None] - relative[None]).sum(2).argmin(1) == at)
            rows.append((keep, by, *(float(np.concatenate(x).mean()) if x else float("nan") for x in (flips, read, seen)), 1000 * spent / queries))
            print(*rows[-1], flush=True)
    return rows, {"own class": base, "own latent": float(np.concatenate(own).mean()) if own else float("nan")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", help="labeled real pictures (default: the embedded sample that the run was trained on)")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = limner.load(given.run, "cpu")
    predictor = independent(model, data=given.data)
    if not model.spec.classes or predictor is None:
        raise SystemExit("Give a run with classes, and --data with the same classes.")
    rows, base = class_table(model, predictor, given.queries)
    lines = [
        f"{given.queries} samples of a generator of {model.description['training']['images']:,} images, {GALLERY:,} in the gallery. Unmoved samples: "
        f"{100 * base['own class']:.1f} % are predicted to be of their own class, {100 * base['own latent']:.1f} % of the latents are found.",
        "", "| latent follows | amount | flips | latent | look | CPU ms a picture |", "|---|---:|---:|---:|---:|---:|",
        *(f"| {'yes' if keep else 'no'} | {by:g} | {100 * f:.1f} % | {100 * z:.1f} % | {100 * a:.1f} % | {ms:.1f} |" for keep, by, f, z, a, ms in rows),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Whether generated pictures help a classifier when real ones are few: the classification accuracy score and its gain.

Ravuri & Vinyals 2019, "Classification accuracy score for conditional generative models", section 3: a classifier trained on
generated pictures is tested on real ones. Here small classifiers are trained on generated pictures, on few real ones, and on
both together, each with SEEDS seeds that also draw the real pictures anew, and all are tested on the same held-out real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limner.evaluation.classes import accuracy
from limner.evaluation.features.encoder import Progress, train_classifier, working_size
from limner.evaluation.features.extractor import resized, with_channels
from limner.evaluation.features.own import OwnFeatures
from limner.evaluation.inputs import ImageSet

SEEDS = 5
T_QUANTILE = 2.776445  # of Student's distribution with SEEDS - 1 degrees of freedom, for a 95 % interval
SHOWN = 32_000         # images seen in each training (fewer if the set is smaller than a batch: the steps are equally many)
REAL_PER_CLASS = (10,)  # numbers of real pictures of each class


@dataclass(frozen=True)
class Few:
    """Accuracies of classifiers with few real pictures, one for each seed."""

    per_class: int           # real pictures of each class
    real: list[float]        # trained on them alone
    both: list[float]        # trained on them and the generated ones

    @property
    def gain(self) -> list[float]:
        """The differences that generated pictures make, with the same real pictures and seed."""
        return [b - a for a, b in zip(self.real, self.both, strict=True)]


@dataclass(frozen=True)
class Scores:
    """Accuracies on held-out real pictures."""

    generated: list[float]               # trained on generated pictures alone, one for each seed
    per_class: dict[int, float]          # their mean for each class
    few: list[Few]                       # in the order of the numbers of real pictures


def mean_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (of n - 1) of the values of all seeds."""
    return float(np.mean(values)), float(np.std(values, ddof=1))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over SEEDS seeds, by Student's distribution."""
    assert len(values) == SEEDS
    mean, deviation = mean_deviation(values)
    half = T_QUANTILE * deviation / math.sqrt(SEEDS)
    return mean - half, mean + half


def accuracy_scores(
    generated: ImageSet, real: ImageSet, test: ImageSet | None = None, per_class: Sequence[int] = REAL_PER_CLASS,
    seed: int = 0, progress: Progress | None = None,
) -> Scores:
    """Train and test (2 len(per_class) + 1) * SEEDS small classifiers.

    test: held-out real pictures; None tests on a random half of the real ones and draws the few from the other half. Pictures
    are resized to the size of the test set's, at most 64 pixels on the longer side. Every training takes equally many steps; one on
    both kinds sees as many real as generated ones, for else the few would hardly count. Raises ValueError for sets without
    labels of two classes, and for classes with fewer real pictures than requested.
    """
    if any(one.labels is None for one in (generated, real, *([test] if test else []))):
        raise ValueError("This metric is computed per class: give labels for all sets, or leave it out.")
    if test is None:
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
        test, real = _rows(real, order[: len(real) // 2]), _rows(real, order[len(real) // 2 :])
    assert generated.labels is not None and real.labels is not None and test.labels is not None
    channels, size = test.spec.channels, working_size(test.spec.height, test.spec.width)
    fake, pool, held_out = (_at(one, channels, size) for one in (generated, real, test))
    known = real.labels.unique()
    if len(known) < 2 or len(generated.labels.unique()) < 2:
        raise ValueError("A classifier needs labels of two classes or more: leave cas out.")
    classes = int(max(generated.labels.max(), real.labels.max(), test.labels.max())) + 1
    fewest = int(min((real.labels == label).sum() for label in known.tolist()))
    if wrong := [k for k in per_class if not 1 <= k <= fewest]:
        raise ValueError(f"There are at least {fewest:,} real pictures of each class to draw from: choose --real-per-class from 1 to {fewest:,}, not {wrong[0]:,}.")
    trainings, done = (2 * len(per_class) + 1) * SEEDS, 0

    def score(images: Tensor, labels: Tensor, one: int) -> tuple[float, dict[int, float]]:
        nonlocal done
        start = done * SHOWN
        report = None if progress is None else lambda shown, of: progress(start + SHOWN * shown // of, trainings * SHOWN)
        encoder = train_classifier(images, labels, classes, one, report, SHOWN)
        done += 1
        return accuracy(OwnFeatures(encoder, channels, size, classes), held_out)

    alone = [score(fake.images, generated.labels, seed + s) for s in range(SEEDS)]
    of_class = {label: float(np.mean([per[label] for _, per in alone])) for label in alone[0][1]}
    found = []
    for k in per_class:
        few = Few(k, [], [])
        for s in range(SEEDS):
            rows = draw(real.labels, k, seed + s)
            images, labels = pool.images[rows], real.labels[rows]
            few.real.append(score(images, labels, seed + s)[0])
            copies = torch.arange(max(len(rows), len(fake))) % len(rows)  # as many rows as there are generated pictures
            both = torch.cat([fake.images, images[copies]]), torch.cat([generated.labels, labels[copies]])
            few.both.append(score(*both, seed + s)[0])
        found.append(few)
    return Scores([value for value, _ in alone], of_class, found)


def draw(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Return the rows of `per_class` random pictures of each class, int64 [n]."""
    random = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=random)
    parts = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique().tolist()]
    return torch.cat(parts).sort().values


def verdict(few: Few) -> str:
    """Return a sentence on whether generated pictures help, by the 95 % interval of the gain."""
    low, high = interval(few.gain)
    gain, _ = mean_deviation(few.gain)
    real, both = (mean_deviation(values) for values in (few.real, few.both))
    verdict = "Generated pictures help" if low > 0 else "Generated pictures hurt" if high < 0 else "It is not certain that generated pictures help or hurt"
    return (
        f"{verdict}: with {few.per_class:,} real pictures of each class, the accuracy is {100 * real[0]:.1f} ± {100 * real[1]:.1f} % without "
        f"them and {100 * both[0]:.1f} ± {100 * both[1]:.1f} % with them (mean and standard deviation of {SEEDS} seeds; difference "
        f"{100 * gain:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f})."
    )


def _at(one: ImageSet, channels: int, size: tuple[int, int]) -> ImageSet:
    images = torch.cat([resized(with_channels(part, channels), size) for part in one.images.split(1024)])
    return ImageSet(images, one.labels, one.classes, one.name)


def _rows(one: ImageSet, rows: Tensor) -> ImageSet:
    assert one.labels is not None
    return ImageSet(one.images[rows], one.labels[rows], one.classes, one.name)

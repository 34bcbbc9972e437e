"""Metrics by name, in `METRICS`: functions of a comparison of two sets of pictures by their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from limner.evaluation import cas, distances, diversity, precision_recall
from limner.evaluation.classes import accuracy, classification_accuracy, frechet_per_class
from limner.evaluation.features import Extractor, OwnFeatures
from limner.evaluation.frechet import frechet_estimate, frechet_infinity
from limner.evaluation.inputs import ImageSet
from limner.evaluation.memorization import Memorization, memorization_test
from limner.evaluation.statistics import Estimate, Statistics, statistics_of

MAX_ROWS = 10_000  # rows of each set that metrics over all pairs use, drawn at random
PUBLISHED = {("fd", "inception"): "fid", ("fd_infinity", "inception"): "fid_infinity", ("mmd", "inception"): "kid"}


def metric_label(name: str, features: str) -> str:
    """Return the reported name of a metric, such as `fd_own`; the published one on the features that define it, `fid`."""
    return PUBLISHED.get((name, features)) or (f"{name}_{features}" if features else name)


@dataclass(frozen=True)
class Metric:
    """The value of a metric. low and high are its 95 % interval where the standard error is known."""

    name: str
    features: str            # name of the feature extractor; values on different features do not compare; "" for none
    value: float
    better: str              # "lower", "higher", or the ideal value
    low: float | None = None
    high: float | None = None
    detail: str = ""         # further information for the report

    @property
    def label(self) -> str:
        return metric_label(self.name, self.features)


@dataclass
class Comparison:
    """The inputs of a metric: generated and reference pictures, and their features x [N,F] and y [M,F] in float64."""

    generated: ImageSet
    reference: ImageSet
    held_out: ImageSet | None
    extractor: Extractor
    x: Tensor
    y: Tensor
    held_out_features: Tensor | None
    seed: int = 0
    classes: dict[str, dict[str, float]] = field(default_factory=dict)  # metric -> class -> value
    memorization: Memorization | None = None
    findings: list[str] = field(default_factory=list)  # what the values mean, one sentence each
    real_per_class: Sequence[int] = cas.REAL_PER_CLASS  # of the classifiers of cas
    progress: Callable[[int, int], None] | None = None

    @cached_property
    def reference_statistics(self) -> Statistics:
        return statistics_of(self.y)

    @cached_property
    def subsets(self) -> tuple[Tensor, Tensor]:
        """At most MAX_ROWS random rows of x and of y."""
        return tuple(rows[self._draw(len(rows))] for rows in (self.x, self.y))  # type: ignore[return-value]

    def labels(self) -> tuple[Tensor, Tensor]:
        if self.generated.labels is None or self.reference.labels is None:
            raise ValueError("This metric is computed per class: give labels for both sets, or leave it out.")
        return self.generated.labels, self.reference.labels

    def class_name(self, label: int) -> str:
        return self.reference.classes[label] if label < len(self.reference.classes) else str(label)

    def metric(self, name: str, value: float | Estimate, better: str, detail: str = "") -> Metric:
        if isinstance(value, Estimate):
            return Metric(name, self.extractor.name, value.value, better, value.low, value.high, detail)
        return Metric(name, self.extractor.name, value, better, detail=detail)

    def _draw(self, n: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(self.seed))[:MAX_ROWS]


def _fd(c: Comparison) -> list[Metric]:
    return [c.metric("fd", frechet_estimate(c.x, c.reference_statistics, seed=c.seed), "lower", "error for this reference")]


def _fd_infinity(c: Comparison) -> list[Metric]:
    value = frechet_infinity(c.x, c.reference_statistics, seed=c.seed)
    return [c.metric("fd_infinity", value, "lower", "for infinitely many samples")]


def _polynomial_mmd(c: Comparison) -> list[Metric]:
    return [c.metric("mmd", distances.polynomial_mmd(c.x, c.y, seed=c.seed), "lower", f"all pairs, up to {MAX_ROWS:,} of each")]


def _gaussian_mmd(c: Comparison) -> list[Metric]:
    return [c.metric("mmd_gaussian", distances.gaussian_mmd(*c.subsets), "lower", "Gaussian kernel, σ 10, times 1000, unit-length features")]


def _sliced(c: Comparison) -> list[Metric]:
    return [c.metric("sliced_wasserstein", distances.sliced_wasserstein(c.x, c.y, seed=c.seed), "lower")]


def _precision_recall(c: Comparison) -> list[Metric]:
    precision, recall = precision_recall.precision_recall(*c.subsets)
    return [c.metric("precision", precision, "higher", "k 3"), c.metric("recall", recall, "higher", "k 3")]


def _density_coverage(c: Comparison) -> list[Metric]:
    density, coverage = precision_recall.density_coverage(*c.subsets)
    return [c.metric("density", density, "near 1", "k 5"), c.metric("coverage", coverage, "higher", "k 5")]


def _diversity(c: Comparison) -> list[Metric]:
    """Both metrics on equally many generated and reference pictures; the reference's value gives the scale."""
    x, y = c.subsets
    n = min(len(x), len(y))  # both metrics grow with n
    x, y = x[:n], y[:n]
    found = []
    for name, function in (("mean_distance", diversity.mean_distance), ("vendi", diversity.vendi)):
        theirs = function(y)
        found.append(c.metric(name, function(x), f"near {theirs:.4g}", f"{len(y):,} reference pictures: {theirs:.4g}"))
    return found


def _modes(c: Comparison) -> list[Metric]:
    if c.generated.labels is None or c.reference.labels is None:
        reached, there, even = diversity.modes(c.x, c.y, seed=c.seed)
    else:
        per = diversity.modes_per_class(c.x, c.generated.labels, c.y, c.reference.labels, seed=c.seed)
        c.classes[metric_label("modes_evenness", c.extractor.name)] = {c.class_name(k): v[2] for k, v in per.items()}
        reached, there = sum(v[0] for v in per.values()), sum(v[1] for v in per.values())
        even = sum(v[2] for v in per.values()) / len(per)
    return [c.metric("modes_reached", reached / there, "higher", f"{reached} of {there} modes, evenness {even:.3f}")]


def _per_class(c: Comparison) -> list[Metric]:
    per = frechet_per_class(c.x, c.labels()[0], c.y, c.labels()[1])
    c.classes[metric_label("fd", c.extractor.name)] = {c.class_name(k): v for k, v in per.items()}
    finite = [v for v in per.values() if v == v]
    if not finite:
        raise ValueError("No class has two pictures in both sets: give more pictures, or leave fd_per_class out.")
    return [c.metric("fd_per_class", sum(finite) / len(finite), "lower", f"mean of {len(finite)} classes")]


def _accuracy(c: Comparison) -> list[Metric]:
    """Both directions; the reverse one reuses the classifier of the own features, which was trained on the reference."""
    c.labels()
    scores = cas.accuracy_scores(c.generated, c.reference, c.held_out, c.real_per_class, c.seed, c.progress)
    c.classes["cas"] = {c.class_name(k): v for k, v in scores.per_class.items()}
    if isinstance(c.extractor, OwnFeatures) and c.extractor.classes:
        back, _ = accuracy(c.extractor, c.generated)
    else:
        back, _ = classification_accuracy(c.reference, c.generated, c.seed)
    tested = "held-out pictures" if c.held_out else "half of the reference"

    def row(name: str, values: list[float], detail: str) -> Metric:
        mean, deviation = cas.mean_deviation(values)
        note = f"{detail}, tested on {tested}; standard deviation {deviation:.3g} over {cas.SEEDS} seeds"
        return Metric(name, "", mean, "above 0" if "gain" in name else "higher", *cas.interval(values), detail=note)

    found = [
        row("cas", scores.generated, f"accuracy: trained on {len(c.generated):,} generated pictures"),
        Metric("cas_reverse", "", back, "higher", detail="accuracy: trained on the reference, on generated"),
    ]
    for few in scores.few:
        k = few.per_class
        found += [
            row(f"cas_real_{k}", few.real, f"accuracy: trained on {k:,} real pictures of each class"),
            row(f"cas_both_{k}", few.both, f"accuracy: trained on {k:,} real pictures of each class and the generated ones"),
            row(f"cas_gain_{k}", few.gain, "difference that the generated pictures make"),
        ]
    c.findings += [cas.verdict(few) for few in scores.few]
    if c.held_out is None:
        c.findings.append("The tests are on half of the reference, which the generator may have been trained on: --held-out gives other pictures.")
    return found


def _memorization(c: Comparison) -> list[Metric]:
    c.memorization = found = memorization_test(c.x, c.y, c.held_out_features, seed=c.seed)
    name = c.extractor.name
    return [
        Metric("copy_score", name, found.closer, "near 0.5", *found.interval, detail=f"against {found.baseline}"),
        Metric("copy_suspects", name, found.suspects, "near 0.05", *found.suspects_interval, detail=found.verdict),
        Metric("copy_z", name, found.z, "above -3", detail="three-sample test by cells"),
    ]


def _inception_score(c: Comparison) -> list[Metric]:
    predict: Any = getattr(c.extractor, "probabilities", None)
    if predict is None:
        raise ValueError(f"The features {c.extractor.name!r} have no class probabilities: use --features inception for the inception score.")
    splits = min(10, len(c.generated))
    probabilities = torch.cat([predict(part) for part in c.generated.images.split(256)])
    # pictures from folders are sorted by class, and a split of a single class would have no diversity
    shuffled = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(c.seed))
    value = distances.inception_score(probabilities[shuffled.to(probabilities.device)], splits, logits=False)
    return [c.metric("inception_score", value, "higher", f"{splits} splits; ignores the reference and copies")]


METRICS: dict[str, Callable[[Comparison], list[Metric]]] = {
    "fd": _fd,
    "fd_infinity": _fd_infinity,
    "mmd": _polynomial_mmd,
    "mmd_gaussian": _gaussian_mmd,
    "sliced_wasserstein": _sliced,
    "precision_recall": _precision_recall,
    "density_coverage": _density_coverage,
    "diversity": _diversity,
    "modes": _modes,
    "memorization": _memorization,
    "fd_per_class": _per_class,
    "cas": _accuracy,
    "inception_score": _inception_score,
}
DEFAULT = ("fd", "fd_infinity", "mmd", "precision_recall", "density_coverage", "diversity", "modes", "memorization")
INDEPENDENT = ("fd_infinity", "mmd", "mmd_gaussian", "memorization")  # their estimators assume independent sets
BY_CLASS = ("fd_per_class",)  # added to DEFAULT when both sets have labels
MIN_PICTURES = {"fd_infinity": 20, "memorization": 20, "precision_recall": 4, "density_coverage": 6}  # per set; default 2

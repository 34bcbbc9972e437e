"""The measures by name, each a function of one comparison: two sets of pictures and their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from limner.evaluation import distances, diversity, precision_recall
from limner.evaluation.classes import accuracy, classification_accuracy, fid_per_class
from limner.evaluation.features import Extractor, OwnFeatures
from limner.evaluation.frechet import fid_estimate, fid_infinity
from limner.evaluation.inputs import Pictures
from limner.evaluation.memorization import Memorization, memorization_test
from limner.evaluation.statistics import Estimate, Statistics, statistics_of

MOST = 10_000  # rows of each set that the measures over all pairs look at, drawn by the seed


@dataclass(frozen=True)
class Metric:
    """One number and what it says. low and high bound it at 95 % where its error is known."""

    name: str
    features: str            # which features it comes from: numbers of different ones do not compare
    value: float
    better: str              # lower, higher, or what a fair value is
    low: float | None = None
    high: float | None = None
    detail: str = ""         # what else belongs to it, for people

    @property
    def label(self) -> str:
        return f"{self.name}({self.features})"


@dataclass
class Comparison:
    """What every measure may look at. x and y are the features [N,F], [M,F] in float64 of generated and reference."""

    generated: Pictures
    reference: Pictures
    held_out: Pictures | None
    extractor: Extractor
    x: Tensor
    y: Tensor
    held: Tensor | None
    seed: int = 0
    classes: dict[str, dict[str, float]] = field(default_factory=dict)  # measure -> class -> value
    copies: Memorization | None = None

    @cached_property
    def reference_moments(self) -> Statistics:
        return statistics_of(self.y)

    @cached_property
    def few(self) -> tuple[Tensor, Tensor]:
        """At most MOST rows of either."""
        return tuple(rows[self._draw(len(rows))] for rows in (self.x, self.y))  # type: ignore[return-value]

    def labels(self) -> tuple[Tensor, Tensor]:
        if self.generated.labels is None or self.reference.labels is None:
            raise ValueError("This measure goes class by class: give labels for both sets, or leave it out.")
        return self.generated.labels, self.reference.labels

    def class_name(self, label: int) -> str:
        return self.reference.classes[label] if label < len(self.reference.classes) else str(label)

    def measure(self, name: str, value: float | Estimate, better: str, detail: str = "") -> Metric:
        if isinstance(value, Estimate):
            return Metric(name, self.extractor.name, value.value, better, value.low, value.high, detail)
        return Metric(name, self.extractor.name, value, better, detail=detail)

    def _draw(self, n: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(self.seed))[:MOST]


def _fid(c: Comparison) -> list[Metric]:
    return [c.measure("fid", fid_estimate(c.x, c.reference_moments, seed=c.seed), "lower", "error for this reference")]


def _fid_infinity(c: Comparison) -> list[Metric]:
    value = fid_infinity(c.x, c.reference_moments, seed=c.seed)
    return [c.measure("fid_infinity", value, "lower", "for infinitely many samples")]


def _kid(c: Comparison) -> list[Metric]:
    return [c.measure("kid", distances.kid(c.x, c.y, seed=c.seed), "lower", f"all pairs, up to {MOST:,} of each")]


def _mmd(c: Comparison) -> list[Metric]:
    return [c.measure("mmd", distances.mmd(*c.few), "lower", "Gaussian kernel, σ 10, times 1000, unit-length features")]


def _sliced(c: Comparison) -> list[Metric]:
    return [c.measure("sliced_wasserstein", distances.sliced_wasserstein(c.x, c.y, seed=c.seed), "lower")]


def _precision_recall(c: Comparison) -> list[Metric]:
    precision, recall = precision_recall.precision_recall(*c.few)
    return [c.measure("precision", precision, "higher", "k 3"), c.measure("recall", recall, "higher", "k 3")]


def _density_coverage(c: Comparison) -> list[Metric]:
    density, coverage = precision_recall.density_coverage(*c.few)
    return [c.measure("density", density, "near 1", "k 5"), c.measure("coverage", coverage, "higher", "k 5")]


def _diversity(c: Comparison) -> list[Metric]:
    """Each of as many generated as reference pictures, beside the value of the latter: alone it has no scale."""
    x, y = c.few
    n = min(len(x), len(y))  # both grow with how many there are
    x, y = x[:n], y[:n]
    found = []
    for name, function in (("mean_distance", diversity.mean_distance), ("vendi", diversity.vendi)):
        theirs = function(y)
        found.append(c.measure(name, function(x), f"near {theirs:.4g}", f"{len(y):,} reference pictures: {theirs:.4g}"))
    return found


def _modes(c: Comparison) -> list[Metric]:
    if c.generated.labels is None or c.reference.labels is None:
        reached, there, even = diversity.modes(c.x, c.y, seed=c.seed)
    else:
        per = diversity.modes_per_class(c.x, c.generated.labels, c.y, c.reference.labels, seed=c.seed)
        c.classes[f"modes_evenness({c.extractor.name})"] = {c.class_name(k): v[2] for k, v in per.items()}
        reached, there = sum(v[0] for v in per.values()), sum(v[1] for v in per.values())
        even = sum(v[2] for v in per.values()) / len(per)
    return [c.measure("modes_reached", reached / there, "higher", f"{reached} of {there} modes, evenness {even:.3f}")]


def _per_class(c: Comparison) -> list[Metric]:
    per = fid_per_class(c.x, c.labels()[0], c.y, c.labels()[1])
    c.classes[f"fid({c.extractor.name})"] = {c.class_name(k): v for k, v in per.items()}
    finite = [v for v in per.values() if v == v]
    if not finite:
        raise ValueError("No class has two pictures in both sets: give more pictures, or leave fid_per_class out.")
    return [c.measure("fid_per_class", sum(finite) / len(finite), "lower", f"mean of {len(finite)} classes")]


def _accuracy(c: Comparison) -> list[Metric]:
    """Both ways; the reverse uses the own classifier where there is one, for it was trained on the reference."""
    c.labels()
    score, per = classification_accuracy(c.generated, c.held_out or c.reference, c.seed)
    c.classes["cas"] = {c.class_name(k): v for k, v in per.items()}
    if isinstance(c.extractor, OwnFeatures) and c.extractor.classes:
        back, _ = accuracy(c.extractor, c.generated)
    else:
        back, _ = classification_accuracy(c.reference, c.generated, c.seed)
    real = "held-out pictures" if c.held_out else "the reference"
    return [
        Metric("cas", "classifier", score, "higher", detail=f"accuracy: trained on generated, tested on {real}"),
        Metric("cas_reverse", "classifier", back, "higher", detail="accuracy: trained on the reference, on generated"),
    ]


def _copies(c: Comparison) -> list[Metric]:
    c.copies = found = memorization_test(c.x, c.y, c.held, seed=c.seed)
    name = c.extractor.name
    return [
        Metric("copy_score", name, found.closer, "near 0.5", *found.interval, detail=f"against {found.baseline}"),
        Metric("copy_suspects", name, found.suspects, "near 0.05", *found.suspects_interval, detail=found.verdict),
        Metric("copy_z", name, found.z, "above -3", detail="three-sample test by cells"),
    ]


def _inception_score(c: Comparison) -> list[Metric]:
    predict: Any = getattr(c.extractor, "probabilities", None)
    if predict is None:
        raise ValueError(f"The features {c.extractor.name!r} tell no classes: take the inception score from inception.")
    splits = min(10, len(c.generated))
    probabilities = torch.cat([predict(part) for part in c.generated.images.split(256)])
    # a folder of classes comes class by class, and a part of one class would tell nothing from nothing
    anyhow = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(c.seed))
    value = distances.inception_score(probabilities[anyhow.to(probabilities.device)], splits, logits=False)
    return [c.measure("inception_score", value, "higher", f"{splits} splits; sees neither copies nor the reference")]


METRICS: dict[str, Callable[[Comparison], list[Metric]]] = {
    "fid": _fid,
    "fid_infinity": _fid_infinity,
    "kid": _kid,
    "mmd": _mmd,
    "sliced_wasserstein": _sliced,
    "precision_recall": _precision_recall,
    "density_coverage": _density_coverage,
    "diversity": _diversity,
    "modes": _modes,
    "copies": _copies,
    "fid_per_class": _per_class,
    "cas": _accuracy,
    "inception_score": _inception_score,
}
USUAL = ("fid", "fid_infinity", "kid", "precision_recall", "density_coverage", "diversity", "modes", "copies")
INDEPENDENT = ("fid_infinity", "kid", "mmd", "copies")  # their estimates assume that neither set was made from the other
BY_CLASS = ("fid_per_class",)  # added to the usual ones where both sets have labels
LEAST = {"fid_infinity": 20, "copies": 20, "precision_recall": 4, "density_coverage": 6}  # pictures of each set

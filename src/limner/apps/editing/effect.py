"""What a direction changes in a generator's pictures, measured on samples.

    attributes   change of each attribute (`apps.editing.attributes`), in standard deviations of the samples of a class
    to_class     share of pictures that an independent classifier takes for the class of a direction, after the move
    changed      share whose predicted class is another one
    identity     share of moved pictures whose nearest neighbor among 1,000 unmoved ones is the picture they were made from

The neighbors are searched in features of the classifier, or in those of random convolutions without one. For a class they are
the attributes relative to the class (`class_change`), since features of a classifier are made to differ between classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from limner.apps.editing.attributes import attributes_of, measure
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.evaluation.features import Convolutions

GALLERY = 1000   # pictures among which identity is retrieved
QUERIES = 100    # of them moved, in both directions
STEP = 2.0       # standard deviations of a direction at which its effect is measured


class ClassPredictor(Protocol):
    """A classifier of pictures that is not part of the generator. classes: the names. origin: what it was trained on."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def origin(self) -> str: ...

    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> [N,K]"""

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> features [N,F]"""


@dataclass(frozen=True)
class Effect:
    """The effect of a direction, moved by `by`: for an axis the half difference of both ends, for a class that of the move."""

    by: float
    attributes: dict[str, float]  # standard deviations
    agreement: dict[str, float]   # share of pictures in which the attribute changes in the direction of its mean change
    changed: float | None         # None without a classifier
    identity: float
    to_class: float | None = None

    @property
    def main(self) -> str:
        """The attribute that changes most."""
        return max(self.attributes, key=lambda name: abs(self.attributes[name]))

    @property
    def leak(self) -> str:
        """The attribute that changes most beside the main one."""
        return max((name for name in self.attributes if name != self.main), key=lambda name: abs(self.attributes[name]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Samples:
    """Samples of a generator that effects are measured on."""

    codes: Codes                # of GALLERY pictures
    attributes: np.ndarray      # float64 [N,A]
    features: np.ndarray        # whitened float64 [N,F], of unit length
    predicted: np.ndarray | None  # int64 [N]
    whiten: Whitening
    predictor: ClassPredictor | None
    names: tuple[str, ...] = field(default=())

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation of each attribute within a class [A]."""
        return np.maximum(within(self.attributes, self.codes.c).std(0), 1e-6)


def within(rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return rows [N,D] minus the mean of their class [N], float64; of all without classes."""
    rows = rows.astype(np.float64)
    groups = np.zeros(len(rows), int) if labels is None else labels
    made = rows.copy()
    for k in np.unique(groups):
        made[groups == k] -= rows[groups == k].mean(0)
    return made


@dataclass(frozen=True)
class Whitening:
    """Features centered, and scaled along their principal components; small components are not enlarged to the full."""

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Whitening:
        mean = rows.mean(0)
        values, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
        values = np.clip(values, 0, None)
        return cls(mean, vectors / np.sqrt(values + 0.01 * values.max() + 1e-12))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        made = (rows - self.mean) @ self.matrix
        return np.asarray(made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12))


def gather(model: Any, predictor: ClassPredictor | None, seed: int = 0, count: int = GALLERY) -> Samples:
    """Draw the samples on which the effects of directions are measured."""
    codes = drawn(model, count, seed + 2)
    shown = pictures(model, codes)
    rows = _features(model, predictor, shown)
    whiten = Whitening.of(rows)
    predicted = None if predictor is None else predict(predictor, shown)
    names = tuple(a.name for a in attributes_of(model.spec.channels))
    return Samples(codes, measure(shown).numpy(), whiten(rows), predicted, whiten, predictor, names)


def predict(predictor: ClassPredictor, shown: Tensor) -> np.ndarray:
    """Return the predicted classes int64 [N] of pictures uint8 [N,C,H,W]."""
    return np.concatenate([predictor.probabilities(part).argmax(1).numpy() for part in shown.split(256)])


def _features(model: Any, predictor: ClassPredictor | None, shown: Tensor) -> np.ndarray:
    extractor: Any = Convolutions(model.spec.channels, model.spec.size) if predictor is None else predictor
    return np.concatenate([np.asarray(extractor(part).double()) for part in shown.split(256)])


def effect(model: Any, samples: Samples, ends: tuple[Codes, Codes | None], by: float, rows: np.ndarray,
           target: int | None = None, relative: Any = None) -> Effect:  # fmt: skip
    """Measure a move of the samples `rows` [Q]: ends are their codes after +by and after -by, or None where there is no back.

    target: the class of the predictor that the move leads to. relative: (attributes [N,A], codes) -> [N,A], in which identity
    is then retrieved.
    """
    before = samples.attributes[rows]
    shown = [pictures(model, end) for end in ends if end is not None]
    measured = [measure(p).numpy() for p in shown]
    change = measured[0] - before if len(shown) == 1 else (measured[0] - measured[1]) / 2  # [Q,A]
    mean = change.mean(0)
    agreement = (np.sign(change) == np.sign(mean)).mean(0)
    kept = []
    for end, a, p in zip((e for e in ends if e is not None), measured, shown, strict=True):
        if relative is None:
            near = samples.whiten(_features(model, samples.predictor, p)) @ samples.features.T
        else:
            near = -np.square(relative(a, end)[:, None] - relative(samples.attributes, samples.codes)[None]).sum(2)
        kept.append((near.argmax(1) == rows).mean())
    changed = to_class = None
    if samples.predictor is not None and samples.predicted is not None:
        found = [predict(samples.predictor, p) for p in shown]
        changed = float(np.mean([(f != samples.predicted[rows]).mean() for f in found]))
        to_class = None if target is None else float((found[0] == target).mean())
    scaled = mean / samples.deviation
    return Effect(
        by, dict(zip(samples.names, scaled.tolist(), strict=True)), dict(zip(samples.names, agreement.tolist(), strict=True)),
        changed, float(np.mean(kept)), to_class,
    )  # fmt: skip



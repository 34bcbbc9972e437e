"""`evaluate` compares two sets of pictures by many metrics; `FrechetProbe` computes one distance repeatedly."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import limner
from limner.core.device import select_device
from limner.core.text import printable_json
from limner.data.dataset import equal_rows
from limner.evaluation.cas import REAL_PER_CLASS
from limner.evaluation.features import Extractor, choose, extract, extract_cached
from limner.evaluation.features.encoder import Progress
from limner.evaluation.frechet import frechet_distance
from limner.evaluation.inputs import Given, ImageSet, load_image_set
from limner.evaluation.memorization import Memorization
from limner.evaluation.metrics import (
    BY_CLASS,
    DEFAULT,
    INDEPENDENT,
    MAX_ROWS,
    METRICS,
    MIN_PICTURES,
    Comparison,
    Metric,
    metric_label,
)
from limner.evaluation.paired import PAIRED, PairedResult, measure_pairs, summary
from limner.evaluation.statistics import statistics_of


@dataclass
class Result:
    """The result of `evaluate`. Print it with report.table, write it with report.write_json or report.write_html."""

    metrics: list[Metric]
    classes: dict[str, dict[str, float]]           # metric -> class -> value
    protocol: dict[str, Any]                       # everything that the values depend on
    warnings: list[str]                            # one sentence each, about values of limited meaning
    generated: ImageSet | None = None              # the two sets; None where only pair metrics were requested
    reference: ImageSet | None = None
    memorization: Memorization | None = None
    paired: PairedResult | None = None             # of the pair metrics
    title: str = ""                                # names and sizes of the two sets
    curve: Sequence[Mapping[str, float]] = field(default_factory=list)  # points {"images": …, metric: …} of a training
    findings: list[str] = field(default_factory=list)                   # what the values mean, one sentence each
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)    # name -> uint8 [C,H,W], of the report and beside it

    def __getitem__(self, label: str) -> float:
        """The value of a metric by its label, such as `fd_own`, or by its name, `fd`, where only one has that name.

        Raises KeyError for an unknown or ambiguous name.
        """
        values = [m.value for m in self.metrics if label in (m.label, m.name)]
        if len(values) != 1:
            raise KeyError(f"{label!r} does not name one of the metrics {', '.join(m.label for m in self.metrics)}")
        return values[0]

    def as_json(self) -> dict[str, Any]:
        """Return metrics, classes, warnings and protocol, with null for values that are not finite."""
        rows = [
            {
                "name": m.label, "value": _finite(m.value), "low": _finite(m.low), "high": _finite(m.high),
                "better": m.better, "detail": m.detail,
            }
            for m in self.metrics
        ]
        classes = {name: {key: _finite(v) for key, v in per.items()} for name, per in self.classes.items()}
        found = {"findings": self.findings} if self.findings else {}
        return {"metrics": rows, "classes": classes, **found, "warnings": self.warnings, "protocol": self.protocol}

    def to_json(self) -> str:
        return printable_json(self.as_json())


def validate_metrics(metrics: Sequence[str] | None) -> list[str]:
    """Return the names of metrics, with _ for -. Raises ValueError for one that does not exist."""
    names = [name.replace("-", "_") for name in metrics or ()]
    for name in names:
        if name not in METRICS and name not in PAIRED:
            if general := {"fid": "fd", "kid": "mmd"}.get(name):
                raise ValueError(f"{name.upper()} is defined on Inception features: give --metrics {general} --features inception.")
            raise ValueError(f"There is no metric {name!r}: choose from {', '.join((*METRICS, *PAIRED))}.")
    return names


def evaluate(
    images: Given,
    reference: Given,
    *,
    labels: Any = None,                            # classes of the generated pictures [N]
    reference_labels: Any = None,                  # classes of the reference [M], where it has none
    held_out: Given | None = None,                 # real pictures outside the training set: they calibrate the memorization test
    metrics: Sequence[str] | None = None,          # names in METRICS and PAIRED; None: the default ones
    paired: bool = False,                          # the reference holds the target of each picture: adds the pair metrics
    translated: bool = False,                      # outputs of a translator: no memorization test by default
    features: str | Extractor | Sequence[str | Extractor] = "own",
    n: int | None = None,                          # maximum number of generated pictures, drawn at random
    size: tuple[int, int] | None = None,           # (H,W) to resize folders and zips to; None: their own
    weights: Path | None = None,                   # Inception's file, DINOv2's or CLIP's folder, or a folder of all
    device: str = "auto",
    seed: int = 0,
    cache: bool = True,                            # cache the encoder and the reference's features
    curve: Sequence[Mapping[str, float]] = (),     # validation metric over a training, for the report
    progress: Progress | None = None,
    real_per_class: Sequence[int] = REAL_PER_CLASS,  # numbers of real pictures of each class, for cas
) -> Result:
    """Compare generated pictures with a reference set. Returns the values of all metrics with their protocol.

    Each set may be a Dataset, a path, uint8 [N,C,H,W] or an iterable of such batches. Every picture is resized at most
    once, from its own size to the extractor's. Raises ValueError for sets that cannot be compared.
    """
    wanted = validate_metrics(metrics)
    if paired and (wrong := [name for name in wanted if name in INDEPENDENT]):
        raise ValueError(
            f"{wrong[0]} has no meaning here: it assumes independent sets, and the reference holds the target of each "
            f"picture; choose {', '.join(PAIRED)} or fd."
        )
    pair_metrics = [name for name in wanted if name in PAIRED] if metrics else list(PAIRED) if paired else []
    result = Result([], {}, {}, [], curve=curve)
    chosen = [features] if isinstance(features, str) or callable(features) else list(features)
    used: list[Extractor] = []

    def extractors(real: ImageSet) -> list[Extractor]:
        for one in chosen[len(used) :]:
            used.append(choose(one, real, weights, str(select_device(device)), cache, progress))
        return used

    set_metrics = [name for name in wanted if name in METRICS]
    if set_metrics or not pair_metrics or not metrics:
        generated = load_image_set(images, labels, size).some(n, seed)
        real = load_image_set(reference, reference_labels, size, else_size=generated.spec.size)
        unseen = None if held_out is None else load_image_set(held_out, size=size, else_size=real.spec.size)
        generated = _with_labels_of(generated, real)
        unseen = None if unseen is None else _with_labels_of(unseen, real)
        for one, what in ((generated, "generated"), (real, "reference")):
            if len(one) < 2:
                raise ValueError(f"One {what} picture is too few: give at least 2, preferably thousands.")
        without = INDEPENDENT if paired else ("memorization",) if translated else ()
        set_metrics = set_metrics or [name for name in _default_metrics(generated, real) if name not in without]
        result.generated, result.reference, result.warnings = generated, real, _warnings_of_sets(generated, real)
        result.title = f"{generated.name} ({len(generated):,}) against {real.name} ({len(real):,})"
        for extractor in extractors(real):
            comparison = _comparison(generated, real, unseen, extractor, seed, cache)
            comparison.real_per_class, comparison.progress = real_per_class, progress
            result.warnings += _warnings_of_features(comparison, set_metrics, paired)
            for name in set_metrics:
                result.metrics += METRICS[name](comparison)
            result.warnings += [
                f"{m.label} is negative, as an unbiased estimate of a distance near zero may be: read it as zero."
                for m in result.metrics
                if m.name in ("fd_infinity", "mmd") and m.features == extractor.name and m.value < 0
            ]
            result.classes |= comparison.classes
            result.findings += [text for text in comparison.findings if text not in result.findings]
            result.memorization = result.memorization or comparison.memorization
        result.protocol = {
            "generated": _described(generated), "reference": _described(real),
            "held_out": None if unseen is None else _described(unseen),
        }
    if pair_metrics:
        if "perceptual" in pair_metrics:  # the encoder is trained on the targets, at one size
            extractors(result.reference or load_image_set(reference, size=size, else_size=(64, 64)))
        found = measure_pairs(images, reference, pair_metrics, used, size, n, seed)
        values, notes = summary(found)
        if not metrics:  # default metrics that cannot be computed need no warning
            notes = [text for text in notes if "is left out" not in text]
        result.paired, result.warnings = found, result.warnings + notes
        result.metrics = values + result.metrics
        result.title = result.title or f"{found.title[0]} against {found.title[1]}"
        result.title += f", {len(found):,} pairs"
        if not result.metrics:
            raise ValueError(notes[0])
        result.protocol["pairs"] = found.protocol()
    result.protocol |= {
        "features": [
            {"name": e.name, "identity": e.identity, "width": e.width, "resize": e.resize} for e in used
        ],
        "metrics": [*pair_metrics, *set_metrics], "seed": seed, "max_rows": MAX_ROWS, "accumulation": "float64",
        "limner": limner.__version__, "torch": torch.__version__, "machine": platform.machine(),
    }  # fmt: skip
    return result


class FrechetProbe:
    """Fréchet distance to a fixed reference set, for repeated use during training.

    Everything that depends on the reference (encoder, features, statistics) is computed once, or read from the cache.
    """

    def __init__(
        self, reference: Given, labels: Any = None, features: str | Extractor = "own", cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        real = load_image_set(reference, labels)
        self.extractor = choose(features, real, cache=cache, progress=progress)
        rows = extract_cached(self.extractor, real.images, real.fingerprint) if cache else None
        self.statistics = statistics_of(extract(self.extractor, real.images) if rows is None else rows)
        self.name = metric_label("fd", self.extractor.name)

    def __call__(self, images: Tensor | Iterable[Tensor]) -> dict[str, float]:
        """Return {"fd_own": value} of uint8 [N,C,H,W] or batches of it. The bias depends on N: compare only at equal N."""
        return {self.name: frechet_distance(extract(self.extractor, images), self.statistics)}


def _comparison(
    generated: ImageSet, real: ImageSet, unseen: ImageSet | None, extractor: Extractor, seed: int, cache: bool
) -> Comparison:
    def rows(one: ImageSet) -> Tensor:
        features = extract_cached(extractor, one.images, one.fingerprint) if cache else extract(extractor, one.images)
        return features.double()

    x, y = extract(extractor, generated.images).double(), rows(real)
    return Comparison(generated, real, unseen, extractor, x, y, None if unseen is None else rows(unseen), seed)


def _default_metrics(generated: ImageSet, real: ImageSet) -> Sequence[str]:
    """Return the default metrics, without those that need more pictures."""
    smaller = min(len(generated), len(real))
    labeled = BY_CLASS if generated.labels is not None and real.labels is not None else ()
    return [name for name in (*DEFAULT, *labeled) if smaller >= MIN_PICTURES.get(name, 2)]


def _with_labels_of(generated: ImageSet, real: ImageSet) -> ImageSet:
    """Return generated or held-out pictures with labels renumbered as in the reference, by class name."""
    if generated.labels is None or not real.classes or generated.classes == real.classes:
        return generated
    if all(name in real.classes for name in generated.classes):
        to = torch.tensor([real.classes.index(name) for name in generated.classes])
        return replace(generated, labels=to[generated.labels], classes=real.classes)
    if all(name.isdigit() for name in generated.classes) and int(generated.labels.max()) < len(real.classes):
        return replace(generated, classes=real.classes)  # numbers
    missing = next(name for name in generated.classes if name not in real.classes)
    note = f"The class {missing!r} of {generated.name} is not one of the reference's, so labels are ignored."
    return replace(generated, labels=None, classes=(), notes=[*generated.notes, note])


def _warnings_of_sets(generated: ImageSet, real: ImageSet) -> list[str]:
    a, b, found = generated.spec, real.spec, [*generated.notes, *real.notes]
    if a.size != b.size:
        found.append(
            f"Generated pictures are {a.height}x{a.width} and the reference {b.height}x{b.width}: each is resized once, "
            "and a difference in sharpness may dominate the values."
        )
    if a.channels != b.channels:
        kinds = {1: "gray", 3: "RGB", 4: "RGBA"}
        found.append(
            f"Generated pictures are {kinds[a.channels]} and the reference {kinds[b.channels]}: they are converted to "
            "one mode, and color or transparency in one set counts as a difference or is lost."
        )
    if extra := sum(len(rows) - 1 for rows in equal_rows(generated.images.permute(0, 2, 3, 1).numpy())):
        found.append(f"{extra:,} of {len(generated):,} generated pictures are exact duplicates of others.")
    return found


def _warnings_of_features(c: Comparison, requested: Sequence[str], paired: bool) -> list[str]:
    label, found, width, fewest = metric_label("fd", c.extractor.name), [], c.extractor.width, min(len(c.x), len(c.y))
    if paired and "fd" in requested:
        found.append(
            f"{label} of pictures against their own targets is lower than against other real pictures: compare it only with "
            "values from the same pairs."
        )
    elif fewest <= width and {"fd", "fd_infinity", "fd_per_class"} & set(requested):
        found.append(
            f"{label} from {fewest:,} pictures and {width:,} features has a singular covariance: it is far too high, and "
            "compares only with values from equally many pictures; prefer mmd."
        )
    elif fewest < 20 * width and "fd" in requested:
        found.append(
            f"{label} from {fewest:,} pictures is biased upwards: compare it only with values from equally many pictures, "
            "or use fd_infinity and mmd."
        )
    if fewest < 1000 and "precision_recall" in requested:
        found.append(f"Precision, recall, density and coverage from {fewest:,} pictures are imprecise and depend on the number of pictures.")
    return found


def _described(one: ImageSet) -> dict[str, Any]:
    return {"name": one.name, "n": len(one), "pictures": str(one.spec), "fingerprint": one.fingerprint}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

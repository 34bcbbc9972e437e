"""The one call: two sets of pictures in, every number with its protocol and its warnings out; and the light probe."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import limner
from limner.core.device import select_device
from limner.core.text import printable_json
from limner.data.dataset import equal_rows
from limner.evaluation.features import Extractor, Progress, choose, extract, extract_cached
from limner.evaluation.frechet import fid
from limner.evaluation.inputs import Given, Pictures, pictures
from limner.evaluation.memorization import Memorization
from limner.evaluation.metrics import BY_CLASS, INDEPENDENT, LEAST, METRICS, MOST, USUAL, Comparison, Metric
from limner.evaluation.paired import PAIRED, PairedResult, measure_partners, summary
from limner.evaluation.statistics import statistics_of


@dataclass
class Result:
    """What was measured. Print it with report.table, keep it with report.write_json, show it with report.write_html."""

    measures: list[Metric]
    classes: dict[str, dict[str, float]]           # measure -> class -> value
    protocol: dict[str, Any]                       # everything that decided the numbers
    warnings: list[str]                            # where a number means little, a sentence each
    generated: Pictures | None = None              # the two sets; None where only pairs were asked for
    reference: Pictures | None = None
    copies: Memorization | None = None
    paired_pictures: PairedResult | None = None               # pictures beside their truths, where that was asked for
    title: str = ""                                # what was compared with what, and how many
    curve: Sequence[Mapping[str, float]] = field(default_factory=list)  # points {"images": …, measure: …} of a training

    def __getitem__(self, label: str) -> float:
        """The value of `fid(own)`, or of `fid` where only one set of features was used."""
        found = [m.value for m in self.measures if label in (m.label, m.name)]
        if len(found) != 1:
            known = ", ".join(m.label for m in self.measures)
            raise KeyError(f"{label!r} is not one of the numbers here: {known}")
        return found[0]

    def as_json(self) -> dict[str, Any]:
        """Numbers, classes, warnings and protocol, with null for what is not finite."""
        rows = [
            {
                "name": m.label, "value": _finite(m.value), "low": _finite(m.low), "high": _finite(m.high),
                "better": m.better, "detail": m.detail,
            }
            for m in self.measures
        ]
        classes = {name: {key: _finite(v) for key, v in per.items()} for name, per in self.classes.items()}
        return {"metrics": rows, "classes": classes, "warnings": self.warnings, "protocol": self.protocol}

    def to_json(self) -> str:
        return printable_json(self.as_json())


def known(metrics: Sequence[str] | None) -> list[str]:
    """The names of metrics as they are spelled here. Raises ValueError for one that does not exist."""
    names = [name.replace("-", "_") for name in metrics or ()]
    for name in names:
        if name not in METRICS and name not in PAIRED:
            raise ValueError(f"There is no metric {name!r}: choose from {', '.join((*METRICS, *PAIRED))}.")
    return names


def evaluate(
    images: Given,
    reference: Given,
    *,
    labels: Any = None,                            # classes of the generated pictures [N], where they were asked for
    reference_labels: Any = None,                  # of the reference [M], where it brings none
    held_out: Given | None = None,                 # real pictures that were not trained on: they calibrate the copy check
    metrics: Sequence[str] | None = None,          # of measures.MEASURES and partners.PAIRED; None: the usual ones
    paired: bool = False,                          # the reference holds the truth of each picture: its measures are usual
    translated: bool = False,                      # made from pictures, so near real ones by success: copies is not usual
    features: str | Extractor | Sequence[str | Extractor] = "own",
    n: int | None = None,                          # at most so many generated pictures, drawn by the seed
    size: tuple[int, int] | None = None,           # (H,W) to bring folders and zips to; None: their own
    weights: Path | None = None,                   # Inception's file, DINOv2's or CLIP's folder, or a folder of all
    device: str = "auto",
    seed: int = 0,
    cache: bool = True,                            # keep the encoder and the reference's features by content
    curve: Sequence[Mapping[str, float]] = (),     # of a training, for the report
    progress: Progress | None = None,
) -> Result:
    """Compare generated pictures with a reference set.

    Each set may be a Dataset, a path, uint8 [N,C,H,W] or an iterable of such batches. Every picture is resized at most
    once, from its own size to the extractor's. Raises ValueError in one sentence for sets that cannot be compared.
    """
    wanted = known(metrics)
    if paired and (wrong := [name for name in wanted if name in INDEPENDENT]):
        raise ValueError(
            f"{wrong[0]} has no meaning here: it takes the sets to be independent, and the reference holds the truth of each "
            f"picture, which it should be close to; choose {', '.join(PAIRED)} or fid."
        )
    of_pairs = [name for name in wanted if name in PAIRED] if metrics else list(PAIRED) if paired else []
    result = Result([], {}, {}, [], curve=curve)
    chosen = [features] if isinstance(features, str) or callable(features) else list(features)
    made: list[Extractor] = []

    def extractors(real: Pictures) -> list[Extractor]:
        for one in chosen[len(made) :]:
            made.append(choose(one, real, weights, str(select_device(device)), cache, progress))
        return made

    asked = [name for name in wanted if name in METRICS]
    if asked or not of_pairs or not metrics:
        generated = pictures(images, labels, size).some(n, seed)
        real = pictures(reference, reference_labels, size, else_size=generated.spec.size)
        held = None if held_out is None else pictures(held_out, size=size, else_size=real.spec.size)
        generated = _named_alike(generated, real)
        held = None if held is None else _named_alike(held, real)
        for one, what in ((generated, "generated"), (real, "reference")):
            if len(one) < 2:
                raise ValueError(f"One {what} picture cannot be measured: give 2 at least, better some thousand.")
        without = INDEPENDENT if paired else ("copies",) if translated else ()
        asked = asked or [name for name in _usual(generated, real) if name not in without]
        result.generated, result.reference, result.warnings = generated, real, _warnings_of_sets(generated, real)
        result.title = f"{generated.name} ({len(generated):,}) against {real.name} ({len(real):,})"
        for extractor in extractors(real):
            comparison = _compared(generated, real, held, extractor, seed, cache)
            result.warnings += _warnings_of_features(comparison, asked, paired)
            for name in asked:
                result.measures += METRICS[name](comparison)
            result.warnings += [
                f"{m.label} is below zero, as an unbiased estimate of next to nothing may be: read it as zero."
                for m in result.measures
                if m.name in ("fid_infinity", "kid") and m.features == extractor.name and m.value < 0
            ]
            result.classes |= comparison.classes
            result.copies = result.copies or comparison.copies
        result.protocol = {
            "generated": _described(generated), "reference": _described(real),
            "held_out": None if held is None else _described(held),
        }
    if of_pairs:
        if "lpips_form" in of_pairs:  # the encoder learns from the truths, at one size
            extractors(result.reference or pictures(reference, size=size, else_size=(64, 64)))
        found = measure_partners(images, reference, of_pairs, made, size, n, seed)
        measures, said = summary(found)
        if not metrics:  # not asked for by name: what cannot be measured need not be told
            said = [text for text in said if "is left out" not in text]
        result.paired_pictures, result.warnings = found, result.warnings + said
        result.measures = measures + result.measures
        result.title = result.title or f"{found.title[0]} against {found.title[1]}"
        result.title += f", {len(found):,} pairs"
        if not result.measures:
            raise ValueError(said[0])
        result.protocol["pairs"] = found.protocol()
    result.protocol |= {
        "features": [
            {"name": e.name, "identity": e.identity, "width": e.width, "resize": e.resize} for e in made
        ],
        "metrics": [*of_pairs, *asked], "seed": seed, "pairs_of_at_most": MOST, "accumulation": "float64",
        "limner": limner.__version__, "torch": torch.__version__, "machine": platform.machine(),
    }  # fmt: skip
    return result


class Probe:
    """The Fréchet distance to a reference set, again and again and cheaply: for a hook of a training.

    All that depends on the reference (encoder, features, moments) is done at the start, from the cache where it is there.
    """

    def __init__(
        self, reference: Given, labels: Any = None, features: str | Extractor = "own", cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        real = pictures(reference, labels)
        self.extractor = choose(features, real, cache=cache, progress=progress)
        rows = extract_cached(self.extractor, real.images, real.fingerprint) if cache else None
        self.statistics_of = statistics_of(extract(self.extractor, real.images) if rows is None else rows)
        self.name = f"fid_{self.extractor.name}"

    def __call__(self, images: Tensor | Iterable[Tensor]) -> dict[str, float]:
        """uint8 [N,C,H,W] or batches of it -> {"fid_own": …}. Compare only values of equal N: the bias depends on it."""
        return {self.name: fid(extract(self.extractor, images), self.statistics_of)}


def _compared(
    generated: Pictures, real: Pictures, held: Pictures | None, extractor: Extractor, seed: int, cache: bool
) -> Comparison:
    def rows(one: Pictures) -> Tensor:
        kept = extract_cached(extractor, one.images, one.fingerprint) if cache else extract(extractor, one.images)
        return kept.double()

    x, y = extract(extractor, generated.images).double(), rows(real)
    return Comparison(generated, real, held, extractor, x, y, None if held is None else rows(held), seed)


def _usual(generated: Pictures, real: Pictures) -> Sequence[str]:
    """The usual measures, less those that so few pictures do not allow."""
    few = min(len(generated), len(real))
    labeled = BY_CLASS if generated.labels is not None and real.labels is not None else ()
    return [name for name in (*USUAL, *labeled) if few >= LEAST.get(name, 2)]


def _named_alike(generated: Pictures, real: Pictures) -> Pictures:
    """Generated or held-out pictures with their labels in the reference's numbering, where both name their classes."""
    if generated.labels is None or not real.classes or generated.classes == real.classes:
        return generated
    if all(name in real.classes for name in generated.classes):
        to = torch.tensor([real.classes.index(name) for name in generated.classes])
        return replace(generated, labels=to[generated.labels], classes=real.classes)
    if all(name.isdigit() for name in generated.classes) and int(generated.labels.max()) < len(real.classes):
        return replace(generated, classes=real.classes)  # numbers
    missing = next(name for name in generated.classes if name not in real.classes)
    note = f"The class {missing!r} of {generated.name} is not one of the reference's, so labels were left aside."
    return replace(generated, labels=None, classes=(), notes=[*generated.notes, note])


def _warnings_of_sets(generated: Pictures, real: Pictures) -> list[str]:
    a, b, found = generated.spec, real.spec, [*generated.notes, *real.notes]
    if a.size != b.size:
        found.append(
            f"Generated pictures are {a.height}x{a.width} and the reference {b.height}x{b.width}: each is resized once, "
            "and a difference in sharpness may decide the numbers."
        )
    if a.channels != b.channels:
        kinds = {1: "gray", 3: "RGB", 4: "RGBA"}
        found.append(
            f"Generated pictures are {kinds[a.channels]} and the reference {kinds[b.channels]}: they were brought to one "
            "kind, and what color there is on one side counts as a difference or is lost."
        )
    if extra := sum(len(rows) - 1 for rows in equal_rows(generated.images.permute(0, 2, 3, 1).numpy())):
        found.append(f"{extra:,} of {len(generated):,} generated pictures are exact duplicates of others.")
    return found


def _warnings_of_features(c: Comparison, asked: Sequence[str], paired: bool) -> list[str]:
    found, width, fewest = [], c.extractor.width, min(len(c.x), len(c.y))
    if paired and "fid" in asked:
        found.append(
            f"fid({c.extractor.name}) of pictures against their own truths is lower than against other real pictures: compare "
            "it only with numbers from the same pairs."
        )
    elif fewest <= width and {"fid", "fid_infinity", "fid_per_class"} & set(asked):
        found.append(
            f"fid({c.extractor.name}) from {fewest:,} pictures and {width:,} features has no full covariance: it is far "
            "too high, and compares only with numbers from equally many pictures; prefer kid."
        )
    elif fewest < 20 * width and "fid" in asked:
        found.append(
            f"fid({c.extractor.name}) from {fewest:,} pictures is biased upwards: compare it only with numbers from "
            "equally many pictures, or read fid_infinity and kid."
        )
    if fewest < 1000 and "precision_recall" in asked:
        found.append(f"Precision, recall, density and coverage from {fewest:,} pictures are rough and depend on how many.")
    return found


def _described(one: Pictures) -> dict[str, Any]:
    return {"name": one.name, "n": len(one), "pictures": str(one.spec), "fingerprint": one.fingerprint}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""Pair metrics: PSNR, SSIM, MS-SSIM and a perceptual distance of each picture to its target, matched by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from limner.core.images import WHITE, to_pil
from limner.data import Damaged, Dataset, open_source, prepare
from limner.data.image import convert_channels, upright
from limner.data.sampler import permutation
from limner.data.sides import ASPECT_TOLERANCE, matching
from limner.data.source import Rejected, Source
from limner.evaluation.features import Extractor, resized, with_channels
from limner.evaluation.image_quality import layer_distance, least_side, ms_ssim, psnr, ssim
from limner.evaluation.inputs import Given, load_image_set
from limner.evaluation.metrics import Metric, metric_label
from limner.losses.structural import WINDOW

PAIRED = ("psnr", "ssim", "ms_ssim", "perceptual")
MIN_SIDE = {"ssim": WINDOW, "ms_ssim": least_side()}  # pixels of the shorter side
BETTER = {"psnr": "higher", "ssim": "higher", "ms_ssim": "higher", "perceptual": "lower"}
BATCH = 32     # pairs of one size
SHOWN = 12     # pairs on the sheet of the worst pairs
SIDE = 128     # maximum side of a picture on it, in pixels


@dataclass(frozen=True)
class Side:
    """One set of pictures, read one by one at their own sizes."""

    name: str
    names: Sequence[str]
    read: Callable[[int], Tensor]  # uint8 [C,H,W], upright; raises Damaged
    bad: Sequence[Rejected] = ()


@dataclass
class PairedResult:
    """The values of the pair metrics."""

    title: tuple[str, str]                         # names of the two sets
    names: list[str]                               # [n]
    values: dict[str, Tensor]                      # label -> float64 [n]; NaN for pairs below the metric's minimum size
    left_out: list[Rejected]                       # unmatched or unreadable pictures, with the reason
    sizes: dict[tuple[int, int], int]              # (H,W) -> number of pairs compared at that size
    resized: int                                   # number of pairs of different sizes
    gray: bool                                     # compared in gray; else in RGB
    sheet: Tensor | None = None                    # the worst pairs, generated, then targets: uint8 [2k,C,S,S]
    worst: list[dict[str, Any]] = field(default_factory=list)  # their names and values, the worst first

    def __len__(self) -> int:
        return len(self.names)

    def protocol(self) -> dict[str, Any]:
        sizes = {f"{h}x{w}": count for (h, w), count in self.sizes.items()}
        return {
            "n": len(self), "matched_by": "file name, else that without ending", "sizes": sizes, "resized": self.resized,
            "resize": "bilinear, antialiased, generated to the size of its target" if self.resized else "none",
            "channels": "gray" if self.gray else "RGB, transparency on white",
            "left_out": [list(bad) for bad in self.left_out], "worst": self.worst,
        }  # fmt: skip


def match_pairs(
    generated: Given, truth: Given, size: tuple[int, int] | None = None
) -> tuple[Side, Side, list[tuple[int, int]], list[Rejected]]:
    """Match two sets by name: (generated, targets, index pairs, unmatched). Raises ValueError when nothing matches."""
    a, b = _side(generated, size), _side(truth, size)
    rows, unmatched_a, unmatched_b = matching(a.names, b.names)
    bad = [*a.bad, *b.bad]
    bad += [(a.names[i], f"no match in {b.name}") for i in unmatched_a]
    bad += [(b.names[j], f"no match in {a.name}") for j in unmatched_b]
    if not rows:
        raise ValueError(
            f"No picture of {a.name} has the name of one of {b.name}: psnr, ssim, ms_ssim and perceptual compare pictures "
            "of equal names."
        )
    return a, b, rows, bad


def measure_pairs(
    generated: Given, truth: Given, metrics: Sequence[str], extractors: Sequence[Extractor] = (),
    size: tuple[int, int] | None = None, n: int | None = None, seed: int = 0,
) -> PairedResult:
    """Compute pair metrics over pictures of equal names, each at the target's own size.

    metrics: names in PAIRED. extractors: for `perceptual`, which uses those with `layers`. size: (H,W) to resize both to.
    n: maximum number of pairs, drawn at random. Raises ValueError when there are no pairs.
    """  # fmt: skip
    a, b, rows, bad = match_pairs(generated, truth, size)
    if n is not None and n < len(rows):
        rows = [rows[i] for i in np.sort(permutation(len(rows), seed, 0)[:n])]
    functions = _functions(metrics, extractors)
    kept: list[tuple[int, int]] = []
    values: dict[str, list[Tensor]] = {label: [] for label in functions}
    order: list[Tensor] = []
    sizes: dict[tuple[int, int], int] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor, Tensor]]] = {}
    scaled, gray = 0, True

    def measure(shape: tuple[int, ...]) -> None:
        where, x, y = zip(*waiting.pop(shape), strict=True)
        order.append(torch.tensor(where))
        for label, (min_side, function) in functions.items():
            enough = min(shape[1:]) >= min_side
            blank = torch.full((len(where),), float("nan"), dtype=torch.float64)
            values[label].append(function(torch.stack(x), torch.stack(y)) if enough else blank)

    for i, j in rows:
        try:
            x, y = a.read(i), b.read(j)
            (h, w), (k, v) = x.shape[1:], y.shape[1:]
            if abs(h * v / (w * k) - 1) > ASPECT_TOLERANCE:
                raise Damaged(f"another aspect ratio than its target, {h}x{w} and {k}x{v}")
        except Damaged as damage:
            bad.append((a.names[i], str(damage)))
            continue
        x, y = _alike(x, y)
        if (h, w) != (k, v):
            x, scaled = resized(x[None], (k, v))[0], scaled + 1
        gray = gray and len(y) == 1
        sizes[k, v] = sizes.get((k, v), 0) + 1
        waiting.setdefault(tuple(y.shape), []).append((len(kept), x, y))
        kept.append((i, j))
        if len(waiting[tuple(y.shape)]) == BATCH:
            measure(tuple(y.shape))
    for shape in list(waiting):
        measure(shape)
    if not kept:
        reasons = ", ".join(f"{name} ({why})" for name, why in bad[:3])
        raise ValueError(f"No pair of {a.name} and {b.name} can be compared: {reasons}.")
    inverse = torch.cat(order).argsort()
    ordered = {label: torch.cat(batches)[inverse] for label, batches in values.items()}
    found = PairedResult((a.name, b.name), [a.names[i] for i, _ in kept], ordered, bad, sizes, scaled, gray)
    _show_worst(found, a, b, kept)
    return found


def summary(found: PairedResult) -> tuple[list[Metric], list[str]]:
    """Return the mean of each metric with its 95 % interval, and a sentence for each one that could not be computed."""
    metrics, notes = [], []
    for label, values in found.values.items():
        name = _name_of(label)
        features = label.removeprefix(name).removeprefix("_")
        there = values[~values.isnan()]
        if len(there) < len(values):
            small = min(found.sizes, key=min)
            what = "is left out" if not len(there) else f"is of {len(there):,} of {len(values):,} pairs"
            notes.append(
                f"{label} {what}: it needs pictures of at least {MIN_SIDE[name]} pixels a side, and the smallest pair is "
                f"{small[0]}x{small[1]}."
            )
        if not len(there):
            continue
        finite = there[there.isfinite()]
        equal = len(there) - len(finite)  # an infinite PSNR: identical pictures
        mean = finite.mean().item() if len(finite) else float("inf")
        error = 1.96 * finite.std().item() / len(finite) ** 0.5 if len(finite) > 1 else None
        low, high = (None, None) if error is None else (mean - error, mean + error)
        detail = f"mean of {len(finite) or len(there):,} pairs"
        detail += f"; {equal:,} identical pairs left out" if equal and len(finite) else ""
        metrics.append(Metric(name, features, mean, BETTER[name], low, high, detail))
    if found.left_out:
        reasons = ", ".join(f"{name} ({why})" for name, why in found.left_out[:3])
        more = "" if len(found.left_out) <= 3 else "; the JSON lists all"
        plural = "pictures were" if len(found.left_out) > 1 else "picture was"
        notes.append(f"{len(found.left_out):,} {plural} left out of the pairs: {reasons}{more}.")
    if found.resized:
        notes.append(
            f"In {found.resized:,} of {len(found):,} pairs the sizes differ: the generated picture was resized to "
            "its target's size, which costs sharpness."
        )
    return metrics, notes


def _name_of(label: str) -> str:
    """Return the name of the metric of a label: `perceptual` of `perceptual_own`."""
    return next(name for name in PAIRED if label == name or label.startswith(f"{name}_"))


# ---- reading ---------------------------------------------------------------------------------------------------------


def _side(given: Given, size: tuple[int, int] | None) -> Side:
    if isinstance(given, str | Path):
        source = open_source(given, labels=False, splits=False)
        if size is None:
            return Side(source.name, source.names, lambda i: _own_size(source, i), source.bad)
        given = prepare(source, size=size)
    bad = list(given.bad) if isinstance(given, Dataset) else []
    found = load_image_set(given)
    names = found.names or tuple(str(i) for i in range(len(found)))
    return Side(found.name, names, lambda i: found.images[i], bad)


def _own_size(source: Source, i: int) -> Tensor:
    with source.open(i) as image:
        array = np.array(upright(image))
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both pictures in gray if both are gray, else in RGB, composed on white."""
    channels = 1 if len(x) == len(y) == 1 else 3
    return with_channels(x[None], channels)[0], with_channels(y[None], channels)[0]


# ---- metrics ---------------------------------------------------------------------------------------------------------


Function = Callable[[Tensor, Tensor], Tensor]


def _functions(metrics: Sequence[str], extractors: Sequence[Extractor]) -> dict[str, tuple[int, Function]]:
    """Return {label: (minimum side in pixels, function of two uint8 [n,C,H,W] -> [n])}."""
    plain: dict[str, Function] = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}
    found: dict[str, tuple[int, Function]] = {}
    for name in metrics:
        if name in plain:
            found[name] = MIN_SIDE.get(name, 1), plain[name]
            continue
        layered = [e for e in extractors if hasattr(e, "layers")]
        if not layered:
            raise ValueError("perceptual compares activations of layers, which these features do not have: choose the features own.")
        for extractor in layered:
            found[metric_label(name, extractor.name)] = 1, _layer_distance(extractor)
    return found


def _layer_distance(extractor: Any) -> Function:
    return lambda x, y: layer_distance(x, y, extractor.layers)


def _show_worst(found: PairedResult, a: Side, b: Side, rows: Sequence[tuple[int, int]]) -> None:
    """Fill in the sheet and the list of the worst pairs, by the first available of perceptual, ssim, ms_ssim and psnr."""
    there = [label for label, values in found.values.items() if not values.isnan().all()]
    labels = {_name_of(label): label for label in reversed(there)}
    name = next((k for k in ("perceptual", "ssim", "ms_ssim", "psnr") if k in labels), None)
    if name is None:
        return
    values = found.values[labels[name]]
    badness = (values if BETTER[name] == "lower" else -values).nan_to_num(-float("inf"), neginf=-float("inf"))
    worst = badness.argsort(descending=True, stable=True)[:SHOWN].tolist()
    finite = [{label: round(float(v[k]), 5) for label, v in found.values.items() if v[k].isfinite()} for k in worst]
    found.worst = [{"name": found.names[k], **values} for k, values in zip(worst, finite, strict=True)]
    cells = [_alike(a.read(rows[k][0]), b.read(rows[k][1])) for k in worst]
    side = min(SIDE, max(max(y.shape[1:]) for _, y in cells))
    found.sheet = torch.stack([_fitted(pair[k], side) for k in (0, 1) for pair in cells])


def _fitted(x: Tensor, side: int) -> Tensor:
    """Resize uint8 [C,H,W] to fit RGB [3,side,side], padded with white."""
    image = convert_channels(to_pil(x), 3, WHITE)
    return torch.from_numpy(np.array(ImageOps.pad(image, (side, side), color=WHITE)).transpose(2, 0, 1).copy())

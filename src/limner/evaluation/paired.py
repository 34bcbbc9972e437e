"""Partners: each generated picture beside the truth that has its name, and how near the two are."""

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
from limner.data.image import in_channels, upright
from limner.data.sampler import permutation
from limner.data.sides import ASPECT_TOLERANCE, matching
from limner.data.source import Rejected, Source
from limner.evaluation.features import Extractor, resized, with_channels
from limner.evaluation.image_quality import WINDOW, layer_distance, least_side, ms_ssim, psnr, ssim
from limner.evaluation.inputs import Given, pictures
from limner.evaluation.metrics import Metric

PAIRED = ("psnr", "ssim", "ms_ssim", "lpips_form")
LEAST = {"ssim": WINDOW, "ms_ssim": least_side()}  # pixels of the shorter side
BETTER = {"psnr": "higher", "ssim": "higher", "ms_ssim": "higher", "lpips_form": "lower"}
TOGETHER = 32  # pairs of one size that are measured at once
SHOWN = 12     # pairs on the sheet of the worst
SIDE = 128     # pixels of a picture there, at most


@dataclass(frozen=True)
class Side:
    """One set, picture by picture, each at its own size."""

    name: str
    names: Sequence[str]
    read: Callable[[int], Tensor]  # uint8 [C,H,W], upright; raises Damaged
    bad: Sequence[Rejected] = ()


@dataclass
class PairedResult:
    """What was measured of the pairs."""

    title: tuple[str, str]                         # the names of the two sets
    names: list[str]                               # [n]
    values: dict[str, Tensor]                      # label -> float64 [n]; NaN for a pair that is too small for it
    left_out: list[Rejected]                            # pictures without a partner, and why
    sizes: dict[tuple[int, int], int]              # (H,W) at which pairs were measured -> how many
    resized: int                                   # pairs whose sides differed in size
    gray: bool                                     # measured in gray; else in RGB
    sheet: Tensor | None = None                    # the worst pairs, generated above truth: uint8 [2k,C,S,S]
    worst: list[dict[str, Any]] = field(default_factory=list)  # their names and values, the worst first

    def __len__(self) -> int:
        return len(self.names)

    def protocol(self) -> dict[str, Any]:
        sizes = {f"{h}x{w}": count for (h, w), count in self.sizes.items()}
        return {
            "n": len(self), "matched_by": "file name, else that without ending", "sizes": sizes, "resized": self.resized,
            "resize": "bilinear, antialiased, generated to the size of its truth" if self.resized else "none",
            "channels": "gray" if self.gray else "RGB, transparency on white",
            "left_out": [list(bad) for bad in self.left_out], "worst": self.worst,
        }  # fmt: skip


def matched(
    generated: Given, truth: Given, size: tuple[int, int] | None = None
) -> tuple[Side, Side, list[tuple[int, int]], list[Rejected]]:
    """Two sets, which picture belongs to which, and who has no partner. Raises ValueError when nobody has one."""
    a, b = _side(generated, size), _side(truth, size)
    rows, alone, lonely = matching(a.names, b.names)
    bad = [*a.bad, *b.bad]
    bad += [(a.names[i], f"no partner in {b.name}") for i in alone]
    bad += [(b.names[j], f"no partner in {a.name}") for j in lonely]
    if not rows:
        raise ValueError(
            f"No picture of {a.name} has the name of one of {b.name}: psnr, ssim, ms_ssim and lpips_form need partners "
            "of equal names."
        )
    return a, b, rows, bad


def measure_partners(
    generated: Given, truth: Given, metrics: Sequence[str], extractors: Sequence[Extractor] = (),
    size: tuple[int, int] | None = None, n: int | None = None, seed: int = 0,
) -> PairedResult:
    """PSNR, SSIM, MS-SSIM and the form of LPIPS over pairs of equal names, each at the truth's own size.

    metrics: names of PAIRED. extractors: those with `layers`, for lpips_form. size: (H,W) to bring both to instead.
    n: at most so many pairs, drawn by the seed. Raises ValueError when there are no pairs.
    """  # fmt: skip
    a, b, rows, bad = matched(generated, truth, size)
    if n is not None and n < len(rows):
        rows = [rows[i] for i in np.sort(permutation(len(rows), seed, 0)[:n])]
    measures = _functions(metrics, extractors)
    kept: list[tuple[int, int]] = []
    values: dict[str, list[Tensor]] = {label: [] for label in measures}
    order: list[Tensor] = []
    sizes: dict[tuple[int, int], int] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor, Tensor]]] = {}
    scaled, gray = 0, True

    def measure(shape: tuple[int, ...]) -> None:
        where, x, y = zip(*waiting.pop(shape), strict=True)
        order.append(torch.tensor(where))
        for label, (least, function) in measures.items():
            enough = min(shape[1:]) >= least
            blank = torch.full((len(where),), float("nan"), dtype=torch.float64)
            values[label].append(function(torch.stack(x), torch.stack(y)) if enough else blank)

    for i, j in rows:
        try:
            x, y = a.read(i), b.read(j)
            (h, w), (k, v) = x.shape[1:], y.shape[1:]
            if abs(h * v / (w * k) - 1) > ASPECT_TOLERANCE:
                raise Damaged(f"other proportions than its partner, {h}x{w} and {k}x{v}")
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
        if len(waiting[tuple(y.shape)]) == TOGETHER:
            measure(tuple(y.shape))
    for shape in list(waiting):
        measure(shape)
    if not kept:
        told = ", ".join(f"{name} ({why})" for name, why in bad[:3])
        raise ValueError(f"No pair of {a.name} and {b.name} can be measured: {told}.")
    back = torch.cat(order).argsort()
    whole = {label: torch.cat(parts)[back] for label, parts in values.items()}
    found = PairedResult((a.name, b.name), [a.names[i] for i, _ in kept], whole, bad, sizes, scaled, gray)
    _show_worst(found, a, b, kept)
    return found


def summary(found: PairedResult) -> tuple[list[Metric], list[str]]:
    """The mean of each measure with its 95 % interval; and a sentence for each that could not be measured."""
    measures, said = [], []
    for label, values in found.values.items():
        name, _, features = label.rstrip(")").partition("(")
        there = values[~values.isnan()]
        if len(there) < len(values):
            small = min(found.sizes, key=min)
            what = "is left out" if not len(there) else f"is of {len(there):,} of {len(values):,} pairs"
            said.append(
                f"{label} {what}: it needs pictures of {LEAST[name]} pixels a side at least, and the smallest pair is "
                f"{small[0]}x{small[1]}."
            )
        if not len(there):
            continue
        finite = there[there.isfinite()]
        equal = len(there) - len(finite)  # an infinite PSNR: nothing differs
        mean = finite.mean().item() if len(finite) else float("inf")
        error = 1.96 * finite.std().item() / len(finite) ** 0.5 if len(finite) > 1 else None
        low, high = (None, None) if error is None else (mean - error, mean + error)
        detail = f"mean of {len(finite) or len(there):,} pairs"
        detail += f"; {equal:,} equal pairs left out" if equal and len(finite) else ""
        measures.append(Metric(name, features, mean, BETTER[name], low, high, detail))
    if found.left_out:
        told = ", ".join(f"{name} ({why})" for name, why in found.left_out[:3])
        more = "" if len(found.left_out) <= 3 else "; the JSON lists all"
        plural = "pictures were" if len(found.left_out) > 1 else "picture was"
        said.append(f"{len(found.left_out):,} {plural} left out of the pairs: {told}{more}.")
    if found.resized:
        said.append(
            f"In {found.resized:,} of {len(found):,} pairs the sizes differ: the generated picture was resized once, to "
            "its truth's size, which costs sharpness."
        )
    return measures, said


# ---- reading ---------------------------------------------------------------------------------------------------------


def _side(given: Given, size: tuple[int, int] | None) -> Side:
    if isinstance(given, str | Path):
        source = open_source(given, labels=False, splits=False)
        if size is None:
            return Side(source.name, source.names, lambda i: _own_size(source, i), source.bad)
        given = prepare(source, size=size)
    bad = list(given.bad) if isinstance(given, Dataset) else []
    found = pictures(given)
    names = found.names or tuple(str(i) for i in range(len(found)))
    return Side(found.name, names, lambda i: found.images[i], bad)


def _own_size(source: Source, i: int) -> Tensor:
    with source.open(i) as image:
        array = np.array(upright(image))
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both gray where both are, else both RGB; what is transparent lies on white."""
    channels = 1 if len(x) == len(y) == 1 else 3
    return with_channels(x[None], channels)[0], with_channels(y[None], channels)[0]


# ---- measuring -------------------------------------------------------------------------------------------------------


Function = Callable[[Tensor, Tensor], Tensor]


def _functions(metrics: Sequence[str], extractors: Sequence[Extractor]) -> dict[str, tuple[int, Function]]:
    """label -> (the least side in pixels, uint8 [n,C,H,W] twice -> [n])"""
    plain: dict[str, Function] = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}
    found: dict[str, tuple[int, Function]] = {}
    for name in metrics:
        if name in plain:
            found[f"{name}(pairs)"] = LEAST.get(name, 1), plain[name]
            continue
        layered = [e for e in extractors if hasattr(e, "layers")]
        if not layered:
            raise ValueError("lpips_form compares layers, which these features do not have: choose the features own.")
        for extractor in layered:
            found[f"{name}({extractor.name})"] = 1, _by_layers(extractor)
    return found


def _by_layers(extractor: Any) -> Function:
    return lambda x, y: layer_distance(x, y, extractor.layers)


def _show_worst(found: PairedResult, a: Side, b: Side, rows: Sequence[tuple[int, int]]) -> None:
    """Fill in the sheet and its list: those with the worst of the most telling measure."""
    there = [label for label, values in found.values.items() if not values.isnan().all()]
    labels = {label.partition("(")[0]: label for label in reversed(there)}
    name = next((k for k in ("lpips_form", "ssim", "ms_ssim", "psnr") if k in labels), None)
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
    """uint8 [C,H,W] -> RGB [3,side,side], fitted within and padded with white."""
    image = in_channels(to_pil(x), 3, WHITE)
    return torch.from_numpy(np.array(ImageOps.pad(image, (side, side), color=WHITE)).transpose(2, 0, 1).copy())

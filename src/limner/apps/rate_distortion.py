"""Rate-distortion curves of a codec beside JPEG, WebP and AVIF, on the same crops: `limner evaluate` for a codec's run."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image, features
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from limner.apps.compress import Codec
from limner.core import artifact
from limner.core.files import write_whole
from limner.core.text import counted
from limner.data import Damaged, open_source
from limner.data.image import convert_channels, upright
from limner.data.sampler import permutation
from limner.evaluation.bd_rate import DeltaRate, bd_rate
from limner.evaluation.image_quality import least_side, ms_ssim, psnr

PICTURES, CROP = 50, 256            # by default: how many, and their largest side in pixels
QUALITIES = (0, 20, 40, 60, 80, 100)
SETTINGS = (4, 8, 15, 25, 40, 55, 70, 82, 91, 96)
OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {  # name -> (Pillow's format, options, in words)
    "JPEG": ("JPEG", {"optimize": True, "subsampling": "4:2:0"}, "optimized Huffman tables, colors 4:2:0"),
    "JPEG 4:4:4": ("JPEG", {"optimize": True, "subsampling": "4:4:4"}, "optimized Huffman tables, colors 4:4:4"),
    "WebP": ("WEBP", {"method": 6}, "method 6, colors 4:2:0"),
    "AVIF": ("AVIF", {"speed": 6, "max_threads": 1}, "speed 6, colors 4:2:0"),
}
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # bits per pixel
Progress = Callable[[int, int], None]  # (done, total)


@dataclass
class Curve:
    """Means over the pictures at each setting. bpp: bits of the whole file per pixel. Empty ms_ssim: pictures too small for it."""

    name: str
    detail: str
    settings: list[int] = field(default_factory=list)
    bpp: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    encode_seconds_per_megapixel: list[float] = field(default_factory=list)
    decode_seconds_per_megapixel: list[float] = field(default_factory=list)

    def decibels(self) -> list[float]:
        """MS-SSIM as -10 log10(1 - x), in which BD-rates are computed, as is usual."""
        return [-10 * math.log10(max(1e-10, 1 - value)) for value in self.ms_ssim]


@dataclass
class RateDistortion:
    """Curves, the codec's first, and what they were measured on."""

    curves: list[Curve]
    protocol: dict[str, Any]
    warnings: list[str]

    def delta(self, other: Curve, metric: str) -> DeltaRate | None:
        """Return the BD-rate of the codec against another one by "psnr" or "ms_ssim"."""
        own = self.curves[0]
        if metric == "psnr":
            return bd_rate(other.bpp, other.psnr, own.bpp, own.psnr)
        return bd_rate(other.bpp, other.decibels(), own.bpp, own.decibels()) if own.ms_ssim else None

    def to_json(self) -> str:
        deltas = {
            other.name: {m: asdict(d) if (d := self.delta(other, m)) else None for m in ("psnr", "ms_ssim")}
            for other in self.curves[1:]
        }
        content = {"protocol": self.protocol, "curves": [asdict(c) for c in self.curves], "bd_rate": deltas, "notes": self.warnings}
        return json.dumps(content, indent=1, ensure_ascii=False)

    def tables(self) -> Group:
        """Return the codec's points, and its BD-rates against the others."""
        own = self.curves[0]
        points = Table(title=escape(f"{own.name} on {counted(self.protocol['n'], 'picture')}"), title_justify="left")
        for column in ("quality", "bits per pixel", "PSNR, dB", "MS-SSIM"):
            points.add_column(column, justify="right")
        for i, setting in enumerate(own.settings):
            similarity = f"{own.ms_ssim[i]:.4f}" if own.ms_ssim else "–"
            points.add_row(str(setting), f"{own.bpp[i]:.4f}", f"{own.psnr[i]:.2f}", similarity)
        deltas = Table(title="Bits at equal quality (BD-rate)", title_justify="left")
        for column in ("against", "by PSNR", "by MS-SSIM"):
            deltas.add_column(column, justify="left" if column == "against" else "right")
        for other in self.curves[1:]:
            deltas.add_row(other.name, *(_percent(self.delta(other, metric)) for metric in ("psnr", "ms_ssim")))
        return Group(points, deltas)


def _percent(delta: DeltaRate | None) -> str:
    return "–" if delta is None else f"{delta.percent:+.1f} %"


def evaluate_codec(
    model: Codec,
    data: str,
    n: int | None = None,
    size: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    effort: int = 0,
    progress: Progress | None = None,
) -> tuple[RateDistortion, Path]:
    """Measure a codec and Pillow's formats on pictures; write the figures as .json and, with matplotlib, the curves as .png.

    n: how many pictures, drawn at random. size: largest side; of a larger picture the center is taken. out: a .json or .png, the
    other one lies beside it; by default rate-distortion.json in the run folder. effort: of the codec's encoder. Returns the result
    and the path of the .json.
    """
    if n is not None and n < 1:
        raise ValueError(f"A codec is measured on at least one picture, not on {n}.")
    if size is not None and size < 1:
        raise ValueError(f"The size is the largest side of a picture in pixels, at least 1, not {size}.")
    out = validate_out(out) if out else model.folder / "rate-distortion.json"
    result = measure(model, *crops(model, data, n or PICTURES, size or CROP, seed), effort=effort, progress=progress)
    result.protocol |= {"data": Path(data).name if Path(data).exists() else data, "crop": size or CROP, "seed": seed}
    write_whole(out, result.to_json() + "\n")
    try:
        write_whole(out.with_suffix(".png"), plot(result))
    except ImportError:
        result.warnings.append("The curves are drawn only with matplotlib: `pip install 'limner[plots]'` adds it.")
    return result, out


def validate_out(out: Path) -> Path:
    """Return the path of the .json. Raises ValueError for another suffix and for a file of a run."""
    if out.suffix.lower() not in (".json", ".png") or out.is_dir():
        raise ValueError(f"A codec's curves are written as a .png with a .json beside it, not as {out.name!r}.")
    out = out.with_suffix(".json")
    if out.name in (artifact.CARD, artifact.DECISIONS):
        raise ValueError(f"The JSON beside {out} would replace a file of a run: choose another name.")
    return out


def crops(model: Codec, data: str, n: int, size: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Return (pictures of mode L or RGB, at most `size` a side, notes). Raises ValueError without a picture."""
    source = open_source(data, labels=False, splits=False)
    channels = 1 if model.spec.channels == 1 else 3
    found: list[Image.Image] = []
    bad = len(source.bad)
    for i in permutation(len(source), seed, 0):
        if len(found) == n:
            break
        try:
            image = convert_channels(upright(source.open(int(i))), channels, model.background)
        except Damaged:
            bad += 1
            continue
        left, top = max(0, image.width - size) // 2, max(0, image.height - size) // 2
        found.append(image.crop((left, top, left + min(size, image.width), top + min(size, image.height))))
        found[-1].info.clear()  # some of the formats would write the profile and EXIF data
    if not found:
        raise ValueError(f"No picture of {data} can be read: there is nothing to measure on.")
    return found, [f"{counted(bad, 'damaged picture was', 'damaged pictures were')} left out."] if bad else []


def measure(
    model: Codec, pictures: Sequence[Image.Image], notes: Sequence[str] = (), effort: int = 0, others: bool = True,
    progress: Progress | None = None,
) -> RateDistortion:  # fmt: skip
    """Return the curves on pictures of mode L or RGB."""
    notes = list(notes)
    similar = min(min(image.size) for image in pictures) >= least_side()
    if not similar:
        notes.append(f"MS-SSIM is left out: it needs pictures of at least {least_side()} pixels a side.")
    detail = f"{model.description.get('recipe', {}).get('name', 'codec')}, {counted(effort, 'step')} of refinement"
    own = Curve(model.folder.resolve().name, detail)
    work: list[tuple[Curve, int, Callable[[Image.Image, int], bytes], Callable[[bytes], Image.Image]]] = [
        (own, quality, lambda image, q: model.compress(image, q, effort), model.decompress) for quality in QUALITIES
    ]
    for name, (form, options, words) in OTHERS.items() if others else ():
        if name != "JPEG 4:4:4" or pictures[0].mode != "L":
            if form == "JPEG" or features.check(form.lower()):
                curve = Curve(name, words)
                work += [(curve, quality, _encoder(form, options), _decode) for quality in SETTINGS]
            else:
                notes.append(f"{name} is left out: this Pillow was built without it.")
    targets = [_tensor(image) for image in pictures]
    for k, (curve, quality, encode, decode) in enumerate(work):
        _add_point(curve, quality, encode, decode, pictures, targets, similar)
        if progress:
            progress(k + 1, len(work))
    curves = list({id(curve): curve for curve, *_ in work}.values())
    return RateDistortion(curves, _protocol(pictures), notes)


def _protocol(pictures: Sequence[Image.Image]) -> dict[str, Any]:
    return {
        "n": len(pictures),
        "pixels": sum(image.width * image.height for image in pictures),
        "bpp": "bits of the whole file with its header per pixel, mean over pictures",
        "psnr": f"of each picture, over the mean squared error of its {'gray' if pictures[0].mode == 'L' else 'RGB'} values; mean",
        "ms_ssim": "five scales, mean over channels and pictures; BD-rate over -10 log10(1 - MS-SSIM)",
        "bd_rate": "piecewise cubic (PCHIP) interpolation of the logarithm of the rate over the quality",
        "pillow": PIL.__version__,
        "threads": torch.get_num_threads(),
    }


def _add_point(
    curve: Curve, quality: int, encode: Callable[[Image.Image, int], bytes], decode: Callable[[bytes], Image.Image],
    pictures: Sequence[Image.Image], targets: Sequence[Tensor], similar: bool,
) -> None:  # fmt: skip
    rows = []
    for image, target in zip(pictures, targets, strict=True):
        began = time.perf_counter()
        content = encode(image, quality)
        middle = time.perf_counter()
        decoded = decode(content)
        decoded.load()
        area = image.width * image.height
        seconds = middle - began, time.perf_counter() - middle
        made = _tensor(decoded.convert(image.mode))
        values = psnr(made, target).clamp(max=100).item(), ms_ssim(made, target).item() if similar else 0.0
        rows.append((len(content) * 8 / area, *values, *(s * 1e6 / area for s in seconds)))
    bpp, decibels, similarity, encoding, decoding = np.mean(rows, 0).tolist()
    curve.settings.append(quality)
    curve.bpp.append(bpp)
    curve.psnr.append(decibels)
    if similar:
        curve.ms_ssim.append(similarity)
    curve.encode_seconds_per_megapixel.append(encoding)
    curve.decode_seconds_per_megapixel.append(decoding)


def _encoder(form: str, options: dict[str, Any]) -> Callable[[Image.Image, int], bytes]:
    def encode(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, quality=quality, **options)
        return buffer.getvalue()

    return encode


def _decode(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _tensor(image: Image.Image) -> Tensor:
    """uint8 [1,C,H,W]"""
    array = np.array(image)
    return torch.from_numpy(array[None, None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))[None])


def plot(result: RateDistortion) -> bytes:
    """Return the curves as the bytes of a .png: PSNR, and MS-SSIM where it was measured. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[tuple[str, Callable[[Curve], list[float]]]] = [("PSNR, dB", lambda curve: curve.psnr)]
    if result.curves[0].ms_ssim:
        panels.append(("MS-SSIM, dB", Curve.decibels))
    figure: Any = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    own = result.curves[0]
    for k, (label, values) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), k)
        for i, curve in enumerate(result.curves):
            axes.plot(curve.bpp, values(curve), "o-" if not i else ".--", linewidth=2 if not i else 1, label=curve.name)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.4 * min(own.bpp), 2.5 * max(own.bpp))
        near = [v for c in result.curves for b, v in zip(c.bpp, values(c), strict=True) if 0.4 * min(own.bpp) < b < 2.5 * max(own.bpp)]
        axes.set_ylim(min(near) - 1, max(near) + 1)
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"{counted(result.protocol['n'], 'picture')}, means", fontsize=10)
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(buffer)
    return buffer.getvalue()

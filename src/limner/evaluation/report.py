"""Reports of an evaluation: a table for the terminal, JSON, and a self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from limner.core.files import write_whole
from limner.core.images import grid, to_pil
from limner.evaluation.compare import Result
from limner.evaluation.features import resized, with_channels
from limner.evaluation.metrics import Metric
from limner.evaluation.paired import PairedResult

STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: #3a6ea5; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top;
border-bottom: 1px solid var(--line); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; image-rendering: pixelated; } .warning { border-left: 4px solid #d08a00; padding-left: .8rem; }
pre { overflow: auto; font-size: .8rem; } svg { max-width: 100%; } figure { margin: 1rem 0; }
"""


def table(result: Result) -> Table:
    """Return the metrics as a rich table, grouped by features; protocol and details are in the JSON and HTML reports."""
    sentences = [*([result.memorization.verdict] if result.memorization else []), *result.findings]
    found = Table(title=escape(result.title), caption=escape(" ".join(sentences)) or None, title_justify="left", caption_justify="left")
    for column, side in (("metric", "left"), ("value", "right"), ("95 %", "left"), ("better", "left")):
        found.add_column(column, justify=side, no_wrap=True)  # type: ignore[arg-type]
    last = None
    for m in result.metrics:
        if last is not None and m.features != last:
            found.add_section()
        last = m.features
        found.add_row(escape(m.label), number(m.value), span(m), m.better)
    return found


def number(value: float) -> str:
    """Format a value with four significant digits; a dash if it is not finite."""
    return f"{value:.4g}" if math.isfinite(value) else "–"


def span(m: Metric) -> str:
    """Format the 95 % interval; empty if it is unknown."""
    if m.low is None or m.high is None or not math.isfinite(m.low) or not math.isfinite(m.high):
        return ""
    return f"{number(m.low)} to {number(m.high)}"


def closest_pairs(result: Result, most: int = 24) -> Tensor | None:
    """Return the samples nearest to the training set, then their neighbors: uint8 [2k,C,H,W]; None without that test."""
    if result.memorization is None or result.generated is None or result.reference is None:
        return None
    rows = result.memorization.closest[:most]
    samples = result.generated.images[rows]
    training = result.reference.images[result.memorization.neighbors[rows]]
    training = resized(with_channels(training, samples.shape[1]), (samples.shape[2], samples.shape[3]))
    return torch.cat([samples, training])


def write_json(result: Result, path: Path) -> None:
    """Write metrics and protocol as JSON, atomically."""
    write_whole(path, result.to_json() + "\n")


def write_html(result: Result, path: Path, title: str = "Evaluation") -> None:
    """Write the report as one self-contained HTML file: metrics, warnings, samples, closest pairs, classes, curves, protocol."""
    write_whole(path, render(result, title))


def render(result: Result, title: str = "Evaluation") -> str:
    """Return the report as HTML."""
    e = html.escape
    kinds = "" if result.generated is None or result.reference is None else (
        f": {result.generated.spec} against {result.reference.spec}"
    )
    parts = [f"<h1>{e(title)}</h1>", f"<p>{e(result.title + kinds)}.</p>"]
    parts += [f"<p>{e(sentence)}</p>" for sentence in result.findings]
    parts += [f'<p class="warning">{e(warning)}</p>' for warning in result.warnings]
    parts.append(_metrics_table(result.metrics))
    parts += [_embedded(name.replace("-", " ").capitalize(), picture) for name, picture in result.pictures.items()]
    if result.paired is not None:
        parts.append(_worst(result.paired))
    if result.generated is not None:
        rows = torch.linspace(0, len(result.generated) - 1, min(64, len(result.generated))).long()
        parts.append(_figure("Samples", result.generated.images[rows], None))
    pairs = closest_pairs(result)
    if result.memorization is not None and pairs is not None:
        half = len(pairs) // 2
        # Rows of twelve pairs: samples, and under each the training picture nearest to it.
        lines = [half_row for i in range(0, half, 12) for half_row in (pairs[:half][i : i + 12], pairs[half:][i : i + 12])]
        parts.append(f"<h2>Nearest training pictures</h2><p>{e(result.memorization.verdict)} Above: samples, nearest first. Below: "
                     "the training picture nearest to each.</p>")
        parts += [_figure("", line, 12) for line in lines]
    for name, values in result.classes.items():
        parts.append(f"<h2>{e(name)} by class</h2>" + bars(values))
    if result.curve:
        parts.append("<h2>Over training</h2>" + curves(result.curve))
    parts.append(f"<h2>Protocol</h2><pre>{e(result.to_json())}</pre>")
    return page(title, parts)


def page(title: str, parts: Sequence[str]) -> str:
    """Return a self-contained HTML page."""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n")


def _worst(paired: PairedResult) -> str:
    """Return the HTML of the worst pairs with their metrics."""
    if paired.sheet is None:
        return ""
    k = len(paired.worst)
    labels = [label for label in paired.values if any(label in row for row in paired.worst)]
    head = "".join(f"<th>{html.escape(label)}</th>" for label in labels)
    rows = "".join(
        f"<tr><td>{html.escape(row['name'])}</td>"
        + "".join(f'<td class="number">{number(row.get(label, math.nan))}</td>' for label in labels) + "</tr>"
        for row in paired.worst
    )
    # Rows of six pairs: generated pictures above their targets.
    lines = [part[i : i + 6] for i in range(0, k, 6) for part in (paired.sheet[:k], paired.sheet[k:])]
    return (
        "<h2>Worst pairs</h2><p>Above: generated pictures, worst first. Below: their targets.</p>"
        + "".join(_figure("", line, 6) for line in lines) + f"<table><tr><th>pair</th>{head}</tr>{rows}</table>"
    )  # fmt: skip


def bars(values: Mapping[str, float]) -> str:
    """Return a bar chart with one horizontal bar per class, as inline SVG."""
    finite = [v for v in values.values() if math.isfinite(v)]
    most = max(finite, default=1.0) or 1.0
    lines = []
    for i, (name, value) in enumerate(values.items()):
        y, length = 24 * i, 420 * max(0.0, value) / most if math.isfinite(value) else 0
        lines.append(f'<text x="150" y="{y + 16}" text-anchor="end">{html.escape(name[:20])}</text>'
                     f'<rect x="160" y="{y + 3}" width="{length:.1f}" height="16" fill="var(--ink)"/>'
                     f'<text x="{166 + length:.1f}" y="{y + 16}">{number(value)}</text>')
    return _svg(660, 24 * len(values) + 6, "".join(lines))


def curves(points: Sequence[Mapping[str, float]]) -> str:
    """Return one small line chart per metric over images seen."""
    found = []
    for name in dict.fromkeys(key for point in points for key in point if key != "images"):
        line = [(p["images"], p[name]) for p in points if name in p and math.isfinite(p[name])]
        if len(line) > 1:
            found.append(plot(name, line))
    return "".join(found)


def plot(
    name: str,
    points: Sequence[tuple[float, float]],
    budget: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a line chart over images seen, up to `budget` (default: the last point), with vertical marks; inline SVG."""
    points = [(x, y) for x, y in points if math.isfinite(y)] or [(0.0, 0.0)]
    right = budget or max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    steps = " ".join(f"{60 + 560 * x / right:.1f},{150 - 130 * (y - low) / ((high - low) or 1):.1f}" for x, y in points)
    lines = "".join(
        f'<line x1="{60 + 560 * x / right:.1f}" x2="{60 + 560 * x / right:.1f}" y1="20" y2="150" stroke="#d08a00" '
        f'stroke-dasharray="3"><title>{html.escape(text)}</title></line>'
        for x, text in marks
    )
    return _svg(
        660, 180,
        f'<text x="60" y="12">{html.escape(name)}</text><text x="54" y="26" text-anchor="end">{number(high)}</text>'
        f'<text x="54" y="154" text-anchor="end">{number(low)}</text>'
        f'<text x="620" y="174" text-anchor="end">{right:,.0f} images seen</text>{lines}'
        f'<polyline points="{steps}" fill="none" stroke="var(--ink)" stroke-width="2"/>',
    )


def _metrics_table(metrics: Sequence[Metric]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(m.label)}</td><td class="number">{number(m.value)}</td><td>{span(m)}</td>'
        f"<td>{html.escape(m.better)}</td><td>{html.escape(m.detail)}</td></tr>"
        for m in metrics
    )
    head = "<tr><th>metric</th><th>value</th><th>95 %</th><th>better</th><th></th></tr>"
    return f"<table>{head}{rows}</table>"


def _figure(caption: str, images: Tensor, columns: int | None) -> str:
    return _embedded(caption, grid(images, columns))


def _embedded(caption: str, picture: np.ndarray) -> str:
    """Return the HTML of one picture uint8 [C,H,W]."""
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure>{text}<img alt="{html.escape(caption or "pictures")}" src="data:image/png;base64,{data}"></figure>'


def _svg(width: int, height: int, content: str) -> str:
    return (f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="13" fill="currentColor" '
            f'role="img">{content}</svg>')

"""A picture of a search: the metric of every run over the images seen, and over each option."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

Curve = Sequence[tuple[float, float]]  # (images seen, metric)


def draw(curves: Mapping[str, Curve], best: str, settings: Sequence[tuple[Mapping[str, Any], float]], metric: str) -> bytes:
    """Return a .png. curves: of each run by name. settings: the options of each setting and its metric at the first rung.

    Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(settings[0][0]) if settings else []
    columns = 4
    rows = -(-len(names) // columns)
    figure: Any = Figure(figsize=(11, 3.6 + 2.1 * rows), layout="constrained")
    grid = figure.add_gridspec(rows + 2, columns)
    axes = figure.add_subplot(grid[:2, :])
    for name, curve in sorted(curves.items(), key=lambda item: item[0] == best):  # the best on top
        x, y = [images for images, _ in curve], [value for _, value in curve]
        chosen = name == best
        axes.plot(x, y, "o-", markersize=4, linewidth=2.2 if chosen else 0.9, color="#c2410c" if chosen else "#94a3b8", label=f"best (trial {name})" if chosen else None)
    axes.set_xscale("log")
    if curves and all(value > 0 for curve in curves.values() for _, value in curve):
        axes.set_yscale("log")
    axes.set_xlabel("images seen")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="upper right")
    values = [value for _, value in settings]
    for i, name in enumerate(names):
        part = figure.add_subplot(grid[2 + i // columns, i % columns])
        chosen_values = [options[name] for options, _ in settings]
        texts = not all(isinstance(v, int | float) and not isinstance(v, bool) for v in chosen_values)
        ticks = list(dict.fromkeys(map(str, chosen_values)))
        x = [ticks.index(str(v)) for v in chosen_values] if texts else chosen_values
        part.scatter(x, values, s=16, color="#475569")
        if texts:
            part.set_xticks(range(len(ticks)), ticks, fontsize=6)
        elif min(x) > 0:
            part.set_xscale("log")
            part.set_xticks([min(x), max(x)], [f"{min(x):.3g}", f"{max(x):.3g}"], fontsize=7)
            part.set_xticks([], minor=True)
        part.set_title(name, fontsize=8)
        part.tick_params(axis="y", labelsize=7)
        part.grid(alpha=0.3)
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(buffer)
    return buffer.getvalue()

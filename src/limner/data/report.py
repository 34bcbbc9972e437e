"""Output of a DataReport: a table for the terminal and a sheet of thumbnails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limner.core.images import grid, write_png
from limner.data.scan import DataReport

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_LISTED = 8  # entries of a long list


def listed(items: Sequence[str], shown: int = MAX_LISTED) -> str:
    """Return the first items of a list as text, and the number of the others."""
    more = f", and {len(items) - shown:,} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def facts(report: DataReport) -> list[tuple[str, str]]:
    """Return the report as (heading, text); facts that do not apply are left out."""

    def by(pairs: dict[str, int]) -> list[str]:
        return [f"{name} {count:,}" for name, count in sorted(pairs.items(), key=lambda p: -p[1])]

    sizes = {f"{h}x{w}": count for (h, w), count in report.sizes.items()}
    rows = [
        ("from", report.origin),
        ("pictures", f"{report.count:,}"),
        ("trained as", str(report.spec)),
        ("sizes (HxW)", listed(by(sizes), 4)),
        ("modes", listed(by(report.modes))),
    ]
    if len(sizes) > 1:
        (a, b), (c, d), (e, f) = report.least, report.median, report.most
        rows.insert(4, ("sides", f"height {a} to {e}, median {c}; width {b} to {f}, median {d}"))
    if report.classes:
        rows.append((f"{len(report.classes)} classes", listed([f"{n} {c:,}" for n, c in report.classes.items()], 20)))
    if report.bad:
        reasons = Counter(why for _, why in report.bad)
        rows.append((f"{len(report.bad):,} skipped", listed(by(reasons), 4)))
    if report.others:
        rows.append(("not pictures", listed(by(report.others))))
    if report.duplicates:
        extra = sum(len(group) - 1 for group in report.duplicates)
        rows.append(("duplicates", f"{extra:,} in {len(report.duplicates):,} groups, such as "
                                   f"{' = '.join(report.duplicates[0][:3])}"))
    if report.attribution:
        rows.append(("made by", report.attribution))
    return rows


def report_table(report: DataReport) -> RenderableType:
    """Return the report as a rich renderable: facts, the names of skipped pictures, and notes. Names are never markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, text in facts(report):
        table.add_row(Text(heading), Text(text))
    parts: list[RenderableType] = [table]
    if report.bad:
        broken = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, why in report.bad[:MAX_LISTED]:
            broken.add_row(Text(f"  {name}"), Text(why, style="yellow"))
        if len(report.bad) > MAX_LISTED:
            broken.add_row(Text(f"  and {len(report.bad) - MAX_LISTED:,} more"))
        parts += [Text("\nSkipped", style="bold"), broken]
    if report.notes:
        parts.append(Text("\nNotes", style="bold"))
        parts += [Text(f"  {note}") for note in report.notes]
    return Group(*parts)


def write_sheet(path: Path, report: DataReport) -> None:
    """Write the thumbnails as one PNG, atomically. Raises ValueError as core.files does."""
    write_png(path, grid(report.thumbnails, gap=4, scale=1))

"""`limner show`: a run folder as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limner.core import artifact
from limner.core.images import ImageSpec
from limner.core.text import counted

if TYPE_CHECKING:
    from rich.table import Table


def table(folder: Path) -> Table:
    """Return the run's description as a rich table. Raises ValueError when the folder holds none."""
    from rich.markup import escape
    from rich.table import Table

    description = artifact.read_description(folder)
    data, training = description["data"], description["training"]
    shape = data["spec"]
    rows = [
        ("kind", description["kind"]),
        ("recipe", description["recipe"]["name"]),
        ("data", f"{data['name']}: {counted(data['count'], 'picture')}, {data['origin']}"),
        ("pictures", str(ImageSpec.from_json(shape))),
        ("classes", ", ".join(data["classes"]) or "none"),
        *(("started from", f"{p['name']} ({p['recipe']}, {p['images']:,} images seen)") for p in description.get("parents", [])),
        ("progress", f"{training['images']:,} of {training['budget']:,} images seen"),
        ("time", f"{training['seconds']:,.0f} s on {training['machine']}"),
        ("network", f"{description['network']['architecture']} {_options(description['network']['config'])}"),
        ("seed", str(training["seed"])),
        *((name, str(value)) for name, value in description["metrics"].items()),
        ("license", description["license"] or "not stated"),
        ("preview", str(folder / "preview.png")),
    ]
    result = Table(show_header=False, title=escape(str(folder)), title_justify="left")
    result.add_column(style="bold")
    result.add_column(overflow="fold")
    for name, value in rows:
        result.add_row(escape(name), escape(value))
    return result


def _options(config: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in config.items())

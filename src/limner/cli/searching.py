"""The command of searches for options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, print_line, tell
from limner.cli.reading import TrainingFlags, TrainingReading, keywords


@app.command
def search(
    source: Annotated[str, Parameter(name="data")],
    second: Annotated[str | None, Parameter(name="second")] = None,
    /,
    *,
    minutes: str | None = None,
    images: str | None = None,
    recipe: str = "auto",
    over: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    settings: int = 12,
    reading: TrainingReading = None,
    metric: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    checkpoint_minutes: float = 2.0,
    out: Path | None = None,
    device: Device = "auto",
) -> int:
    """Search for the options that train best on a set of pictures, by many short runs of which the best go on.

    The same command continues a search that was stopped or killed. The best run is kept, trained for half of the minutes.

    Parameters
    ----------
    source
        As in `limner train`.
    second
        As in `limner train`, for recipes that translate.
    minutes
        Of the whole search: 60, 90m, 2h (default: 60).
    images
        Instead of minutes, the budget of the best run in images seen.
    recipe
        The recipe whose options are searched.
    over
        Options to vary, with or without values: generator.width, batch=16,32, generator-optimizer.lr=1e-4..1e-2 (default: learning rates,
        widths, batch, objective and augmentation).
    settings
        How many settings are drawn at most; the first is that of the recipe as it is.
    metric
        What decides, as in `limner train`.
    seed
        Seed of the search and of all runs.
    threads
        CPU threads of each run (default: the fastest number).
    checkpoint_minutes
        Minutes between checkpoints; a kill loses at most these.
    out
        The search's folder (default: runs/DATA-search).
    """
    from limner.data.request import DataRequest
    from limner.families.search.run import search as run_search
    from limner.runs.options import Options

    options = Options(
        minutes=minutes, images=images, seed=seed, device=device, threads=threads, metric=metric, checkpoint_minutes=checkpoint_minutes
    )
    request = DataRequest(second=second, **keywords(reading or TrainingFlags()))
    tell("Starting (loading PyTorch) ...")
    with Progress("decoding") as progress:
        found = run_search(
            source, recipe=recipe, over=over or (), options=options, settings=settings, out=out, request=request, progress=progress
        )
    if found.signal:
        return 128 + found.signal
    noise = "" if found.noise is None else f" Two seeds of one setting differ by {found.noise:.0%}."
    tell(f"The best run has {found.metric} {found.value:.4g}{'' if found.finished else ' (not at its end)'}: {found.folder}.{noise}")
    print_line(found.command)
    return 0

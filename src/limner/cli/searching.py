"""The command of searches for options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, print_line, tell
from limner.cli.flags import parse_size


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
    size: str | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    channels: Literal["auto", "1", "3", "4"] = "auto",
    background: str = "white",
    labels: Path | None = None,
    captions: str | None = None,
    drop_duplicates: bool = False,
    unconditional: bool = False,
    classes_from: Literal["auto", "parent", "top"] = "auto",
    halves: bool = False,
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
    size
        Height and width in pixels, as in `limner train`.
    fit
        As in `limner train`.
    channels
        As in `limner train`.
    background
        As in `limner train`.
    labels
        As in `limner train`.
    captions
        As in `limner train`, for text2image.
    drop_duplicates
        As in `limner train`.
    unconditional
        Ignore the classes.
    classes_from
        As in `limner train`.
    halves
        As in `limner train`, for recipes that translate.
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
    request = DataRequest(
        second=second, size=parse_size(size), fit=fit, channels=channels, background=background, labels=labels, captions=captions,
        drop_duplicates=drop_duplicates, unconditional=unconditional, classes_from=classes_from, halves=halves,
    )  # fmt: skip
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

"""Commands before and during training: data, train, recipes, doctor, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from limner.cli.app import STARTED, Progress, app, print_line, show_table, tell
from limner.cli.flags import changes as changes_of
from limner.cli.reading import Reading, ReadingFlags, TrainingFlags, TrainingReading, keywords


@app.command
def data(
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    reading: Reading = None,
    sheet: Path | None = None,
) -> None:
    """Inspect a set of pictures before training: what it holds, what is damaged, what would be trained on.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    sheet
        Where to write a sheet of thumbnails, a .png outside the data (default: none is written).
    """
    from limner.core.files import lies_in
    from limner.core.images import png
    from limner.data import open_source, scan
    from limner.data.open import expand_path
    from limner.data.report import report_table, write_sheet

    if sheet:  # before pictures are decoded
        png(sheet)
        if lies_in(sheet, expand_path(source)):
            raise ValueError(f"The sheet {sheet} would lie among the pictures it shows: choose a place outside {source}.")
    given = keywords(reading or ReadingFlags())
    found = (given.pop("labels") or True, given.pop("classes_from"))
    with Progress("reading") as progress:
        report = scan(open_source(source, *found), progress=progress, **given)
    show_table(report_table(report))
    if sheet:
        write_sheet(sheet, report)
        print_line(f"A sheet of thumbnails is in {sheet}.")


def train(
    source: Annotated[str | None, Parameter(name="data")] = None,
    second: Annotated[str | None, Parameter(name="second")] = None,
    /,
    *,
    resume: Path | None = None,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    more: str | None = None,
    recipe: str = "auto",
    reading: TrainingReading = None,
    options: Any = None,
    choices: Any = None,
) -> int:
    """Train on a set of pictures. The same command again resumes, as `--resume RUN` does; `--recipe NAME --help` shows a
    recipe's own options.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    second
        What to translate to, for recipes that translate: pictures of equal names for pix2pix, any for cyclegan and cut.
        Without it, the first holds pairs: pictures of two sides, or a CSV of two columns.
    resume
        The folder of a run to continue with the options it was started with; no data is given then.
    from_
        A trained run to start from: its networks and their averages are taken over, as far as they fit these pictures. Recipe,
        options and size are those of that run unless given here.
    more
        Train the run of --resume longer than its budget: 10m, 1h30, or "50k images"; can be repeated. Learning rates follow the
        schedule of the longer budget, and rise again if they had decayed. Pictures may have been added to the set.
    recipe
        How to train: auto, or one that `limner recipes` lists.
    """
    from limner.families import train as families
    from limner.runs.options import Options

    architecture = getattr(choices, "architecture", None)
    # the choice of `auto` and the recipe of a parent are not known here: every value that the user sets is a change
    defaults = None if recipe == families.AUTO else families.defaults(recipe, architecture)
    changes = changes_of(choices, defaults) if choices else {}
    if architecture:
        changes["architecture"] = architecture
    with Progress("decoding") as progress:
        trained = families.train(
            source,
            second,
            resume=resume,
            from_=from_,
            more=more,
            started=STARTED,
            recipe=recipe,
            **keywords(reading or TrainingFlags()),
            options=Options(**(vars(options) if options else {})),
            progress=progress,
            changes=changes,
        )
    outcome = trained.outcome
    if outcome.finished:
        tell(f"Done: {outcome.seen:,} images seen. Samples: {trained.folder / 'preview.png'}")
        tell(f"Next: {families.next_command(trained.recipe, trained.folder)}")
        return 0
    tell(f"Stopped at {outcome.seen:,} images; everything is saved. Continue: limner train --resume {trained.folder}")
    return 128 + (outcome.signal or 0)


@app.command
def recipes() -> None:
    """List the recipes and their sources."""
    from limner.families.train import table

    show_table(table())


@app.command
def doctor(run: Path, /, *, html: Path | None = None) -> None:
    """Report the problems found in a run, with plots of all signals over training.

    Parameters
    ----------
    run
        The folder that `limner train` wrote; it may still be training.
    html
        Where to write the page with the plots (default: doctor.html in the run folder).
    """
    from limner.apps.doctor import read_report, table, write_page

    report = read_report(run)
    page = html or run / "doctor.html"
    write_page(report, page)
    if report.findings:
        show_table(table(report))
    else:
        print_line(f"{report.name}: {report.verdict}")
    print_line(f"Plots are in {page}.")


@app.command
def show(run: Path, /) -> None:
    """Show the content of a run folder: data, recipe, progress, metrics.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    """
    from limner.apps.show import table

    show_table(table(run))

"""Verbs before and during training: data, train, recipes, doctor, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from limner.cli.app import Progress, app, print_line, show_table, tell
from limner.cli.flags import changes as changes_of
from limner.cli.flags import parse_size


@app.command
def data(
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    size: str | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    channels: Literal["auto", "1", "3", "4"] = "auto",
    background: str = "white",
    labels: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Look at a set of pictures before training: what is there, what is damaged, what would be trained.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    size
        Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).
    fit
        How a picture of another shape is brought to the size.
    channels
        1 grey, 3 RGB, 4 RGBA; auto takes what the pictures have.
    background
        What transparent pictures are flattened on, and bars of --fit pad are filled with.
    labels
        A CSV or JSON file that names each picture's class.
    sheet
        Where to write a sheet of thumbnails, a .png (default: data.png, or beside the data where that would lie within it).
    """
    from limner.core.images import png
    from limner.data import open_source, scan
    from limner.data.report import report_table, write_sheet

    place = png(apart(source, sheet))  # said before pictures are decoded
    with Progress("reading") as progress:
        opened = open_source(source, labels=labels or True)
        report = scan(
            opened, size=parse_size(size), fit=fit, channels=channels, background=background, progress=progress
        )
    show_table(report_table(report))
    write_sheet(place, report)
    print_line(f"A sheet of thumbnails is in {place}.")


def apart(source: str, sheet: Path | None) -> Path:
    """Where a sheet of thumbnails goes: never into the folder it shows, which would hold one picture more from then on.

    Raises ValueError for a place within that folder.
    """
    place = sheet or Path("data.png")
    try:
        root = Path(source).expanduser()
    except RuntimeError:  # the home of nobody: it is said when the pictures are opened
        return place
    if not root.is_dir() or not place.resolve().is_relative_to(root.resolve()):
        return place
    if sheet:
        raise ValueError(f"The sheet {sheet} would lie among the pictures it shows: give a place outside {source}.")
    return root.resolve().with_name(f"{root.resolve().name}-{place.name}")


def train(
    source: Annotated[str, Parameter(name="data")],
    second: Annotated[str | None, Parameter(name="second")] = None,
    /,
    *,
    recipe: str = "auto",
    size: str | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    channels: Literal["auto", "1", "3", "4"] = "auto",
    background: str = "white",
    labels: Path | None = None,
    drop_duplicates: bool = False,
    unconditional: bool = False,
    options: Any = None,
    choices: Any = None,
) -> int:
    """Train on a set of pictures. The same command again resumes; `--recipe NAME --help` shows a recipe's own options.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    second
        What to translate to, for recipes that translate: pictures of equal names for pix2pix, any for cyclegan and cut.
        Without it, the first holds pairs: pictures of two sides, or a CSV of two columns.
    recipe
        How to train: auto, or one that `limner recipes` lists.
    size
        Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).
    fit
        How a picture of another shape is brought to the size.
    channels
        1 grey, 3 RGB, 4 RGBA; auto takes what the pictures have.
    background
        What transparent pictures are flattened on, and bars of --fit pad are filled with.
    labels
        A CSV or JSON file that names each picture's class.
    drop_duplicates
        Train on one of each group of equal pictures.
    unconditional
        Ignore the classes.
    """
    from limner import recipes

    architecture = getattr(choices, "architecture", None)
    # what `auto` will choose is not known here: whatever a person says is a change
    usual = None if recipe == recipes.AUTO else recipes.defaults(recipe, architecture)
    changes = changes_of(choices, usual) if choices else {}
    if architecture:
        changes["architecture"] = architecture
    with Progress("decoding") as progress:
        trained = recipes.train(
            source,
            second,
            recipe=recipe,
            size=parse_size(size),
            fit=fit,
            channels=channels,
            background=background,
            labels=labels,
            drop_duplicates=drop_duplicates,
            unconditional=unconditional,
            options=recipes.Options(**(vars(options) if options else {})),
            progress=progress,
            changes=changes,
        )
    outcome = trained.outcome
    if outcome.finished:
        tell(f"Done: {outcome.seen:,} images seen. Samples: {trained.folder / 'preview.png'}")
        tell(f"Next: limner {recipes.next_verb(recipe)} {trained.folder}")
        return 0
    tell(f"Stopped at {outcome.seen:,} images; everything is saved. The same command again goes on from there.")
    return 128 + (outcome.signal or 0)


@app.command
def recipes() -> None:
    """List the recipes and where they come from."""
    from limner.recipes import table

    show_table(table())


@app.command
def doctor(run: Path, /, *, html: Path | None = None) -> None:
    """Tell what went wrong in a run, or that nothing did, with plots of every signal over training.

    Parameters
    ----------
    run
        The folder that `limner train` wrote; it may still be training.
    html
        Where to write the page with the plots (default: doctor.html in the run folder).
    """
    from limner.apps.doctor import examine, table, write_page

    report = examine(run)
    page = html or run / "doctor.html"
    write_page(report, page)
    show_table(table(report))
    print_line(f"Plots are in {page}.")


@app.command
def show(run: Path, /) -> None:
    """Tell what a run folder holds: the data, the recipe, how far it is, its figures.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    """
    from limner.apps.show import table

    show_table(table(run))

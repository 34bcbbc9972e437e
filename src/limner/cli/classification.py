"""Command of classifiers: classify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, show_table, tell


@app.command
def classify(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    /,
    *,
    out: Path | None = None,
    sheet: Path | None = None,
    top: int | None = None,
    suggest: int | None = None,
    labels: Path | None = None,
    confusion: Path | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Classify a picture, a folder or a zip: calibrated probabilities, or the pictures to label next.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        A picture, a folder, a zip or arrays; of any size and mode.
    out
        A table of all predictions: a .csv with the columns file, label, probability and one for each class, or a .json.
    sheet
        A PNG of pictures in rows by predicted class, with the probability.
    top
        Write only this many of the most probable classes, for classifiers of many classes.
    suggest
        Choose this many pictures whose labels would teach the most, for example 20: a .csv to fill in and to train with
        as --labels (--out, by default suggestions.csv in the run folder), and a sheet of them.
    labels
        A CSV or JSON of known classes: the accuracy is measured on them; with --suggest they are left out.
    confusion
        A PNG of the confusion matrix of labeled pictures, by --labels or by the folders they lie in.
    seed
        Random seed of --suggest.
    """
    from limner.apps.classify import Classifier
    from limner.apps.classify_files import classify as work
    from limner.apps.classify_files import table

    model = open_model(run, device, Classifier, "classify")
    with Progress("classifying") as progress:
        found, line = work(model, source, out, sheet, top, suggest, labels, confusion, seed, tell, progress)
    if suggest is None:
        show_table(table(found))
    print_line(line)

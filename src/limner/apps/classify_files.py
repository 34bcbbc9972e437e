"""`limner classify`: one picture, a folder or a zip; a table, sheets, the pictures to label next, and a confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from limner.apps.class_sheets import percent, write_class_sheet, write_suggestion_sheet
from limner.apps.classify import Classifier
from limner.apps.predictions import Predictions, Progress, open_pictures, predict, table_path, write_predictions
from limner.apps.sample import destination
from limner.apps.suggest import suggest, write_suggestions
from limner.core.condition import UNLABELED
from limner.core.images import png, write_png
from limner.core.text import counted
from limner.data import Source, open_source
from limner.data.dataset import and_skipped
from limner.data.labels import match_labels, read_labels
from limner.data.open import expand_path
from limner.evaluation.classification import Classification, draw_confusion

SHOWN = 20  # lines of the table in the terminal


def classify(
    model: Classifier,
    place: Path,
    out: Path | None = None,
    sheet: Path | None = None,
    top: int | None = None,
    suggestions: int | None = None,
    labels: Path | None = None,
    confusion: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> tuple[Predictions, str]:
    """Classify a picture, a folder or a zip. Returns the predictions and a sentence that names the outputs.

    out: the table, .csv or .json. sheet: a .png with pictures by predicted class. top: write the probabilities of this many
    classes, not of all. suggestions: choose so many pictures to label next, and write them as a table and a sheet (by default
    `suggestions.csv` and `.png` in the run folder) in place of the predictions; pictures in `labels` are left out. confusion: a
    .png of the confusion matrix of labeled pictures, by `labels` or by the folders they lie in. Raises ValueError when no
    picture can be read, and for paths and numbers without a meaning.
    """
    if top is not None and top < 1:
        raise ValueError("At least one class is written: give --top 1 or more.")
    for path in (sheet, confusion):
        if path:
            png(path)
    if suggestions is not None:
        return _suggest(model, place, out, sheet, suggestions, labels, confusion, seed, say, progress)
    if out:
        table_path(out)
    source = open_pictures(place)
    truth = true_labels(source, place, labels) if confusion or labels else {}
    found = predict(model, source, keep=sheet is not None, progress=progress)
    _report_bad(found, say)
    sentences = [f"{counted(len(found), 'picture is', 'pictures are')} classified{and_skipped(len(found.bad))}"]
    written = []
    if truth:
        result = measured(found, truth, say)
        low, high = result.interval
        sentences.append(
            f"{result.accuracy:.1%} of {len(result.labels):,} with a label are right (95 % interval {low:.1%} to {high:.1%}), "
            f"expected calibration error {result.calibration_error:.3f}"
        )
        if confusion:
            write_png(confusion, draw_confusion(result.confusion(), result.classes, f"{model.folder.name}: {result.accuracy:.1%} right"))
            written.append(f"the confusion matrix in {confusion}")
    if out:
        write_predictions(out, found, top)
        written.insert(0, f"the table in {out}")
    if sheet:
        write_class_sheet(sheet, found)
        written.append(f"the sheet in {sheet}")
    if model.temperature == 1:
        say("The probabilities are not calibrated: in training too few labeled pictures were held out (--validation 0.2 does so).")
    ending = f". Written: {', '.join(written)}." if written else "."
    return found, "; ".join(sentences) + ending


def _suggest(model: Classifier, place: Path, out: Path | None, sheet: Path | None, count: int, labels: Path | None,
             confusion: Path | None, seed: int, say: Callable[[str], None], progress: Progress | None) -> tuple[Predictions, str]:  # fmt: skip
    if confusion:
        raise ValueError("--suggest looks for pictures without labels, and --confusion needs labels: leave one out.")
    if count < 1:
        raise ValueError("At least one picture is suggested: give --suggest 1 or more.")
    out = destination(model.folder, out, "suggestions.csv")
    if out.suffix.lower() != ".csv":
        raise ValueError(f"Pictures to label are written as a .csv, not as {out.name!r}.")
    sheet = sheet or out.with_suffix(".png")
    source = open_pictures(place)
    labeled = true_labels(source, place, labels) if labels else {}
    found = predict(model, source, keep=True, features=True, progress=progress)
    _report_bad(found, say)
    chosen = suggest(found, count, labeled, seed)
    write_suggestions(out, found, chosen)
    write_suggestion_sheet(sheet, found, chosen)
    few = f" (all that have no label{and_skipped(len(found.bad))})" if len(chosen) < count else ""
    return found, (
        f"{counted(len(chosen), 'picture')} to label next {'is' if len(chosen) == 1 else 'are'} in {out}{few}, shown in {sheet}: fill in the "
        "column label, and give the file to `limner train --labels`."
    )


def _report_bad(found: Predictions, say: Callable[[str], None]) -> None:
    for name, why in found.bad:
        say(f"Skipped {name}: {why}.")


def true_labels(source: Source, place: Path, labels: Path | None) -> dict[str, str]:
    """Return the class name of each picture that has one, by the picture's name: from a file, or from the folders.

    Raises ValueError when no picture has a label.
    """
    if labels is not None and labels.suffix.lower() in (".csv", ".json"):
        path = expand_path(labels)
        try:
            table = read_labels(path.read_bytes(), path.name, named=True)
        except OSError as error:
            raise ValueError(f"The labels file {labels} cannot be read: {error.strerror or error}.") from error
        found = match_labels(source.names, table)
        given = {name: label for name, label in zip(source.names, found, strict=True) if label is not None}
        if not given:
            raise ValueError(f"{labels} labels none of the pictures: it needs lines of file,label with the names of the pictures.")
        return given
    if place.is_dir() or labels is not None or place.suffix.lower() in (".zip", ".npy", ".npz"):
        for splits in (True, False):  # folders named train and test are no classes
            whole = open_source(str(place), labels=labels or True, splits=splits, partial=True)
            parts = [part for part in (whole, whole.validation) if part is not None and part.labels is not None]
            given = {
                name: part.classes[k]
                for part in parts
                for name, k in zip(part.names, part.labels, strict=True)  # type: ignore[arg-type]
                if k != UNLABELED
            }
            if given:
                return given
    raise ValueError(f"{place} has no labels to compare with: put each class into a folder of its own, or give --labels.")


def measured(found: Predictions, truth: Mapping[str, str], say: Callable[[str], None]) -> Classification:
    """Return the metrics on the pictures whose class the classifier was trained on. Raises ValueError when there is none."""
    index = {name: k for k, name in enumerate(found.classes)}
    given = [truth.get(name) for name in found.names]
    rows = [i for i, name in enumerate(given) if name in index]
    strange = sorted({name for name in given if name is not None and name not in index})
    if not rows:
        raise ValueError(
            f"None of the labels is a class of this classifier: they are {some(strange)}, and its classes are {some(found.classes)}."
        )
    if strange:
        say(f"Pictures of classes that the classifier was not trained on are left out of the accuracy: {some(strange)}.")
    right = np.array([index[str(given[i])] for i in rows], np.int64)
    return Classification(found.probabilities[rows], right, found.classes)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return at most a few names, as a list in a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def table(found: Predictions, rows: int = SHOWN) -> Table:
    """Return the first predictions as a table for the terminal."""
    caption = f"The first {rows:,} of {len(found):,}." if len(found) > rows else None
    drawn = Table(caption=caption, caption_justify="left")
    drawn.add_column("file", overflow="ellipsis", no_wrap=True, max_width=48)
    drawn.add_column("class", no_wrap=True)
    drawn.add_column("probability", justify="right", no_wrap=True)
    drawn.add_column("next", no_wrap=True, style="dim")
    order = found.order
    for i in range(min(rows, len(found))):
        others = [f"{found.classes[k]} {percent(found.probabilities[i, k])}" for k in order[i, 1:3]]
        drawn.add_row(escape(found.names[i]), escape(found.label(i)), percent(found.confidence[i]), escape(", ".join(others)))
    return drawn

"""`limner evaluate` of a classifier: accuracy and calibration on labeled pictures that it was not trained on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import limner
from limner.apps.class_sheets import captioned, percent
from limner.apps.classify import CHUNK, Classifier
from limner.core import artifact
from limner.core.condition import UNLABELED
from limner.core.lettering import drawable
from limner.core.text import counted
from limner.data import Dataset, open_source, prepare
from limner.data.partial import MIN_LABELED_HELD_OUT, draw_labels, split_labeled
from limner.evaluation import ImageSet, Result
from limner.evaluation.classification import BINS, Classification, draw_confusion
from limner.evaluation.metrics import Metric

MISTAKES = 40     # pictures on the sheet of mistakes
Progress = Callable[[int, int], None]  # (done, total)


def measure_classifier(
    model: Classifier, places: Sequence[str], n: int, seed: int = 0, labels: Path | None = None, progress: Progress | None = None
) -> Result:
    """Measure a classifier on at most n labeled pictures: those of the data's held-out split, or those held out in training.

    Returns accuracy, calibration error and cross-entropy, the accuracy and precision of each class, and as pictures the
    confusion matrix and the surest mistakes. Raises ValueError for pictures without labels and for unknown classes.
    """
    if len(places) != 1:
        raise ValueError(f"{model.folder} is measured on one set of labeled pictures: give one --data.")
    pictures, warnings = held_out_pictures(model, places[0], labels)
    pictures = pictures.some(n, seed)
    assert pictures.labels is not None
    parts = []
    for start in range(0, len(pictures), CHUNK):
        parts.append(model.logits(pictures.images[start : start + CHUNK].numpy()))
        if progress:
            progress(min(start + CHUNK, len(pictures)), len(pictures))
    found = Classification(model.probabilities(np.concatenate(parts)), pictures.labels.numpy(), model.classes)
    if model.temperature == 1:
        warnings.append("The classifier was not calibrated: with --validation 0.2 its training holds labeled pictures out for that.")
    if len(pictures) < 100:
        warnings.append(f"{counted(len(pictures), 'picture is', 'pictures are')} few: see the interval of the accuracy, and read the calibration error as an upper bound.")
    title = f"{model.folder.name}: {found.accuracy:.1%} of {len(pictures):,} right"
    shown = {"confusion": draw_confusion(found.confusion(), found.classes, title)}
    if (mistakes := surest_mistakes(pictures, found)) is not None:
        shown["mistakes"] = mistakes
    return Result(
        metrics_of(found), per_class(found), protocol_of(model, pictures, seed), [*pictures.notes, *warnings],
        title=f"{model.folder.name} on {pictures.name} ({len(pictures):,} labeled pictures)", findings=confusions(found),
        curve=[{name: entry[name] for name in ("images", "accuracy")} for entry in artifact.read_log(model.folder) if "accuracy" in entry],
        pictures=shown,
    )  # fmt: skip


def held_out_pictures(model: Classifier, place: str, labels: Path | None = None) -> tuple[ImageSet, list[str]]:
    """Return labeled pictures of a place, prepared as in the training and with the classifier's numbers of the classes, and
    warnings. They are the place's own held-out split, else those held out of the training if the place holds its pictures,
    else all."""
    whole = prepare(
        open_source(place, labels=labels or True, partial=True), size=model.spec.size, channels=str(model.spec.channels),
        **artifact.preparation(model.description),
    )  # fmt: skip
    data, warnings = _held_out(model, whole)
    if data.labels is None:
        raise ValueError(f"{place} has no labels to compare with: put each class into a folder of its own, or give --labels.")
    index = {name: k for k, name in enumerate(model.classes)}
    numbers = torch.tensor([*(index.get(name, UNLABELED) for name in data.classes), UNLABELED])
    right = numbers[data.labels]  # the label UNLABELED, -1, is the last entry
    rows = torch.nonzero(right != UNLABELED)[:, 0]
    if not len(rows):
        raise ValueError(
            f"None of the classes of {place} is one of the classifier's: they are {', '.join(data.classes[:5])}, and its classes "
            f"are {', '.join(model.classes[:5])}."
        )
    if strange := [name for name in data.classes if name not in index]:
        warnings.append(f"Pictures of classes that the classifier was not trained on are left out: {', '.join(strange[:5])}.")
    names = tuple(data.names[i] for i in rows.tolist())
    return ImageSet(data.images[rows], right[rows], model.classes, data.name, list(data.notes), names), warnings


def _held_out(model: Classifier, whole: Dataset) -> tuple[Dataset, list[str]]:
    own = whole.own_validation()
    if own is not None and own.labels is not None:
        return own, []
    recipe, training = model.description["recipe"], model.description["training"]
    trained = model.description["data"]
    known = str(trained.get("fingerprint", ""))
    if whole.labels is None or not known or known.split("-")[0] != whole.fingerprint:
        if (trained.get("origin"), trained.get("count")) == (whole.origin, len(whole)):  # the fingerprint covers the labels too
            return whole, ["These seem to be the pictures of the training with other labels: if so, the accuracy on new ones is lower."]
        return whole, []
    drawn = whole.labels
    if recipe.get("labels_per_class"):
        drawn = draw_labels(drawn, int(recipe["labels_per_class"]), int(recipe.get("label_draw", 0)))
    held_out = split_labeled(replace(whole, labels=drawn), recipe.get("validation"), int(training["seed"]), MIN_LABELED_HELD_OUT)[1]
    if len(held_out) and len(held_out) == training.get("held_out_count"):
        return whole.copied(held_out), []
    unseen = np.flatnonzero((drawn == UNLABELED).numpy() & (whole.labels != UNLABELED).numpy())
    if len(unseen):
        return whole.copied(unseen), ["The pictures were trained on without their labels: new pictures may be classified less well."]
    return whole, ["The classifier was trained on these very pictures, so the accuracy on new ones is lower: give others as --data."]


def metrics_of(found: Classification) -> list[Metric]:
    """Return the metrics as rows of a report."""
    n = f"{len(found.labels):,} pictures"
    return [
        Metric("accuracy", "", found.accuracy, "higher", *found.interval, detail=f"share of right predictions, {n}"),
        Metric("balanced_accuracy", "", found.balanced_accuracy, "higher", detail="mean of the classes' accuracies"),
        Metric("calibration_error", "", found.calibration_error, "lower", detail=f"expected calibration error, {BINS} bins"),
        Metric("cross_entropy", "", found.cross_entropy, "lower", detail="negative log-likelihood of the labels, nats"),
    ]


def per_class(found: Classification) -> dict[str, dict[str, float]]:
    """Return accuracy and precision by the names of the classes."""
    return {
        "accuracy": dict(zip(found.classes, found.recall().tolist(), strict=True)),
        "precision": dict(zip(found.classes, found.precision().tolist(), strict=True)),
    }


def confusions(found: Classification, most: int = 3) -> list[str]:
    """Return a sentence on the pairs of classes that are confused most; empty without mistakes."""
    wrong = found.confusion()
    np.fill_diagonal(wrong, 0)
    pairs = [divmod(int(k), len(found.classes)) for k in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    named = [f"{found.classes[i]} for {found.classes[j]} ({wrong[i, j]:,})" for i, j in pairs if wrong[i, j]]
    return [f"Most often taken for another class: {', '.join(named)}."] if named else []


def surest_mistakes(pictures: ImageSet, found: Classification) -> np.ndarray | None:
    """Return a sheet of the wrong predictions with the highest probability, uint8 [3,H,W]; None without mistakes."""
    wrong = np.flatnonzero(found.predicted != found.labels)
    wrong = wrong[np.argsort(-found.probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    if not len(wrong):
        return None
    names = [drawable(name, f"#{k}", 13) for k, name in enumerate(found.classes)]
    cells = [
        (pictures.images[i].numpy(), f"{names[found.predicted[i]]} {percent(found.probabilities[i].max())}\nlabel: {names[found.labels[i]]}")
        for i in wrong.tolist()
    ]
    return captioned([("", cells[start : start + 5]) for start in range(0, len(cells), 5)])


def protocol_of(model: Classifier, pictures: ImageSet, seed: int) -> dict[str, object]:
    """Return everything that the values depend on."""
    return {
        "pictures": {"name": pictures.name, "n": len(pictures), "classes": len(pictures.classes), "spec": str(pictures.spec)},
        "temperature": model.temperature, "bins": BINS, "seed": seed, "limner": limner.__version__,
        "torch": torch.__version__, "machine": platform.machine(),
    }  # fmt: skip

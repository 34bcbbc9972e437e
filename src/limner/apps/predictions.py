"""Predictions of a classifier for many pictures, and their table as a CSV or a JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from limner.apps.classify import CHUNK, Classifier
from limner.apps.pictures_out import open_many
from limner.core.files import write_whole
from limner.core.text import printable
from limner.data import Damaged, Source
from limner.data.image import reason
from limner.data.source import short_name

TABLES = (".csv", ".json")
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Predictions:
    """The probabilities of many pictures, in their order."""

    names: list[str]                 # [N]
    probabilities: np.ndarray        # float64 [N,K]
    classes: tuple[str, ...]         # K names
    bad: list[tuple[str, str]]       # pictures that were skipped, with the reason
    pictures: np.ndarray             # uint8 [N,C,H,W] as the network took them; [0,C,H,W] if they were not kept
    features: np.ndarray             # float32 [N,F]; [0,0] if they were not computed

    def __len__(self) -> int:
        return len(self.names)

    @property
    def order(self) -> np.ndarray:
        """The classes of each picture from the most to the least probable, int64 [N,K]."""
        return np.argsort(-self.probabilities, 1, kind="stable")

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each picture, int64 [N]."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the predicted class [N]."""
        return self.probabilities.max(1)

    def label(self, i: int) -> str:
        return self.classes[int(self.predicted[i])]


def open_pictures(place: Path) -> Source:
    """Return a file, a folder, a zip, IDX or array files as a Source, without classes. Raises ValueError when it is none."""
    if place.is_file() and place.suffix.lower() not in (".zip", ".npy", ".npz") and "idx" not in place.name.lower():
        return Source(
            name=short_name(place.stem), origin=printable(place.name), names=[printable(place.name)],
            content=lambda _: io.BytesIO(place.read_bytes()), version=lambda: str(place.stat().st_mtime_ns),
        )  # fmt: skip
    return open_many(place)


def predict(model: Classifier, source: Source, *, keep: bool = False, features: bool = False,
            progress: Progress | None = None) -> Predictions:  # fmt: skip
    """Classify all pictures of a source, in chunks; damaged ones are skipped.

    keep: keep the pictures at the network's size. features: compute the network's features too. Raises ValueError if no
    picture can be read.
    """
    names: list[str] = []
    bad = list(source.bad)
    shape = (0, model.spec.channels, *model.spec.size)
    logits = [np.zeros((0, len(model.classes)), np.float32)]
    pictures, found = [np.zeros(shape, np.uint8)], []
    with ThreadPoolExecutor() as pool:
        for rows in _chunks(range(len(source))):
            decoded = list(pool.map(lambda i: _decode(model, source, i), rows))
            good = [one for one in decoded if isinstance(one, np.ndarray)]
            for i, one in zip(rows, decoded, strict=True):
                if isinstance(one, np.ndarray):
                    names.append(source.names[i])
                else:
                    bad.append((source.names[i], one))
            if good:
                x = np.stack(good)
                logits.append(model.logits(x))
                if keep:
                    pictures.append(x)
                if features:
                    found.append(model.encode(x))
            if progress:
                progress(rows[-1] + 1, len(source))
    if not names:
        name, why = bad[0]
        if [name] == source.names == [source.origin]:  # a single file
            raise ValueError(f"{name} cannot be used: {why}.")
        raise ValueError(f"{source.origin[:1].upper()}{source.origin[1:]} holds no usable picture: {name} cannot be read ({why}).")
    return Predictions(
        names, model.probabilities(np.concatenate(logits)), model.classes, bad, np.concatenate(pictures),
        np.concatenate(found) if found else np.zeros((0, 0), np.float32),
    )  # fmt: skip


def _chunks(rows: range) -> Iterator[list[int]]:
    waiting = iter(rows)
    while part := list(islice(waiting, CHUNK)):
        yield part


def _decode(model: Classifier, source: Source, i: int) -> np.ndarray | str:
    """Return picture i of a source, uint8 [C,H,W], or the reason why it cannot be read."""
    try:
        return model.decoded(source.open(i))
    except (Damaged, OSError) as error:
        return reason(error)


# ---- files -----------------------------------------------------------------------------------------------------------


def table_path(path: Path) -> Path:
    """Return the path of a table. Raises ValueError unless it ends in .csv or .json."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"The predictions are written as {' or '.join(TABLES)}, not as {path.name!r}.")
    return path


def write_predictions(path: Path, found: Predictions, top: int | None = None) -> None:
    """Write predictions as .csv or .json, atomically.

    CSV: the columns file, label and probability, then a column for each class with its probability; with `top`, in place of
    these, the columns label_2 and probability_2 up to `top`. `limner train --labels` reads it as a file of labels. JSON: a
    list of {"file", "label", "probability", "probabilities": {class: probability}}, with `top` of the first classes only.
    """
    order = found.order[:, : top or None]
    if path.suffix.lower() == ".json":
        rows = [
            {
                "file": name, "label": found.label(i), "probability": _rounded(found.confidence[i]),
                "probabilities": {found.classes[k]: _rounded(found.probabilities[i, k]) for k in (order[i] if top else range(len(found.classes)))},
            }
            for i, name in enumerate(found.names)
        ]  # fmt: skip
        write_whole(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = [f"{what}_{k}" for k in range(2, order.shape[1] + 1) for what in ("label", "probability")] if top else [*found.classes]
    writer.writerow(["file", "label", "probability", *more])
    for i, name in enumerate(found.names):
        p = found.probabilities[i]
        rest = [cell for k in order[i, 1:] for cell in (found.classes[k], _rounded(p[k]))] if top else [_rounded(v) for v in p]
        writer.writerow([cell_name(name), found.label(i), _rounded(found.confidence[i]), *rest])
    write_whole(path, text.getvalue())


def cell_name(name: str) -> str:
    """Return the name of a picture for a CSV: one that a spreadsheet would run as a formula gets a `./` in front, which names the
    same file and is left out when labels are read."""
    return f"./{name}" if name[:1] in ("=", "+", "-", "@") else name


def _rounded(value: float) -> float:
    return round(float(value), 6)

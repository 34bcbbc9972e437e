"""Which unlabeled pictures to label next, so that a classifier learns the most from a few labels.

Ash et al. 2020, "Deep batch active learning by diverse, uncertain gradient lower bounds" (BADGE), algorithm 1: each picture is
represented by the gradient of the cross-entropy of its predicted class by the weights of the last layer. It is long where the
classifier is unsure, and its direction depends on the features. k-means++ (Arthur & Vassilvitskii 2007) on these vectors
chooses pictures that are both uncertain and different from each other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container
from pathlib import Path

import numpy as np

from limner.apps.predictions import Predictions, cell_name
from limner.core.files import write_whole


def informative(probabilities: np.ndarray, features: np.ndarray, n: int, seed: int = 0) -> list[int]:
    """Return at most n rows in the order of their choice; the same for the same seed.

    probabilities: [N,K]. features: [N,F], the input of the last layer. The vector of a picture is the outer product of
    (probabilities - one-hot of the predicted class) and its features (eq. 1). It is never formed: inner products of outer
    products are products of inner products. The first row has the longest vector, as in the authors' code; each further one
    is drawn with a probability proportional to its squared distance from the nearest chosen one. Other than in the paper,
    the origin counts as chosen: there lie the pictures that the classifier is sure of, one of which would be drawn among the
    first if they are many. Where all distances are zero, as among copies, the least sure come next.
    """
    a = probabilities.astype(np.float64).copy()
    a[np.arange(len(a)), a.argmax(1)] -= 1
    f = features.astype(np.float64)
    lengths = np.square(a).sum(1) * np.square(f).sum(1)
    rng, n = np.random.default_rng(seed), min(n, len(a))
    distance = lengths.copy()
    chosen = [int(lengths.argmax())] if n else []
    left = np.ones(len(a), bool)
    while len(chosen) < n:
        last = chosen[-1]
        left[last] = False
        inner = (a @ a[last]) * (f @ f[last])
        distance = np.minimum(distance, lengths + lengths[last] - 2 * inner)
        distance[distance < 1e-9 * max(lengths.max(), 1e-300)] = 0  # rounding, which would choose copies
        distance[~left] = 0
        if (total := distance.sum()) > 0:
            chosen.append(int(rng.choice(len(a), p=distance / total)))
        else:
            unsure = np.where(left, -probabilities.max(1), -np.inf)
            chosen.append(int(unsure.argmax()))
    return chosen


def suggest(found: Predictions, n: int, labeled: Container[str] = (), seed: int = 0) -> list[int]:
    """Return the rows of at most n pictures to label next, without those whose names are `labeled`.

    Raises ValueError when every picture is labeled.
    """
    rows = np.array([i for i, name in enumerate(found.names) if name not in labeled], np.int64)
    if not len(rows):
        raise ValueError("All of these pictures have labels already: give the folder of those that have none.")
    return [int(rows[i]) for i in informative(found.probabilities[rows], found.features[rows], n, seed)]


def write_suggestions(path: Path, found: Predictions, chosen: list[int]) -> None:
    """Write the pictures to label as CSV: file, an empty label to fill in, and the prediction with its probability.

    `limner train --labels` reads it once it is filled in; lines without a label are ignored.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "predicted", "probability"])
    for i in chosen:
        writer.writerow([cell_name(found.names[i]), "", found.label(i), round(float(found.confidence[i]), 6)])
    write_whole(path, text.getvalue())

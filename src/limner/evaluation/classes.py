"""Per-class metrics: Fréchet distances, and the accuracy of classifiers trained or tested on generated pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.features.encoder import Encoder, Progress, train_classifier, working_size
from limner.evaluation.features.extractor import resized, with_channels
from limner.evaluation.features.own import OwnFeatures
from limner.evaluation.frechet import frechet_distance
from limner.evaluation.inputs import ImageSet
from limner.evaluation.statistics import Features, two_tables


def frechet_per_class(generated: Features, labels: Tensor, real: Features, real_labels: Tensor) -> dict[int, float]:
    """Return the Fréchet distance within each class of the real rows; NaN if either set has fewer than 2 rows of it.

    Biased upwards for small classes: compare classes with equal numbers of pictures.
    """
    x, y = two_tables(generated, real)
    found = {}
    for label in real_labels.unique().tolist():
        mine, theirs = x[labels == label], y[real_labels == label]
        found[label] = frechet_distance(mine, theirs) if min(len(mine), len(theirs)) >= 2 else float("nan")
    return found


def classification_accuracy(
    train: ImageSet, test: ImageSet, seed: int = 0, progress: Progress | None = None
) -> tuple[float, dict[int, float]]:
    """Train a small classifier on one labeled set and test it on another: (accuracy, accuracy of each class of `test`).

    Trained on generated pictures and tested on real ones, this is the classification accuracy score (Ravuri & Vinyals 2019);
    the reverse measures how well generated pictures show their class. Pictures of both sets are resized to the size of the
    test set's, at most 64 pixels on the longer side. Raises ValueError if either set has no labels or `train` has fewer than
    two classes.
    """
    if train.labels is None or test.labels is None or len(train.labels.unique()) < 2:
        raise ValueError("A classifier needs labels of two classes or more to train on, and labels to test on: give both.")
    channels, size = test.spec.channels, working_size(test.spec.height, test.spec.width)
    images = torch.cat([resized(with_channels(part, channels), size) for part in train.images.split(1024)])
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    encoder: Encoder = train_classifier(images, train.labels, classes, seed, progress)
    return accuracy(OwnFeatures(encoder, channels, size, classes), test)


def accuracy(classifier: OwnFeatures, test: ImageSet) -> tuple[float, dict[int, float]]:
    """Return the classifier's accuracy on `test`, overall and for each class. Raises ValueError if `test` has no labels."""
    if test.labels is None:
        raise ValueError("The pictures have no labels to compare the predictions with: give labels.")
    parts = [classifier.probabilities(part).argmax(1) for part in test.images.split(512)]
    right = (torch.cat(parts) == test.labels).double()
    return right.mean().item(), {
        label: right[test.labels == label].mean().item() for label in test.labels.unique().tolist()
    }

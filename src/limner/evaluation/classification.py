"""Metrics of a classifier on labeled pictures: accuracy, calibration, and the confusion matrix as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from limner.core.lettering import drawable, fitted, font, write

BINS = 15  # of the expected calibration error, as in Guo et al. 2017
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Classification:
    """Predictions for labeled pictures, and what follows from them."""

    probabilities: np.ndarray  # float64 [N,K]
    labels: np.ndarray         # int64 [N]
    classes: tuple[str, ...]   # K names

    def __post_init__(self) -> None:
        assert self.probabilities.shape == (len(self.labels), len(self.classes)) and len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each picture, int64 [N]."""
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy by the number of pictures."""
        return wilson(self.accuracy, len(self.labels))

    @property
    def balanced_accuracy(self) -> float:
        """The mean accuracy of the classes that occur, in which rare classes count as much as frequent ones."""
        recall = self.recall()
        return float(recall[~np.isnan(recall)].mean())

    @property
    def cross_entropy(self) -> float:
        """The mean negative log-likelihood of the labels, in nats."""
        right = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())

    @property
    def calibration_error(self) -> float:
        return expected_calibration_error(self.probabilities, self.labels)

    def confusion(self) -> np.ndarray:
        """Return int64 [K,K]: how many pictures of the row's class were taken for the column's."""
        k = len(self.classes)
        return np.bincount(self.labels * k + self.predicted, minlength=k * k).reshape(k, k)

    def recall(self) -> np.ndarray:
        """Return the accuracy of each class [K]; NaN for a class without pictures."""
        return _divided(self.confusion(), 1)

    def precision(self) -> np.ndarray:
        """Return the share of right ones among the pictures taken for each class [K]; NaN for a class never predicted."""
        return _divided(self.confusion(), 0)


def _divided(matrix: np.ndarray, axis: int) -> np.ndarray:
    total = matrix.sum(axis)
    return np.where(total > 0, np.diag(matrix) / np.maximum(total, 1), np.nan)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n trials (Wilson 1927, "Probable inference"): within [0,1] for few trials too."""
    middle, half = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, (middle - half) / (1 + Z**2 / n)), min(1.0, (middle + half) / (1 + Z**2 / n))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Return the mean distance between confidence and accuracy over equal bins of the confidence (Guo et al. 2017, eq. 3 and 5).

    probabilities: [N,K]. labels: int64 [N]. 0 for a classifier that is right as often as it says; biased upwards for few
    pictures, since the accuracy of a bin with few is far from its mean.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # the bins are (m-1)/M < p <= m/M
    gap = np.bincount(which, right - confidence, bins)  # in each bin, its size times (accuracy - confidence)
    return float(np.abs(gap).sum() / len(labels))


# ---- as a picture ----------------------------------------------------------------------------------------------------

MAX_CLASSES = 60     # with more, the matrix shows those that are confused most
MARGIN, TITLE = 12, 20  # pixels; size of the letters of the title


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> np.ndarray:
    """Return the confusion matrix as a picture uint8 [3,H,W]: rows are the labels, columns the predictions.

    A cell's shade is its share of the row's pictures, its number how many; blue is right, orange wrong. With more than
    MAX_CLASSES classes, those with the most mistakes are shown, and the rest together as "others", whose last cell also holds their mistakes among each other.
    """
    letters = 14 if len(classes) <= 30 else 11
    written = [fitted(drawable(name, f"#{i}", letters), 180, letters) for i, name in enumerate(classes)]
    matrix, names = _shown(np.asarray(matrix), written)
    k = len(names)
    digits = max(font(letters).getlength(f"{int(matrix.max()):,}"), font(letters).getlength("100"))
    cell = int(max(digits + 8, 2 * letters, min(60, 600 // k)))
    beside = int(max(font(letters).getlength(name) for name in names)) + 2 * MARGIN
    left, top = beside + letters + MARGIN, TITLE + beside + 3 * MARGIN
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    width = max(left + k * cell + MARGIN, int(font(TITLE).getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + k * cell + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    write(draw, (MARGIN, MARGIN), title, TITLE)
    write(draw, (left, TITLE + 2 * MARGIN), "predicted class", letters, fill="#555555")
    for i, name in enumerate(names):
        middle = (i + 0.5) * cell
        write(draw, (left - 8, top + middle), name, letters, "rm")
        _write_upward(sheet, (int(left + middle), top - 8), name, letters)
        for j in range(k):
            x, y = left + j * cell, top + i * cell
            color = _shade(float(share[i, j]), right=i == j)
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), color)
            if matrix[i, j]:
                ink = "white" if sum(color) < 330 else "black"
                write(draw, (x + cell / 2 - 1, y + cell / 2), f"{int(matrix[i, j]):,}", letters, "mm", ink)
    _write_upward(sheet, (letters // 2 + 4, top + k * cell), "class", letters, "#555555")
    return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def _shown(matrix: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the matrix and names of at most MAX_CLASSES classes, the others added up in a last row and column."""
    if len(names) <= MAX_CLASSES:
        return matrix, names
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    kept = np.sort(np.argsort(-wrong, kind="stable")[: MAX_CLASSES - 1])
    group = np.full(len(names), len(kept))
    group[kept] = np.arange(len(kept))
    small = np.zeros((len(kept) + 1, len(kept) + 1), np.int64)
    np.add.at(small, (group[:, None], group[None]), matrix)
    return small, [*(names[i] for i in kept), "others"]


def _shade(share: float, right: bool) -> tuple[int, int, int]:
    """Return a color between almost white and full blue (right) or orange (wrong), by the root of the share."""
    full = np.array((31, 94, 168) if right else (208, 92, 0))
    light = np.array((245, 245, 245))
    red, green, blue = (light + (full - light) * math.sqrt(share)).round().astype(int).tolist()
    return red, green, blue


def _write_upward(sheet: Image.Image, at: tuple[int, int], text: str, size: int, fill: str = "black") -> None:
    """Write text from a point upward, centered on it from left to right."""
    length, height = int(font(size).getlength(text)) + 4, size + 6
    strip = Image.new("RGB", (length, height), "white")
    write(ImageDraw.Draw(strip), (0, height / 2), text, size, "lm", fill)
    strip = strip.transpose(Image.Transpose.ROTATE_90)
    sheet.paste(strip, (at[0] - height // 2, at[1] - length))

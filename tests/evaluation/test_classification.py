"""Accuracy, intervals, calibration error and the confusion matrix against closed forms and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torchmetrics.functional.classification import multiclass_calibration_error

from limner.core.lettering import drawable, fitted, font
from limner.evaluation.classification import (
    MAX_CLASSES,
    Classification,
    draw_confusion,
    expected_calibration_error,
    wilson,
)


def drawn(n: int = 500, k: int = 7, seed: int = 0) -> Classification:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.4), n)
    labels = np.array([rng.choice(k, p=row) for row in p])
    return Classification(p, labels, tuple("abcdefghijk"[:k]))


def test_confusion_recall_and_precision_by_counting() -> None:
    one = drawn()
    matrix = one.confusion()
    for i in range(7):
        for j in range(7):
            assert matrix[i, j] == sum((one.labels == i) & (one.predicted == j))
        assert one.recall()[i] == pytest.approx((one.predicted == i)[one.labels == i].mean())
        assert one.precision()[i] == pytest.approx((one.labels == i)[one.predicted == i].mean())
    assert one.accuracy == np.trace(matrix) / 500 and one.balanced_accuracy == pytest.approx(one.recall().mean())
    right = torch.from_numpy(one.probabilities).log()
    assert one.cross_entropy == pytest.approx(float(torch.nn.functional.nll_loss(right, torch.from_numpy(one.labels))))


def test_a_class_without_pictures_is_unknown_and_certain_mistakes_are_finite() -> None:
    one = Classification(np.array([[1.0, 0, 0], [1.0, 0, 0]]), np.array([0, 1]), ("a", "b", "c"))
    assert np.array_equal(one.recall(), [1, 0, np.nan], equal_nan=True) and one.balanced_accuracy == 0.5
    assert np.array_equal(one.precision(), [0.5, np.nan, np.nan], equal_nan=True)
    assert np.isfinite(one.cross_entropy) and one.calibration_error == 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_error_against_torchmetrics(seed: int) -> None:
    one = drawn(seed=seed)
    p, labels = torch.from_numpy(one.probabilities), torch.from_numpy(one.labels)
    theirs = multiclass_calibration_error(p, labels, num_classes=7, n_bins=15, norm="l1")
    assert one.calibration_error == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_of_a_calibrated_and_of_a_certain_classifier() -> None:
    calibrated = drawn(200_000)
    assert calibrated.calibration_error < 0.01  # the labels were drawn from the probabilities
    certain = np.eye(7)[calibrated.predicted]
    assert expected_calibration_error(certain, calibrated.labels) == pytest.approx(1 - calibrated.accuracy)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (37, 50), (990, 1000)])
def test_the_interval_of_the_accuracy(right: int, n: int) -> None:
    found = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((found.low, found.high), abs=1e-6)


def test_the_picture_of_the_matrix_is_large_enough_for_its_numbers() -> None:
    one = drawn()
    image = draw_confusion(one.confusion(), one.classes, "title")
    assert image.dtype == np.uint8 and image.shape[0] == 3
    blue = (image[2].astype(int) - image[0]) > 40
    orange = (image[0].astype(int) - image[2]) > 40
    assert blue.sum() > 7 * 500 and orange.sum() > 500  # the diagonal, and mistakes
    none = draw_confusion(np.diag([5, 5]), ("a", "b"), "title")
    assert not ((none[0].astype(int) - none[2]) > 40).any()  # no mistake, no orange
    large = draw_confusion(np.full((2, 2), 1_234_567), ("a", "b" * 100), "title")
    cell = font(14).getlength("1,234,567")
    assert large.shape[2] > 2 * cell


def test_many_classes_show_those_that_are_confused() -> None:
    k = MAX_CLASSES + 40
    matrix = 50 * np.eye(k, dtype=np.int64)
    matrix[3, 90] = 20
    image = draw_confusion(matrix, [f"class {i}" for i in range(k)], "many")
    assert max(image.shape) < 4000 and ((image[0].astype(int) - image[2]) > 40).sum() > 100


def test_names_that_the_font_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    font.cache_clear()
    monkeypatch.setattr("limner.core.lettering.find_spec", lambda name: None)  # Pillow's own font
    assert drawable("cat", "#1", 14) == "cat" and drawable("é", "#2", 14) == "e" and drawable("猫", "#3", 14) == "#3"
    assert font(14).getlength(fitted("a very long name", 60, 14)) <= 60 and fitted("ab", 60, 14) == "ab"
    font.cache_clear()

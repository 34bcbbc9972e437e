"""Whether generated pictures help: good ones do, mislabeled ones hurt, and the few real ones are what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from limner.evaluation import ImageSet, evaluate
from limner.evaluation.cas import SEEDS, T_QUANTILE, Few, accuracy_scores, draw, interval, mean_deviation, verdict
from limner.evaluation.features import Convolutions

CLASSES = ("left", "right")


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.evaluation.cas.SHOWN", 600)


def pictures(n: int, seed: int, wrong: bool = False) -> ImageSet:
    """16x16 noise in which a faint square lies in the left or the right half; with `wrong`, the labels are exchanged."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 120, (n, 1, 16, 16), dtype=np.uint8)
    labels = np.arange(n) % 2
    for i, label in enumerate(labels):
        top, left = random.integers(0, 11), 8 * label + random.integers(0, 4)
        images[i, :, top : top + 5, left : left + 5] += 60
    return ImageSet(torch.from_numpy(images), torch.from_numpy(1 - labels if wrong else labels), CLASSES, "pictures")


@pytest.mark.slow
def test_pictures_like_the_real_ones_help_and_mislabeled_ones_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.evaluation.cas.SHOWN", 5000)
    real, test = pictures(60, 1), pictures(300, 2)
    seen: list[tuple[int, int]] = []
    scores = accuracy_scores(pictures(400, 3), real, test, (3,), progress=lambda done, total: seen.append((done, total)))
    few = scores.few[0]
    assert len(scores.generated) == len(few.real) == len(few.both) == SEEDS and set(scores.per_class) == {0, 1}
    assert mean_deviation(scores.generated)[0] > 0.9
    assert interval(few.gain)[0] > 0 and verdict(few).startswith("Generated pictures help: with 3 real pictures of each class")
    assert seen[-1][0] == seen[-1][1] and [a for a, _ in seen] == sorted(a for a, _ in seen)
    few = accuracy_scores(pictures(400, 3, wrong=True), real, test, (20,)).few[0]
    assert interval(few.gain)[1] < 0 and verdict(few).startswith("Generated pictures hurt")


def test_the_report_has_the_rows_and_the_sentences() -> None:
    found = evaluate(
        pictures(100, 3), pictures(80, 1), metrics=["cas"], features=Convolutions(1, (16, 16)), real_per_class=(2, 5), cache=False
    )
    names = [m.label for m in found.metrics]
    assert names == ["cas", "cas_reverse", *(f"cas_{what}_{k}" for k in (2, 5) for what in ("real", "both", "gain"))]
    assert found["cas_gain_5"] == pytest.approx(found["cas_both_5"] - found["cas_real_5"])
    assert len(found.findings) == 3 and "the generator may have been trained on" in found.findings[-1]
    assert found.metrics[0].low is not None and f"over {SEEDS} seeds" in found.metrics[0].detail
    with pytest.raises(ValueError, match=r"choose --real-per-class from 1 to [0-9]+, not 50"):
        evaluate(pictures(100, 3), pictures(80, 1), metrics=["cas"], features=Convolutions(1, (16, 16)), real_per_class=(50,))
    with pytest.raises(ValueError, match="give labels for"):
        accuracy_scores(ImageSet(pictures(20, 1).images), pictures(20, 1))


def test_few_pictures_are_drawn_evenly_and_anew_for_each_seed() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5 + [3] * 20)
    drawn = [draw(labels, 4, seed) for seed in range(SEEDS)]
    for rows in drawn:
        assert labels[rows].bincount().tolist() == [4, 4, 0, 4] and len(rows.unique()) == 12
    assert len({tuple(rows.tolist()) for rows in drawn}) == SEEDS and torch.equal(drawn[0], draw(labels, 4, 0))


def test_the_interval_is_students() -> None:
    assert pytest.approx(stats.t.ppf(0.975, SEEDS - 1), abs=1e-5) == T_QUANTILE
    values = [0.1, 0.3, 0.2, 0.25, 0.15]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((theirs.low, theirs.high))
    none = Few(7, [0.5, 0.6, 0.5, 0.6, 0.5], [0.6, 0.5, 0.6, 0.5, 0.6])
    assert verdict(none).startswith("It is not certain that generated pictures help or hurt: with 7 real")
    assert "54.0 ± 5.5 % without them and 56.0 ± 5.5 % with them" in verdict(none)

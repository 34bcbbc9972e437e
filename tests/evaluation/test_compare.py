"""The one call: arrays, folders and zips in, every number with its protocol and its warnings out; reports; the probe."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from limner.evaluation import FrechetProbe, ImageSet, evaluate, load_image_set
from limner.evaluation.classes import accuracy, classification_accuracy, frechet_per_class
from limner.evaluation.features import Convolutions, Inception, own_features
from limner.evaluation.frechet import frechet_distance
from limner.evaluation.metrics import METRICS, Comparison
from limner.evaluation.report import bars, closest_pairs, curves, render, table, write_html, write_json


def shapes(n: int, seed: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """16x16 pictures of three classes: a bar across, a bar down, a square, at any place."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (n, channels, 16, 16), dtype=np.uint8)
    labels = random.integers(0, 3, n)
    for i in range(n):
        h, w = [(3, 12), (12, 3), (6, 6)][labels[i]]
        top, left = random.integers(0, 17 - h), random.integers(0, 17 - w)
        images[i, :, top : top + h, left : left + w] = random.integers(150, 255)
    return torch.from_numpy(images), torch.from_numpy(labels)


TRAIN, TRAIN_LABELS = shapes(400, 1)
FRESH, FRESH_LABELS = shapes(200, 2)
SIMPLE = Convolutions(1, (16, 16))


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Trainings of a quarter of the least length: the pictures here are simple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.evaluation.features.encoder.budget", lambda n: 5000)
        patch.setattr("limner.evaluation.cas.SHOWN", 2000)
        yield


def folder(path: Path, images: torch.Tensor) -> Path:
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(path / f"{i:04}.png")
    return path


@pytest.fixture(scope="module")
def whole():
    return evaluate(
        FRESH, TRAIN, labels=FRESH_LABELS, reference_labels=TRAIN_LABELS, features=["own", "pixels"], cache=False,
        curve=[{"images": 0, "fd_own": 9.0}, {"images": 1000, "fd_own": 3.0}],
    )


def test_real_pictures_come_out_as_real(whole) -> None:
    assert whole["precision_own"] > 0.8 and whole["coverage_own"] > 0.7
    assert 0.35 < whole["copy_score_own"] < 0.65 and not whole.memorization.copying
    assert whole["modes_reached_own"] > 0.8
    assert {m.features for m in whole.metrics} == {"own", "pixels"}
    with pytest.raises(KeyError, match="fd"):
        whole["fd"]  # two kinds of features: which one must be said
    assert set(whole.classes["fd_own"]) == {"0", "1", "2"}


def test_the_json_holds_the_whole_protocol(whole, tmp_path: Path) -> None:
    write_json(whole, tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text())
    protocol = found["protocol"]
    assert protocol["generated"]["n"] == 200 and protocol["reference"]["pictures"] == "16x16 gray, 3 classes"
    assert [f["name"] for f in protocol["features"]] == ["own", "pixels"]
    assert all(f["identity"] and f["resize"] for f in protocol["features"])
    assert {m["name"] for m in found["metrics"]} >= {"fd_own", "fd_pixels", "mmd_own"}
    assert any("biased upwards" in w for w in found["warnings"])


def test_the_table_and_the_page_show_it(whole, tmp_path: Path) -> None:
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(table(whole))
    text = console.export_text()
    assert "fd_own" in text and "fd_pixels" in text and "No sign of copying" in text
    write_html(whole, tmp_path / "report.html", "A <report>")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and "A &lt;report&gt;" in page  # samples and two rows of pairs
    assert "images seen" in page and "http" not in page and "<script" not in page
    pairs = closest_pairs(whole, most=5)
    assert pairs is not None and pairs.shape == (10, 1, 16, 16)


def test_numbers_do_not_depend_on_form_or_order(tmp_path: Path) -> None:
    metrics = ["fd", "mmd", "precision_recall", "sliced_wasserstein", "mmd_gaussian", "diversity"]
    base = evaluate(FRESH, TRAIN, metrics=metrics, features=SIMPLE, cache=False)
    made = folder(tmp_path / "made", FRESH)
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for path in made.iterdir():
            archive.write(path, path.name)
    for given in (FRESH.numpy(), FRESH.flip(0), FRESH[:, 0], iter(FRESH.split(33)), made, tmp_path / "made.zip"):
        again = evaluate(given, TRAIN, metrics=metrics, features=SIMPLE, cache=False)
        for m, n in zip(base.metrics, again.metrics, strict=True):
            assert m.value == pytest.approx(n.value, rel=1e-4, abs=1e-6), m.label


def test_copies_are_flagged_and_held_out_pictures_calibrate() -> None:
    noise = torch.randint(-9, 10, TRAIN[:150].shape, generator=torch.Generator().manual_seed(0))
    copied = (TRAIN[:150] + noise).clamp(0, 255).to(torch.uint8)
    held = shapes(150, 3)[0]
    for features in ("own", "pixels"):
        found = evaluate(copied, TRAIN, held_out=held, metrics=["memorization"], features=features)
        assert found.memorization is not None and found.memorization.copying and "It copies" in render(found)
        assert not evaluate(FRESH, TRAIN, held_out=held, metrics=["memorization"], features=features).memorization.copying  # type: ignore[union-attr]


@pytest.mark.slow
def test_held_out_classes_are_numbered_as_the_references() -> None:
    """Held-out pictures that lack a class: accuracy is about names, not about numbers."""
    train = ImageSet(TRAIN, TRAIN_LABELS, ("across", "down", "square"), "train")
    fresh = ImageSet(FRESH, FRESH_LABELS, ("across", "down", "square"), "fresh")
    images, labels = shapes(200, 3)
    held = ImageSet(images[labels > 0], labels[labels > 0] - 1, ("down", "square"), "held")
    found = evaluate(fresh, train, held_out=held, metrics=["cas"], features=SIMPLE)
    assert found["cas"] > 0.9 and set(found.classes["cas"]) == {"down", "square"}


def test_the_inception_score_does_not_hang_on_the_order() -> None:
    class Sure(Convolutions):
        def probabilities(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[images[:, 0, 0, 0].long()]

    images = torch.arange(10, dtype=torch.uint8).repeat_interleave(40).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    (score,) = evaluate(images, TRAIN, metrics=["inception_score"], features=Sure(1, (16, 16))).metrics
    assert score.value > 8


def test_few_against_many_works_and_says_how_sure_it_is() -> None:
    found = evaluate(FRESH[:30], TRAIN, features=SIMPLE, cache=False)
    (m,) = (m for m in found.metrics if m.name == "fd")
    assert m.low is not None and m.high is not None and m.low < m.value < m.high
    assert any("singular covariance" in w for w in found.warnings)
    assert len(evaluate(FRESH[:3], TRAIN, features=SIMPLE, cache=False).metrics) > 3


def test_variety_is_that_of_as_many_pictures_on_either_side() -> None:
    rows = torch.randn(440, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    some, extractor = load_image_set(np.zeros((2, 1, 8, 8), np.uint8)), Convolutions(1, (8, 8))
    for n in (400, 40):
        found = {m.name: m for m in METRICS["diversity"](Comparison(some, some, None, extractor, rows[:n], rows[n:], None))}
        usual = float(found["vendi"].better.removeprefix("near "))
        assert found["vendi"].value == pytest.approx(usual, rel=0.05)  # one distribution: 40 and 400 differ by a third


def test_n_draws_evenly_and_repeatably() -> None:
    a = evaluate(FRESH, TRAIN, n=50, metrics=["fd"], features=SIMPLE, cache=False)
    b = evaluate(FRESH, TRAIN, n=50, metrics=["fd"], features=SIMPLE, cache=False)
    assert a.protocol == b.protocol and a["fd"] == b["fd"] and len(a.generated) == 50


def test_differences_between_the_sets_are_warned_of() -> None:
    color, _ = shapes(60, 4, channels=3)
    large = torch.nn.functional.interpolate(color.float(), scale_factor=2).to(torch.uint8)
    large = torch.cat([large, large[:5]])
    said = " ".join(evaluate(large, TRAIN, metrics=["fd"], features=SIMPLE, cache=False).warnings)
    assert "32x32" in said and "RGB" in said and "5 of 65 generated pictures are exact duplicates" in said


def test_what_cannot_be_measured_is_told_in_a_sentence(tmp_path: Path) -> None:
    mixed = folder(tmp_path / "mixed", FRESH[:3])
    Image.new("L", (20, 31)).save(mixed / "other.png")
    (tmp_path / "empty").mkdir()
    calls = [
        (lambda: evaluate(mixed, TRAIN), "2 sizes"),
        (lambda: evaluate(tmp_path / "empty", TRAIN), "picture"),
        (lambda: evaluate(FRESH[:0], TRAIN), "empty"),
        (lambda: evaluate([], TRAIN), "empty"),
        (lambda: evaluate([FRESH, FRESH[..., :8]], TRAIN), "differ in size"),
        (lambda: evaluate(FRESH[:1], TRAIN), "give at least 2"),
        (lambda: evaluate(FRESH.float(), TRAIN), "uint8"),
        (lambda: evaluate(FRESH, TRAIN, metrics=["fdd"]), "no metric 'fdd'"),
        (lambda: evaluate(FRESH, TRAIN, metrics=["fd_per_class"], features=SIMPLE), "labels"),
        (lambda: evaluate(FRESH, TRAIN, metrics=["inception_score"], features=SIMPLE), "no class probabilities"),
        (lambda: evaluate(FRESH, TRAIN, labels=[1, 2]), "one label per picture"),
        (lambda: evaluate(FRESH, TRAIN, labels=-FRESH_LABELS - 1), "of at least 0"),
    ]
    for call, says in calls:
        with pytest.raises(ValueError, match=says):
            call()
    brought = evaluate(FRESH, mixed, metrics=["mmd"], features=SIMPLE)  # a reference comes to the generated size
    assert any("2 sizes" in w for w in brought.warnings)
    assert len(evaluate(mixed, TRAIN, size=(16, 16), metrics=["mmd"], features=SIMPLE).generated) == 4


def test_named_classes_meet_by_name() -> None:
    names = ("across", "down", "square")
    real = ImageSet(TRAIN, TRAIN_LABELS, names)
    turned = ImageSet(FRESH, 2 - FRESH_LABELS, names[::-1])
    result = evaluate(turned, real, metrics=["fd_per_class"], features=SIMPLE, cache=False)
    truth = evaluate(ImageSet(FRESH, FRESH_LABELS, names), real, metrics=["fd_per_class"], features=SIMPLE, cache=False)
    assert result.classes == truth.classes and set(result.classes["fd_convolutions"]) == set(names)
    strange = ImageSet(FRESH, FRESH_LABELS, ("across", "down", "circle"))
    said = evaluate(strange, real, metrics=["fd"], features=SIMPLE, cache=False).warnings
    assert any("'circle'" in w for w in said)


def test_each_class_has_its_own_distance() -> None:
    features = SIMPLE(TRAIN), SIMPLE(FRESH)
    per = frechet_per_class(features[1], FRESH_LABELS, features[0], TRAIN_LABELS)
    for label, value in per.items():
        truth = frechet_distance(features[1][label == FRESH_LABELS], features[0][label == TRAIN_LABELS])
        assert value == pytest.approx(truth)
    only = FRESH_LABELS == 0
    gone = frechet_per_class(features[1][only], FRESH_LABELS[only], features[0], TRAIN_LABELS)
    assert np.isnan(gone[1]) and gone[0] == pytest.approx(per[0])


def test_a_classifier_learns_from_good_pictures_and_not_from_wrong_labels() -> None:
    real, fresh = ImageSet(TRAIN, TRAIN_LABELS), ImageSet(FRESH, FRESH_LABELS)
    score, per = classification_accuracy(fresh, real)
    assert score > 0.9 and set(per) == {0, 1, 2}
    wrong = ImageSet(FRESH, (FRESH_LABELS + 1) % 3)
    assert accuracy(own_features(real), fresh)[0] > 0.9 and accuracy(own_features(real), wrong)[0] < 0.1
    with pytest.raises(ValueError, match="labels of two classes"):
        classification_accuracy(ImageSet(FRESH), real)


@pytest.mark.slow
def test_every_measure_runs() -> None:
    result = evaluate(
        FRESH, TRAIN, labels=FRESH_LABELS, reference_labels=TRAIN_LABELS, metrics=list(METRICS), features="own",
    )
    assert all(np.isfinite(m.value) for m in result.metrics) and result["cas"] > 0.9 and result["cas_reverse"] > 0.9


def test_the_probe_is_the_same_number() -> None:
    probe = FrechetProbe(TRAIN, TRAIN_LABELS)
    base = evaluate(FRESH, TRAIN, reference_labels=TRAIN_LABELS, metrics=["fd"], features="own")["fd"]
    assert probe(FRESH) == {"fd_own": pytest.approx(base, rel=1e-6)}
    assert probe(iter(FRESH.split(64))) == {"fd_own": pytest.approx(base, rel=1e-6)}


def test_inception_without_its_file_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match="pt_inception-2015-12-05"):
        evaluate(FRESH, TRAIN, features="inception")
    assert Inception.name == "inception"


def test_charts_bear_what_is_not_finite() -> None:
    assert "–" in bars({"a": float("nan"), "b": 2.0})
    assert curves([{"images": 0, "fd": float("nan")}, {"images": 9, "fd": 1.0}]) == ""


def test_pictures_keep_what_they_are() -> None:
    one = load_image_set(FRESH, FRESH_LABELS)
    assert load_image_set(one) is one and one.spec.classes == 3 and one.some(10**6) is one
    assert one.fingerprint == load_image_set(FRESH.clone(), FRESH_LABELS).fingerprint != load_image_set(FRESH).fingerprint

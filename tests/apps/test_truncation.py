"""Truncation: psi in the space of styles, and the calibration of both kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import limner
from limner.apps import model as home
from limner.apps.model import GeneratorModel
from limner.apps.sample import sample, walk
from limner.apps.truncation import LATENTS, truncated
from limner.apps.typical import (
    FEATURE_IMAGES,
    FEATURE_SAMPLES,
    PICTURES_OF_MANY,
    PICTURES_PER_CLASS,
    Typicality,
    learn_features,
    reduced,
)
from limner.networks.contracts import StyleBased

TINY = {
    "generator.width": 8, "generator.mapping": 2, "generator.z_size": 16, "generator.w_size": 16, "discriminator.width": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def styled(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "styled"
    limner.train(squares, images=64, recipe="stylegan2", changes=TINY, out=out)
    return out


@pytest.fixture(scope="module")
def plain(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "plain"
    limner.train(squares, images=64, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out)
    return out


def styles(model: GeneratorModel, z: torch.Tensor, label: int) -> torch.Tensor:
    assert isinstance(model.network, StyleBased)
    with torch.no_grad():
        return model.network.mapping(z, torch.full((len(z),), label))


def test_a_psi_of_one_leaves_every_bit(styled: Path) -> None:
    model = limner.load(styled, "cpu")
    assert model.has_styles
    assert np.array_equal(model.sample(9, seed=2, truncation=1.0), model.sample(9, seed=2))
    z, y = torch.randn(5, model.z_size), torch.tensor([0, 1, 0, 1, 1])
    with torch.no_grad():
        assert torch.equal(truncated(model.network, z, y, torch.randn(5, 16), 1.0), model.network(z, y))


def test_a_psi_of_zero_makes_the_picture_of_the_mean_style_of_the_class(styled: Path) -> None:
    model = limner.load(styled, "cpu")
    model._precision = torch.float32
    for label in (0, 1):
        made = model.sample(6, seed=label, label=label, truncation=0.0)
        with torch.no_grad():
            mean = model.network.synthesis(model._mean_styles[label].expand(1, model.network.layers, -1))
        shown = ((mean[0] + 1) * 127.5).round().clamp(0, 255).numpy()
        assert np.abs(made - shown).max() <= 1


def test_mean_styles_are_of_each_class(styled: Path) -> None:
    """Within 5 standard errors of the mean of as many other latents, and far outside of those of the other class."""
    model = limner.load(styled, "cpu")
    model._precision = torch.float32
    model.sample(1, label=1, truncation=0.5)
    assert set(model._mean_styles) == {1}  # learned when a class first occurs
    model.sample(1, label=0, truncation=0.5)
    for label in (0, 1):
        w = styles(model, torch.randn(LATENTS, model.z_size, generator=torch.Generator().manual_seed(7)), label)
        error = w.std(0) * (2 / LATENTS) ** 0.5 + 1e-6
        assert ((model._mean_styles[label] - w.mean(0)).abs() / error).max() < 5
        assert ((model._mean_styles[1 - label] - w.mean(0)).abs() / error).max() > 20


def test_the_lower_psi_the_nearer_the_same_pictures_are_to_the_mean(styled: Path) -> None:
    model = limner.load(styled, "cpu")
    given = []
    synthesis = model.network.synthesis
    model.network.synthesis = lambda w: (given.append(w[:, 0]), synthesis(w))[1]
    whole, *rest = [(model.sample(8, seed=1, label=0, truncation=psi), given.pop())[1] for psi in (0.999999, 0.5, 0.25)]
    mean = model._mean_styles[0]
    for psi, w in zip((0.5, 0.25), rest, strict=True):
        torch.testing.assert_close(w - mean, psi * (whole - mean), rtol=1e-3, atol=1e-5)


def test_truncated_samples_depend_on_their_seed_alone(styled: Path) -> None:
    model = limner.load(styled, "cpu")
    first = model.sample(70, seed=3, truncation=0.5)
    model.sample(3, seed=9, label=1, truncation=0.2)
    assert np.array_equal(model.sample(70, seed=3, truncation=0.5), first)
    assert np.array_equal(limner.load(styled, "cpu").sample(70, seed=3, truncation=0.5), first)
    assert not np.array_equal(model.sample(70, seed=4, truncation=0.5), first)


def test_every_frame_of_a_walk_is_truncated(styled: Path) -> None:
    model = limner.load(styled, "cpu")
    frames = list(walk(model, 2, seed=1, label="0", truncation=0.0, seconds=0.5))
    assert len(frames) == 10 and all(np.array_equal(frame, frames[0]) for frame in frames)
    assert not np.array_equal(*list(walk(model, 2, seed=1, label="0", seconds=0.5))[:5:4])


@pytest.mark.parametrize("psi", [-0.1, 1.1, float("nan"), float("inf")])
def test_factors_out_of_range_are_refused(psi: float, styled: Path, tmp_path: Path) -> None:
    model = limner.load(styled, "cpu")
    model.network.mapping = lambda *_: pytest.fail("something was drawn")
    with pytest.raises(ValueError, match=rf"factor on the styles, 0 to 1, not {psi:g}\.$"):
        sample(model, tmp_path / "x.png", 4, truncation=psi)
    assert not list(tmp_path.iterdir())


def test_calibration_reports_its_progress_once_and_for_the_classes_that_occur(styled: Path, plain: Path, tmp_path: Path) -> None:
    for run, count, once in ((styled, LATENTS, 0), (plain, PICTURES_PER_CLASS, FEATURE_SAMPLES + FEATURE_IMAGES)):
        model, seen, drawn = limner.load(run, "cpu"), [], []
        report = lambda done, total, seen=seen: seen.append((done, total))  # noqa: E731
        sample(model, tmp_path / "a.png", 3, label="0", truncation=0.5, calibration=report)
        assert seen[-1] == (count + once, count + once) and seen == sorted(seen)
        assert len(seen) > once / 640  # a bar that moves
        seen.clear()
        sample(model, tmp_path / "a.png", 40, label="0", truncation=0.5, calibration=report)
        assert not seen
        sample(model, tmp_path / "a.png", 4, label="all", truncation=0.5, calibration=report,
               progress=lambda done, total, drawn=drawn: drawn.append((done, total)))  # fmt: skip
        assert seen[-1] == (count, count) and drawn == [(4, 4)]
        model = limner.load(run, "cpu")
        seen.clear()
        sample(model, tmp_path / "a.gif", 4, label="all", seconds=0.4, truncation=0.5, calibration=report)
        assert seen[-1] == (2 * count + once, 2 * count + once)
        seen.clear()
        sample(model, tmp_path / "a.png", 4, truncation=1.0, calibration=report)
        assert not seen


def test_many_classes_are_calibrated_with_few_pictures_and_without_a_classifier(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "MANY_CLASSES", 2)
    monkeypatch.setattr(home, "learn_features", lambda *_: pytest.fail("a classifier was trained"))
    model, seen = limner.load(plain, "cpu"), []
    sample(model, tmp_path / "a.png", 4, label="all", truncation=0.5, calibration=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * PICTURES_OF_MANY, 2 * PICTURES_OF_MANY)
    chosen, drawn = (model.sample(40, label=0, truncation=psi) for psi in (0.3, None))
    ranks = [model._typicality[0].rank(torch.from_numpy(np.asarray(pictures))).mean() for pictures in (chosen, drawn)]
    assert ranks[0] < 0.3 < ranks[1]


@pytest.mark.parametrize("learned", [True, False])
def test_failures_are_the_least_typical(learned: bool) -> None:
    """Bars that stand or lie, varied in place and brightness, and 1 in 20 pictures of noise: pixels rank it last, and so
    do features that are learned from all of them, noise too."""
    random = np.random.default_rng(0)
    n = 640
    pictures, kind = np.zeros((n, 1, 16, 16), np.uint8), np.arange(n) // 2 % 2
    for picture, upright in zip(pictures, kind, strict=True):
        start, value = random.integers(2, 11), random.integers(120, 255)
        (picture[0, :, start : start + 4] if upright else picture[0, start : start + 4])[:] = value
    failed = random.choice(n, n // 20, replace=False)
    pictures[failed] = random.integers(0, 256, (len(failed), 1, 16, 16))
    x, y = torch.from_numpy(pictures), torch.from_numpy(kind)
    features = learn_features(x, y, 2) if learned else reduced
    assert not learned or torch.equal(features(x), learn_features(x, y, 2)(x))
    typical = Typicality(features, x, 1)
    assert [len(x) for x in typical.sorted] == [n // 2]
    bad = np.isin(np.arange(n), failed)
    ranks = typical.rank(x).numpy()
    assert np.quantile(ranks[bad], 0.2) > np.quantile(ranks[~bad], 0.8)


def test_ranks_of_new_pictures_are_uniform_and_a_mode_without_ranks_is_not_typical() -> None:
    """64 pictures of noise: the covariance of those that it is computed from would rank nearly all new ones as most typical."""
    random = torch.Generator().manual_seed(0)
    noise = lambda n: torch.randint(0, 256, (n, 1, 16, 16), generator=random, dtype=torch.uint8)  # noqa: E731
    ranks = torch.cat([Typicality(reduced, noise(64), 1).rank(noise(64)) for _ in range(20)])
    assert all(abs((ranks <= share).float().mean() - share) < 0.05 for share in (0.25, 0.5, 0.75))
    few = torch.cat([Typicality(reduced, noise(20), 1).rank(noise(64)) for _ in range(20)])  # 10 of each half
    assert (few <= 0.05).float().mean() < 0.07 and abs((few <= 0.5).float().mean() - 0.5) < 0.1
    dark = noise(41) // 16
    dark[40] += 200  # of the first half: the second has none like it
    typical = Typicality(reduced, dark, 2)
    assert min(map(len, typical.sorted)) == 0 and typical.rank(dark[40:]) == 1
    assert typical.rank(noise(50) // 16).mean() < 0.8


def test_every_mode_has_calibration_pictures() -> None:
    """Two different pictures make two modes, however many are looked for: an empty one would rank all pictures as typical."""
    x = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    x[20:, :, :4] = 200
    typical = Typicality(reduced, x, 16)
    assert sorted(map(len, typical.sorted)) == [10, 10] and len(typical.centers) == 2

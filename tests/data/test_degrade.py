"""Noise of the stated strength, the same on any rank and in any batch, and room for degradations that are not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.distributed import Ranks
from limner.data import open_source, prepare
from limner.data.crops import Crops
from limner.data.degrade import DEGRADATIONS, Degraded, GaussianNoise, degradation
from limner.data.native import prepare_native

GRAY = np.full((400, 400, 3), 128, np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_noise_has_the_moments_of_a_gaussian() -> None:
    noise = GaussianNoise(20)(GRAY.astype(np.float32), rng()) - 128
    n = noise.size
    assert noise.dtype == np.float32 and abs(noise.mean()) < 4 * 20 / n**0.5
    assert abs(noise.var() / 400 - 1) < 4 * (2 / n) ** 0.5  # four standard errors of a variance
    z = noise / 20
    assert abs((z**3).mean()) < 4 * (15 / n) ** 0.5 and abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    pixel, color = (z[:, 1:] * z[:, :-1]).mean(), (z[..., 0] * z[..., 1]).mean()  # nothing is correlated
    assert max(abs(pixel), abs(color)) < 4 / (n / 3) ** 0.5


def test_rounding_adds_a_twelfth_and_clips() -> None:
    made = GaussianNoise(10)(GRAY, rng())
    assert made.dtype == np.uint8 and (GRAY == 128).all()
    exact = GaussianNoise(10)(GRAY.astype(np.float32), rng())
    assert (made == np.clip(np.rint(exact), 0, 255)).all()
    noise = made.astype(np.float64) - 128
    assert abs(noise.mean()) < 4 * 10 / noise.size**0.5
    assert abs(noise.var() / (100 + 1 / 12) - 1) < 4 * (2 / noise.size) ** 0.5
    black = GaussianNoise(10)(np.zeros_like(GRAY), rng()).astype(np.float64)
    assert abs((black == 0).mean() - 0.5199) < 0.004  # P(z < 0.05)
    assert GaussianNoise(10)(np.zeros_like(GRAY, np.float32), rng()).min() < -20  # floats are not clipped
    assert (GaussianNoise(0)(GRAY, rng()) == GRAY).all()


def test_a_range_is_drawn_from_uniformly() -> None:
    noise = GaussianNoise((5, 50))
    found = np.array([noise(GRAY[:60, :60].astype(np.float32), rng(seed)).std() for seed in range(400)])
    assert 4.5 < found.min() < 7 and 48 < found.max() < 52
    assert abs(found.mean() - 27.5) < 4 * 13 / 20 and abs(found.std() - 45 / 12**0.5) < 1.5


def test_transparency_is_no_color() -> None:
    clear = np.full((30, 30, 4), 100, np.uint8)
    made = GaussianNoise(30)(clear, rng())
    assert (made[..., 3] == 100).all() and made[..., :3].std() > 25


@pytest.mark.parametrize("sigma", [-1, (5, 2), float("nan"), float("inf"), (-1, 5)])
def test_no_strength_is_a_sentence(sigma: float | tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is not a noise level: give a number from 0"):
        GaussianNoise(sigma)


def test_degradations_are_known_by_name() -> None:
    assert degradation("noise", sigma=(1.0, 2.0)) == GaussianNoise((1.0, 2.0))
    with pytest.raises(ValueError, match="The degradation 'nose' is unknown: choose downscale, noise"):
        degradation("nose")


@pytest.fixture
def crops(tmp_path: Path, noise: Callable[..., Image.Image]) -> Crops:
    for i in range(5):
        (tmp_path / "set" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        noise(40, 30 + i, "RGB", i).resize((90, 80)).save(tmp_path / "set" / f"{i % 2}" / f"{i}.png")
    return Crops(prepare_native(open_source(tmp_path / "set")), 32, flip=True)


def test_the_target_is_the_clean_picture(crops: Crops) -> None:
    pairs = Degraded(crops, GaussianNoise(15))
    clean, batch = crops.batch(3, 24, 1), pairs.batch(3, 24, 1)
    assert list(batch) == ["image", "target", "label"] and len(pairs) == 5 and pairs.spec == crops.spec
    assert torch.equal(batch["target"], clean["image"]) and torch.equal(batch["label"], clean["label"])
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    noise = batch["image"].double() - batch["target"].double()
    inside = (batch["target"] > 75) & (batch["target"] < 180)
    assert abs(noise[inside].std().item() - 15) < 0.3
    assert not torch.equal(noise[0], noise[5])  # the same picture, an epoch later


def test_noise_is_a_function_of_seed_and_position(crops: Crops) -> None:
    pairs = Degraded(crops, GaussianNoise((5, 50)))
    whole = pairs.batch(0, 32, 9)["image"]
    for cut in ([1] * 32, [5, 20, 7]):
        starts = np.cumsum([0, *cut[:-1]])
        parts = [pairs.batch(int(first), count, 9)["image"] for first, count in zip(starts, cut, strict=True)]
        assert torch.equal(torch.cat(parts), whole)
    ranks = [Ranks(rank, 2).rows(8) for rank in (0, 1)]
    shared = [pairs.batch(8 * i + rows.start, rows.stop - rows.start, 9)["image"] for i in range(4) for rows in ranks]
    assert torch.equal(torch.cat(shared), whole)
    assert torch.equal(Degraded(crops, GaussianNoise((5, 50))).batch(19, 13, 9)["image"], whole[19:])  # resumed
    assert not torch.equal(pairs.batch(0, 32, 10)["image"], whole)


class Halved:
    """What a later degradation may look like: means of 2x2 pixels, so that the image is smaller than the target."""

    scale = 2

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        h, w, c = image.shape
        return np.rint(image.reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))).astype(image.dtype)


def test_an_image_may_be_smaller_than_its_target(monkeypatch: pytest.MonkeyPatch, crops: Crops) -> None:
    monkeypatch.setitem(DEGRADATIONS, "halved", Halved)
    pairs = Degraded(crops, degradation("halved"))
    batch = pairs.batch(0, 6, 0)
    assert batch["image"].shape == (6, 3, 16, 16) and batch["target"].shape == (6, 3, 32, 32)
    assert torch.equal(batch["image"], torch.nn.functional.avg_pool2d(batch["target"].double(), 2).round().to(torch.uint8))
    whole = prepare(open_source(np.zeros((3, 17, 18), np.uint8)))
    with pytest.raises(ValueError, match="Pictures of 17x18 cannot be made 2 times smaller"):
        Degraded(whole, Halved())


def test_a_dataset_and_a_subset_degrade_alike() -> None:
    data = prepare(open_source("fashion"))
    some = data.subset(np.arange(100))
    for clean in (data, some):
        batch = Degraded(clean, GaussianNoise(5)).batch(0, 4, 0)
        assert torch.equal(batch["target"], clean.batch(0, 4, 0)["image"]) and not torch.equal(batch["image"], batch["target"])

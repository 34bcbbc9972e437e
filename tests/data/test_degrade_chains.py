"""Chains of degradations, mixes by name, the model of Real-ESRGAN, scratches, and batches with masks or gray images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.distributed import Ranks
from limner.data import open_source
from limner.data.crops import Crops
from limner.data.degradations import second_order
from limner.data.degrade import (
    DEGRADATIONS,
    MIXED,
    Blur,
    Chain,
    Degradation,
    Degraded,
    Downscale,
    GaussianNoise,
    Gray,
    Holes,
    Jpeg,
    Scratches,
    SecondOrder,
    degradation,
    parse_degradations,
)
from limner.data.native import prepare_native


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int = 64, width: int = 64, channels: int = 3) -> np.ndarray:
    """A smooth random picture, uint8 [H,W,C]."""
    small = rng(5).integers(30, 226, (8, 8, channels), np.uint8)
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], -1)


class Added:
    """Appends its number to a picture of decimal digits, so that the result tells the order."""

    scale = 1

    def __init__(self, digit: int) -> None:
        self.digit = digit

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        assert image.dtype == np.float32
        return image * 10 + self.digit


def test_a_chain_keeps_its_order_or_shuffles_it() -> None:
    zero, steps = np.zeros((1, 1, 1), np.float32), [Added(1), Added(2), Added(3)]
    assert Chain(steps)(zero, rng()).item() == 123
    found = [Chain(steps, shuffle=True)(zero, rng(seed)).item() for seed in range(600)]
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [123, 132, 213, 231, 312, 321] and counts.min() > 60  # 100 each, 4.4 deviations
    assert (zero == 0).all()


def test_steps_are_left_out_with_their_probability() -> None:
    zero = np.zeros((1, 1, 1), np.float32)
    found = np.array([Chain([Added(1), Added(2)], probability=0.7, clean=0.2)(zero, rng(seed)).item() for seed in range(4000)])
    for value, expected in {0: 0.2 + 0.8 * 0.09, 1: 0.8 * 0.21, 2: 0.8 * 0.21, 12: 0.8 * 0.49}.items():
        assert abs((found == value).mean() - expected) < 4 * (expected * (1 - expected) / 4000) ** 0.5


def test_a_chain_rounds_once() -> None:
    class Half:
        scale = 1

        def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return image + np.float32(0.4)

    assert Chain([Half(), Half(), Half()])(np.full((2, 2, 1), 10, np.uint8), rng()).tolist() == [[[11], [11]], [[11], [11]]]


def test_a_chain_scales_and_masks_even_if_clean() -> None:
    chain = Chain([Blur(), Gray(), Downscale(2), Jpeg(20), Holes(0.25)], clean=1.0)
    assert (chain.scale, chain.channels, chain.masks) == (2, 1, True)
    made, mask = chain.with_mask(picture(), rng())
    gray = np.asarray(Image.fromarray(picture()).convert("L"), np.float32)[..., None]
    small = Downscale(2)(gray, rng())
    assert made.shape == (32, 32, 1) and mask.shape == (32, 32) and (made[mask == 1] == 128).all()
    assert np.abs(made[mask == 0] - small[mask == 0]).max() <= 1.01
    assert Chain([Downscale(2), SecondOrder(2)]).scale == 4


def test_invalid_chains_are_sentences() -> None:
    with pytest.raises(ValueError, match="at least one degradation"):
        Chain([])
    for steps, shuffle in (([Holes(), Blur()], False), ([Blur(), Holes()], True)):
        with pytest.raises(ValueError, match="Holes come last"):
            Chain(steps, shuffle=shuffle)
    with pytest.raises(ValueError, match="clean -1 is not a probability"):
        Chain([Blur()], clean=-1)


def test_a_mix_is_parsed_in_its_physical_order() -> None:
    chain = parse_degradations("jpeg, noise,scratches,blur,noise")
    assert [type(step).__name__ for step in chain.steps] == ["Blur", "Scratches", "GaussianNoise", "Jpeg"]
    assert chain.scale == 1 and not chain.masks
    whole = picture()
    changed = [(chain(whole, rng(seed)) != whole).any() for seed in range(400)]
    assert 0.82 < np.mean(changed) < 0.95  # one in ten is clean
    scaled = parse_degradations("noise,jpeg", scale=4)
    assert [type(step).__name__ for step in scaled.steps] == ["Downscale", "GaussianNoise", "Jpeg"] and scaled.scale == 4
    real = parse_degradations("real,scratches", scale=2)
    assert [type(step).__name__ for step in real.steps] == ["Scratches", "SecondOrder"] and real.scale == 2
    assert parse_degradations("holes,jpeg").masks and parse_degradations("gray").channels == 1
    assert set(MIXED) == set(DEGRADATIONS)


@pytest.mark.parametrize(
    ("text", "scale", "message"),
    [
        ("jpeg,nois", 1, "The degradation 'nois' is unknown: choose from blur, downscale"),
        (" , ", 1, "No degradation is named"),
        ("downscale,jpeg", 1, "'downscale' needs a scale of 2, 3 or 4"),
        ("jpeg", 5, "cannot be made 5 times smaller"),
    ],
)
def test_invalid_mixes_are_sentences(text: str, scale: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_degradations(text, scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_second_order_model_ends_at_the_scale(scale: int, channels: int) -> None:
    image, degrade = picture(60, 84, channels), SecondOrder(scale)
    before = image.copy()
    for seed in range(12):
        made = degrade(image, rng(seed))
        assert made.shape == (60 // scale, 84 // scale, channels) and made.dtype == np.uint8
        assert (made == degrade(image, rng(seed))).all()
        exact = degrade(image.astype(np.float32), rng(seed))
        assert np.abs(np.clip(exact, 0, 255) - made).max() <= 0.501
        assert abs(made[..., :3].mean() - before[..., :3].mean()) < 12  # it neither darkens nor brightens
    assert (image == before).all()
    opaque = picture(60, 84, 4)
    opaque[..., 3] = 255
    assert (degrade(opaque, rng())[..., 3] == 255).all()


def test_the_second_order_model_draws_the_published_ranges() -> None:
    for stage, up, down, keep in ((second_order.FIRST, 0.2, 0.7, 0.1), (second_order.SECOND, 0.3, 0.4, 0.3)):
        factors = np.array([stage.factor(rng(seed)) for seed in range(3000)])
        least, most = stage.resize
        for share, expected in (((factors > 1).mean(), up), ((factors < 1).mean(), down), ((factors == 1).mean(), keep)):
            assert abs(share - expected) < 4 * (expected * (1 - expected) / 3000) ** 0.5
        assert least <= factors.min() < least + 0.01 and most - 0.01 < factors.max() <= most


def test_scratches_are_thin_and_have_their_density() -> None:
    image = np.full((300, 300, 4), 128, np.uint8)
    made = [Scratches(4, 0)(image, rng(seed)) for seed in range(20)]
    touched = np.mean([(m[..., 0] != 128).mean() for m in made])
    assert 0.01 < touched < 0.08  # 4 lines of 80 x 2.25 pixels at most in 100 x 100
    assert all((m[..., 3] == 128).all() for m in made)
    values = np.concatenate([m[..., 0].ravel() for m in made])
    assert values.max() > 230 and values.min() < 30 and (values > 128).sum() > 1.5 * (values < 128).sum()
    assert (Scratches(0, 0)(image, rng()) == image).all()
    specks = np.mean([(Scratches(0, 6)(image, rng(seed))[..., 0] != 128).mean() for seed in range(10)])
    assert 0.002 < specks < 0.03
    with pytest.raises(ValueError, match="dust -1 is no density"):
        Scratches(dust=-1)


@pytest.fixture
def crops(tmp_path: Path, noise: Callable[..., Image.Image]) -> Crops:
    (tmp_path / "set").mkdir()
    for i in range(5):
        noise(20, 15 + i, "RGB", i).resize((90, 80), Image.Resampling.BICUBIC).save(tmp_path / "set" / f"{i}.png")
    return Crops(prepare_native(open_source(tmp_path / "set")), 48, flip=True)


EACH = [*DEGRADATIONS, "mix"]


@pytest.mark.parametrize("name", EACH)
def test_the_same_on_one_and_two_ranks_and_in_any_cut(name: str, crops: Crops) -> None:
    degrade: Degradation = parse_degradations("jpeg,noise,blur,scratches,holes") if name == "mix" else degradation(name)
    pairs = Degraded(crops, degrade)
    whole = pairs.batch(0, 16, 9)
    torch.set_num_threads(2)
    for cut in ([1] * 16, [5, 11]):
        starts = np.cumsum([0, *cut[:-1]])
        parts = [pairs.batch(int(first), count, 9) for first, count in zip(starts, cut, strict=True)]
        assert all(torch.equal(torch.cat([part[key] for part in parts]), value) for key, value in whole.items())
    torch.set_num_threads(1)
    shared = [pairs.batch(8 * i + rows.start, rows.stop - rows.start, 9) for i in (0, 1) for rows in (Ranks(r, 2).rows(8) for r in (0, 1))]
    assert all(torch.equal(torch.cat([part[key] for part in shared]), value) for key, value in whole.items())
    assert torch.equal(whole["target"], crops.batch(0, 16, 9)["image"])
    if name not in ("gray", "downscale"):
        assert not torch.equal(pairs.batch(0, 16, 10)["image"], whole["image"])


def test_holes_come_with_their_mask(crops: Crops) -> None:
    pairs = Degraded(crops, Holes(0.25))
    batch = pairs.batch(2, 7, 3)
    image, target, mask = batch["image"], batch["target"], batch["mask"]
    assert list(batch) == ["image", "target", "mask"] and mask.shape == (7, 1, 48, 48) and mask.dtype == torch.uint8
    hole = mask.bool().expand_as(image)
    assert (image[hole] == 128).all() and torch.equal(image[~hole], target[~hole])
    assert ((mask.float().mean((1, 2, 3)) >= 0.25) & (mask.float().mean((1, 2, 3)) < 0.4)).all()
    assert "mask" not in Degraded(crops, GaussianNoise(5)).batch(0, 2, 0)


def test_an_image_may_have_one_channel(crops: Crops, tmp_path: Path) -> None:
    pairs = Degraded(crops, Gray())
    batch = pairs.batch(0, 4, 0)
    assert pairs.channels == 1 and pairs.spec.channels == 3
    assert batch["image"].shape == (4, 1, 48, 48) and batch["target"].shape == (4, 3, 48, 48)
    luma = np.asarray(Image.fromarray(batch["target"][1].permute(1, 2, 0).numpy()).convert("L"))
    assert (batch["image"][1, 0].numpy() == luma).all()
    gray = Crops(prepare_native(open_source(tmp_path / "set"), channels=1), 48)
    with pytest.raises(ValueError, match="gray already: use color pictures"):
        Degraded(gray, parse_degradations("gray,noise"))

"""Codecs: the loss, who moves, the tables of a published run, and runs that resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limner
from limner.coding.tables import Tables
from limner.core.images import ImageSpec
from limner.evaluation.image_quality import ms_ssim
from limner.losses.adversarial import objective
from limner.losses.structural import ms_ssim_distance, scales_within
from limner.methods.codec import RateDistortion, finalize
from limner.methods.phase import Batch, Clock
from limner.networks import hyperprior, patch
from limner.networks.hyperprior import TINY, Codec

SPEC = ImageSpec(3, 64, 64)
CLOCK = Clock(0, 100, 4)
SMALL: dict[str, Any] = {f"network.{name}": getattr(TINY, name) for name in (
    "latent_channels", "hyper_channels", "hyper_width", "encoder_width", "decoder_width", "qualities")}  # fmt: skip
FAST: dict[str, Any] = {"device": "cpu", "threads": 1, "quiet": True, "precision": "fp32", "batch": 4}


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Stripes of random directions and colors, uint8 [40,3,64,64]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    waves = [np.sin(rng.uniform(0.02, 0.4) * x + rng.uniform(-0.4, 0.4) * y) for _ in range(40)]
    return (128 + 100 * np.stack(waves)[:, None] * rng.uniform(-1, 1, (40, 3, 1, 1))).astype(np.uint8)


def batch_of(x: torch.Tensor) -> Batch:
    return Batch({"image": x}, 0, len(x), (0, 0, 0))


def random_pictures(count: int = 4, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("factorized", [False, True])
def test_loss_is_rate_plus_distortion_of_each_picture(factorized: bool) -> None:
    torch.manual_seed(0)
    net = Codec(SPEC, replace(TINY, factorized=factorized))
    batch = batch_of(random_pictures())
    loss, terms = RateDistortion(net).turn(batch, CLOCK)
    quality = batch.uniform("quality") * 2
    middle = (TINY.least_lambda * TINY.most_lambda) ** 0.5
    decoded = net(batch["image"], quality)
    error = (decoded - batch["image"]).square().mean((1, 2, 3)) * 127.5**2
    torch.testing.assert_close(terms["psnr"], (10 * torch.log10(255**2 / error)).mean())
    # what remains of the loss is the rate: that of noisy latents is, in the mean, close to that of rounded ones
    bpp = loss * (net.lambdas(quality) / middle).sqrt() - net.lambdas(quality) * error
    torch.testing.assert_close(bpp.mean(), terms["bpp"])
    y = net.analysis(batch["image"], quality)
    bits, _ = net.rate_distortion(batch["image"], y, net.hyper_analysis(y), quality)
    assert bpp.mean().item() == pytest.approx(bits.mean().item() / 64**2, rel=0.1)


def test_slices_of_a_batch_have_the_losses_of_the_whole() -> None:
    torch.manual_seed(0)
    method = RateDistortion(Codec(SPEC, TINY))
    batch = batch_of(random_pictures())
    whole, _ = method.turn(batch, CLOCK)
    parts = [method.turn(batch.rows(slice(i, i + 2)), CLOCK)[0] for i in (0, 2)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_small_pictures_are_padded_and_the_padding_does_not_count() -> None:
    torch.manual_seed(0)
    method = RateDistortion(Codec(ImageSpec(3, 28, 28), TINY))
    x = random_pictures(size=28)
    loss, terms = method.turn(batch_of(x), CLOCK)
    padded = torch.nn.functional.pad(x, (0, 36, 0, 36), mode="replicate")
    _, other = method.turn(batch_of(padded), CLOCK)
    assert loss.isfinite().all() and terms["bpp"].item() == pytest.approx(other["bpp"].item() * 64**2 / 28**2, rel=1e-4)
    assert abs(terms["psnr"] - other["psnr"]) > 0.1  # the replicated border is easy to code


@contextmanager
def only(method: RateDistortion, player: str) -> Iterator[None]:
    """Gradients for one player only, as in the training loop."""
    for name, parameters in method.method.players.items():
        for p in parameters:
            p.requires_grad_(name == player)
            p.grad = None
    yield


def test_each_phase_reaches_its_own_player() -> None:
    torch.manual_seed(0)
    discriminator = patch.Discriminator(SPEC, patch.Config(width=8, norm="spectral"))
    method = RateDistortion(Codec(SPEC, TINY), "mix", discriminator, objective("hinge"), adversarial=0.1)
    batch = batch_of(random_pictures())
    for player, turn in (("codec", method.turn), ("discriminator", method.discriminator_turn)):
        with only(method, player):
            loss, terms = turn(batch, CLOCK)
            assert loss.shape == (4,) and all(value.isfinite() for value in terms.values())
            loss.sum().backward()
        for name, parameters in method.method.players.items():
            assert all((p.grad is not None) == (name == player) for p in parameters), (player, name)


@pytest.mark.parametrize("factorized", [False, True])
def test_finalize_fills_tables_and_moves_no_parameter(factorized: bool) -> None:
    torch.manual_seed(0)
    net = Codec(SPEC, replace(TINY, factorized=factorized))
    before = {name: p.clone() for name, p in net.named_parameters()}
    finalize(net)
    first = {name: b.clone() for name, b in net.named_buffers()}
    finalize(net)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert all(torch.equal(b, first[name]) for name, b in net.named_buffers())
    rows = Tables(net.y_tables.numpy())  # checks that every row sums to the total
    if factorized:
        assert len(rows) == 3 * 12 and not net.z_tables.numel()
        density = net.y_density
    else:
        assert len(rows) == hyperprior.SCALES
        rows, density = Tables(net.z_tables.numpy()), net.z_density
    values = torch.arange(-3.0, 4)
    masses = density.likelihood(values.expand(1, len(rows), 1, -1), torch.arange(len(rows))[None])[0, :, 0]
    for row in range(len(rows)):
        found = rows.frequencies(row)[torch.arange(-3, 4) - int(rows.low[row])] / 65536
        assert found == pytest.approx(masses[row].tolist(), abs=2e-4)


def test_structural_distance_is_that_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.integers(0, 256, (2, 3, 180, 180), dtype=np.uint8))
    b = (a.float() * 0.8 + 20 + torch.from_numpy(rng.normal(size=a.shape) * 10)).clamp(0, 255).to(torch.uint8)
    assert [scales_within(side) for side in (11, 64, 88, 128, 176)] == [1, 3, 4, 4, 5]
    for side in (64, 128, 180):
        x, y = a[..., :side, :side], b[..., :side, :side]
        found = ms_ssim_distance(x / 127.5 - 1, y / 127.5 - 1)
        assert found.tolist() == pytest.approx((1 - ms_ssim(x, y, scales_within(side))).tolist(), abs=2e-5)
    with pytest.raises(ValueError, match="choose the distortion mse"):
        ms_ssim_distance(a[..., :8, :8] / 127.5 - 1, b[..., :8, :8] / 127.5 - 1)


@pytest.mark.parametrize("recipe", ["codec", "codec-perceptual"])
def test_resumed_run_equals_unbroken(recipe: str, pictures: np.ndarray, tmp_path: Path) -> None:
    changes = SMALL | ({"discriminator.width": 8} if recipe == "codec-perceptual" else {})
    whole = limner.train(pictures, recipe=recipe, images=32, out=tmp_path / "whole", changes=changes, **FAST)

    class Stop(Exception):
        pass

    class StopLater:
        def due(self, clock: Clock) -> bool:
            return clock.seen == 20

        def __call__(self, view: Any) -> None:
            raise Stop

    more = FAST | {"checkpoint_minutes": 0}  # after every iteration
    with pytest.raises(Stop):
        limner.train(pictures, recipe=recipe, images=32, out=tmp_path / "cut", changes=changes, callbacks=[StopLater()], **more)
    limner.train(pictures, recipe=recipe, images=32, out=tmp_path / "cut", changes=changes, **more)
    a, b = (load_file(folder / "weights.safetensors") for folder in (whole.folder, tmp_path / "cut"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert a["codec.y_tables"].any() and a["codec.hyper_decoder.last.fixed_weight"].any()


def test_a_run_publishes_a_codec_that_loads(pictures: np.ndarray, tmp_path: Path) -> None:
    run = limner.train(pictures, recipe="codec", images=16, out=tmp_path / "run", changes=SMALL, **FAST)
    codec = limner.load(run.folder)
    assert codec.description["kind"] == "codec" and codec.description["metrics"]["rd_loss"] > 0
    assert set(codec.description["metrics"]) == {"rd_loss", "bpp", "psnr", "at_images"}
    assert (run.folder / "preview.png").exists() and (run.folder / "best" / "weights.safetensors").exists()
    with pytest.raises(ValueError, match="choose auto, rd_loss, none"):
        limner.train(pictures, recipe="codec", images=16, out=tmp_path / "no", changes=SMALL, metric="ssim", **FAST)

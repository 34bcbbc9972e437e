"""Autoencoders and translators that are made to fail, each failure found by its name, and healthy runs without a finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from limner.apps import doctor
from limner.core import distributed
from limner.data import open_source, prepare
from limner.data.pairs import prepare_pairs
from limner.families import train as training
from limner.monitor.family_probes import AutoencoderProbe, TranslatorProbe
from limner.monitor.rules import (
    FIRST_CHECK,
    FIRST_COPY_CHECK,
    ONE_WAY_COPY_CHECK,
    copies_input,
    dead_codes,
    discriminator_too_strong,
    stuck_below,
)
from limner.networks import vae, vqvae
from limner.runs import decide, run

SMALL: dict[str, dict[str, Any]] = {
    "vae": {"network.width": 8},
    "vaegan": {"network.width": 8, "discriminator.width": 8},
    "vqvae": {"network.width": 8, "network.codes": 256},
    "pix2pix": {"network.width": 8, "discriminator.width": 8},
    "cyclegan": {"network.width": 8, "discriminator.width": 8, "network.blocks": 1},
    "cut": {"network.width": 8, "discriminator.width": 8, "network.blocks": 1},
}
MACHINE = run.Machine(torch.device("cpu"), torch.float32, distributed.ALONE)


@pytest.fixture(autouse=True)
def no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)


@pytest.fixture(scope="module")
def clothes() -> np.ndarray:
    """Embedded Fashion-MNIST pictures at 16x16, without classes: uint8 [2000,1,16,16]."""
    return prepare(open_source("fashion"), size=16).images[::5].numpy()


@pytest.fixture(scope="module")
def emoji() -> np.ndarray:
    """Embedded emoji at 16x16: uint8 [N,3,16,16]."""
    return prepare(open_source("emoji", labels=False), size=16, channels="3").images.numpy()


def tinted(pictures: np.ndarray) -> np.ndarray:
    """Of half the contrast, on orange: what the translators of these tests are to learn."""
    return (pictures // 2 + np.array([120, 60, 0], np.uint8)[:, None, None]).astype(np.uint8)


def train(out: Path, recipe: str, *data: np.ndarray, images: int, doctor: bool = True, seed: int = 1, **changes: Any) -> Path:
    training.train(
        *data, recipe=recipe, images=images, out=out, device="cpu", threads=1, quiet=True, seed=seed, precision="fp32",
        doctor=doctor, changes=SMALL[recipe] | changes,
    )  # fmt: skip
    return out


def found(out: Path, recipe: str, *data: np.ndarray, images: int, **changes: Any) -> list[str]:
    """The names of what the doctor found in a small run."""
    return [finding["finding"] for finding in doctor.read_report(train(out, recipe, *data, images=images, **changes)).findings]


# ---- runs that fail --------------------------------------------------------------------------------------------------


def test_a_latent_that_costs_too_much_is_a_posterior_collapse(clothes: np.ndarray, tmp_path: Path) -> None:
    assert found(tmp_path / "run", "vae", clothes, images=2560, beta=1000.0) == ["posterior-collapse"]


def test_an_autoencoder_that_does_not_move_learns_nothing(clothes: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert found(out, "vqvae", clothes, images=1280, **{"autoencoder_optimizer.lr": 0.0}) == ["learns-nothing"]
    (finding,) = doctor.read_report(out).findings
    assert finding["advice"] == "its weights do not change: raise --autoencoder-optimizer.lr." and finding["images"] == 320
    assert "learns-nothing" in doctor.read_report(out).verdict
    doctor.write_page(doctor.read_report(out), tmp_path / "doctor.html")
    page = (tmp_path / "doctor.html").read_text()
    assert f"explained: {doctor.DESCRIPTIONS['explained']}" in page and "learns-nothing" in page


def test_a_codebook_of_one_code_gives_one_output(clothes: np.ndarray, tmp_path: Path) -> None:
    assert found(tmp_path / "run", "vqvae", clothes, images=1280, **{"network.codes": 1}) == ["constant-output"]


def test_codes_that_no_picture_chooses_are_dead(clothes: np.ndarray, tmp_path: Path) -> None:
    names = found(tmp_path / "run", "vqvae", clothes, images=1280, restart_threshold=0.0, commitment=1000.0)
    assert names and set(names) == {"dead-codes"}


def test_a_paired_translator_that_does_not_move_learns_nothing(emoji: np.ndarray, tmp_path: Path) -> None:
    changes = {"translator_optimizer.lr": 0.0}
    assert found(tmp_path / "run", "pix2pix", emoji, tinted(emoji), images=160, **changes) == ["learns-nothing"]
    (finding,) = doctor.read_report(tmp_path / "run").findings
    assert finding["advice"] == "its weights do not change: raise --translator-optimizer.lr."


@pytest.mark.parametrize("recipe, weight", [("cut", "nce"), ("cyclegan", "cycle")])
def test_an_unpaired_translator_that_keeps_its_input_is_a_copy(
    recipe: str, weight: str, emoji: np.ndarray, tmp_path: Path
) -> None:
    changes = {weight: 1000.0, "translator_optimizer.lr": 1e-5}
    out = tmp_path / "run"
    assert found(out, recipe, emoji, tinted(emoji), images=160, **changes) == ["copies-input"]
    (finding,) = doctor.read_report(out).findings
    assert finding["images"] == 80 and f"lower --{weight}" in finding["advice"]


def test_pictures_that_are_all_alike_are_found_in_every_family(clothes: np.ndarray, tmp_path: Path) -> None:
    alike = clothes[:1].repeat(8, 0)
    assert found(tmp_path / "vae", "vae", alike, images=64) == ["pictures-alike"]
    assert found(tmp_path / "pix2pix", "pix2pix", alike, alike, images=8) == ["pictures-alike"]


# ---- healthy runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe, images", [("vae", 1920), ("vaegan", 1920), ("vqvae", 1280)])
def test_a_healthy_autoencoder_raises_no_alarm(recipe: str, images: int, clothes: np.ndarray, tmp_path: Path) -> None:
    assert found(tmp_path / "run", recipe, clothes, images=images) == []
    report = doctor.read_report(tmp_path / "run")
    last = [e for e in report.entries if "explained" in e][-1]
    assert report.checks == 40 and report.verdict.startswith("Nothing is wrong") and last["explained"] > 0.3


def test_a_healthy_paired_translator_raises_no_alarm(emoji: np.ndarray, tmp_path: Path) -> None:
    assert found(tmp_path / "run", "pix2pix", emoji, tinted(emoji), images=1280) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe, images, seed", [("cut", 640, 1), ("cyclegan", 1280, 3)])
def test_a_healthy_unpaired_translator_raises_no_alarm(
    recipe: str, images: int, seed: int, emoji: np.ndarray, tmp_path: Path
) -> None:
    """Of a seed with which the run is healthy: of four seeds so short a cyclegan never leaves the identity with two."""
    assert found(tmp_path / "run", recipe, emoji, tinted(emoji), images=images, seed=seed) == []
    last = [e for e in doctor.read_report(tmp_path / "run").entries if "output_change" in e][-1]
    assert last["output_change"] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["vae", "vqvae"])
def test_sparse_pictures_raise_no_alarm(recipe: str, emoji: np.ndarray, tmp_path: Path) -> None:
    assert found(tmp_path / "run", recipe, emoji, images=2560) == []


# ---- a run that is watched -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe, signal", [("vae", "active_latents"), ("vqvae", "codes_in_use"), ("cut", "output_change")])
def test_a_run_that_is_watched_has_the_weights_of_one_that_is_not(
    recipe: str, signal: str, clothes: np.ndarray, tmp_path: Path
) -> None:
    sets = (clothes, 255 - clothes) if recipe == "cut" else (clothes,)
    images = 16 if recipe == "cut" else 128
    watched = train(tmp_path / "watched", recipe, *sets, images=images)
    alone = train(tmp_path / "alone", recipe, *sets, images=images, doctor=False)
    one, other = (load_file(folder / "weights.safetensors") for folder in (watched, alone))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    for folder, visits in ((watched, 4), (alone, 0)):
        description = json.loads((folder / "limner.json").read_text())["training"]
        report = doctor.read_report(folder)
        assert description["doctor"] == (visits > 0) and report.checks == visits
        assert sum(signal in e for e in report.entries) == visits
    assert "--no-doctor" in doctor.read_report(alone).verdict


def test_auto_tune_is_for_games_only(clothes: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="adjusts GANs only"):
        training.train(clothes, recipe="vqvae", images=32, out=tmp_path / "no", device="cpu", quiet=True, auto_tune=True)


# ---- signals ---------------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """An autoencoder whose codes are its pictures, and whose reconstructions are what a function makes of them."""

    def __init__(self, decode: Any) -> None:
        super().__init__()
        self.decode = decode

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(x)


def test_explained_and_diversity_of_an_autoencoder(clothes: np.ndarray) -> None:
    few = clothes[:64]  # all of them are probed, so that their mean picture is that of the data
    dataset = prepare(open_source(few))
    mean = torch.from_numpy(few).float().div(127.5).sub(1).mean(0)

    def signals(decode: Any) -> dict[str, float]:
        return AutoencoderProbe(Given(decode), dataset, (), 10, MACHINE)(0)

    perfect, constant = signals(lambda x: x), signals(lambda x: mean.expand_as(x))
    assert perfect["explained"] == 1 and perfect["diversity"] == pytest.approx(1)
    assert constant["explained"] == pytest.approx(0, abs=1e-5) and constant["diversity"] == pytest.approx(0, abs=1e-3)
    half = signals(lambda x: (x + mean) / 2)
    assert half["explained"] == pytest.approx(0.75, abs=1e-5) and half["diversity"] == pytest.approx(0.5, abs=1e-3)


def test_latents_and_codes_in_use(clothes: np.ndarray) -> None:
    dataset = prepare(open_source(clothes[:64]))
    net = vae.Autoencoder(dataset.spec, vae.TINY)
    with torch.no_grad():
        net.encoder.last.weight[3:8] = 0  # five of eight means are the same for every picture
        net.encoder.last.weight[:3] *= 100
    assert AutoencoderProbe(net, dataset, (), 32, MACHINE)(0)["active_latents"] == 3
    coder = vqvae.Autoencoder(dataset.spec, vqvae.TINY)
    with torch.no_grad():
        coder.codebook.vectors[1:] += 1e6  # all but one out of reach
    assert AutoencoderProbe(coder, dataset, (), 32, MACHINE)(0)["codes_in_use"] == 1 / 16
    assert coder.training


def test_change_and_explained_of_a_translator(emoji: np.ndarray) -> None:
    a, b = emoji[:16], 255 - emoji[:16]
    for paired in (True, False):
        pairs = prepare_pairs(a, b, paired=paired)

        def signals(a2b: Any, pairs: Any = pairs) -> dict[str, float]:
            return TranslatorProbe(nn.ModuleDict({"a2b": Given(a2b)}), pairs, (), 5, MACHINE)(0)

        copy, truth = signals(lambda x: x), signals(lambda x: -x)
        assert copy["output_change"] == 0 and truth["diversity"] == pytest.approx(1, abs=1e-3)
        assert signals(torch.zeros_like)["diversity"] == 0
        if paired:
            assert truth["explained"] == pytest.approx(1, abs=1e-6) and truth["output_change"] == pytest.approx(1, abs=1e-6)
            median = torch.from_numpy(b).float().div(127.5).sub(1).median(0).values
            assert signals(lambda x, m=median: m.expand_as(x))["explained"] == pytest.approx(0, abs=1e-6)
        else:
            assert "explained" not in truth


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_a_bad_value_is_found_once_it_no_longer_improves() -> None:
    flat = [{"explained": 0.01}] * FIRST_CHECK
    assert stuck_below(flat, "explained", 0.05) == 0.01
    assert stuck_below(flat[1:], "explained", 0.05) is None, "too early"
    lr_warmup = [{"explained": -1 + 0.05 * i} for i in range(FIRST_CHECK)]
    assert stuck_below(lr_warmup, "explained", 0.05) is None
    assert stuck_below(lr_warmup[::-1], "explained", 0.05) is not None, "what gets worse does not improve"
    assert stuck_below([{"explained": 0.06}] * FIRST_CHECK, "explained", 0.05) is None
    assert stuck_below(flat, "codes_in_use", 0.1) is None, "a signal that this run does not have"


def test_one_direction_may_be_a_copy_for_longer_than_both() -> None:
    rule = copies_input("advice.")
    both, one = {"output_change": 0.01, "output_change_b2a": 0.01}, {"output_change": 0.4, "output_change_b2a": 0.01}
    assert rule([both] * (FIRST_COPY_CHECK - 1)) is None and rule([both] * FIRST_COPY_CHECK) is not None
    assert rule([one] * (ONE_WAY_COPY_CHECK - 1)) is None
    late = rule([one] * ONE_WAY_COPY_CHECK)
    assert late is not None and "from b to a" in late.message


def test_a_discriminator_of_translations_is_ahead_when_it_leaves_no_gradient() -> None:
    """Digits to bold, inverted ones, cyclegan, 1,500 images: right in both directions, the outputs still digits on black."""
    rule = discriminator_too_strong("advice.")
    start = [{"d_accuracy": 1.0, "d_accuracy_b2a": 1.0, "gradient_translator": 0.5}] * (ONE_WAY_COPY_CHECK - 8)
    late = {"d_accuracy": 1.0, "d_accuracy_b2a": 1.0, "gradient_translator": 0.005}
    found = rule([*start, *[late] * 8])
    assert found is not None and found.name == "discriminator-too-strong" and "to 1.0% of its maximum" in found.message
    assert rule([*start[1:], *[late] * 8]) is None, "too early"
    assert rule([*start, *[late] * 7, late | {"d_accuracy_b2a": 0.9}]) is None, "one direction is learning"
    assert rule([*start, *[late | {"gradient_translator": 0.05}] * 8]) is None, "as in a healthy run before it leaves its input"
    assert rule([*start, *[late] * 7, late | {"gradient_translator": 2.0}]) is None, "it leaves its input just now"
    assert rule([*start, *[{"gradient_translator": 0.005}] * 8]) is None, "a signal that this run does not have"


def test_how_often_a_discriminator_is_right_about_translations(emoji: np.ndarray) -> None:
    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1)

    pairs = prepare_pairs(emoji[:16], 255 - emoji[:16], paired=False)
    nets = nn.ModuleDict({"a2b": Given(lambda x: torch.full_like(x, -1)), "b2a": Given(torch.ones_like)})  # dark, and bright

    def signals(discriminators: Any) -> dict[str, float]:
        return TranslatorProbe(nets, pairs, (), 5, MACHINE, discriminators)(0)

    assert "d_accuracy" not in signals({})
    found = signals({"a2b": Brightness(), "b2a": Brightness()})
    assert found["d_accuracy"] == 1 and found["d_accuracy_b2a"] == 0


def test_few_codes_that_suffice_are_not_dead() -> None:
    rule = dead_codes("advice.")
    assert rule([{"codes_in_use": 0.05, "explained": 0.9}] * FIRST_CHECK) is None
    assert rule([{"codes_in_use": 0.05, "explained": 0.1}] * FIRST_CHECK) is not None

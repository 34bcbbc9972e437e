"""What a codec is trained on, how it is measured while it trains, and what the doctor says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.apps import doctor
from limner.core import artifact, distributed
from limner.core.images import ImageSpec, to_float
from limner.core.machine import Machine
from limner.data.request import DataRequest
from limner.networks.hyperprior import TINY, Codec
from limner.recipes import codec
from limner.runs.validate import rate_distortion

MACHINE = Machine(torch.device("cpu"), torch.float32, distributed.ALONE)
RECIPE = codec.PRESETS["codec"].make()
SMALL: dict[str, Any] = {f"network.{name}": getattr(TINY, name) for name in (
    "latent_channels", "hyper_channels", "hyper_width", "encoder_width", "decoder_width", "qualities")}  # fmt: skip
FAST: dict[str, Any] = {"device": "cpu", "threads": 1, "quiet": True, "precision": "fp32", "batch": 4}


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


def folder_of(place: Path, sizes: list[tuple[int, int]]) -> Path:
    rng = np.random.default_rng(0)
    place.mkdir()
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(place / f"{i:02}.png")
    return place


@pytest.mark.parametrize(
    ("sizes", "side"),
    [([(300, 400)] * 3, 192), ([(150, 200)] * 3, 128), ([(127, 200)] * 3, 64), ([(64, 64)] * 3, 64), ([(28, 40)] * 3, 28), ([(300, 400), (300, 200), (50, 60)], 192)],
)
def test_crops_fit_the_pictures(sizes: list[tuple[int, int]], side: int, tmp_path: Path) -> None:
    data = codec.load_data(RECIPE, DataRequest(data=folder_of(tmp_path / "data", sizes)))
    assert data.spec == ImageSpec(3, side, side) and len(data) == sum(min(size) >= side for size in sizes)
    assert any(f"Crops of {side}x{side} are trained on" in note for note in data.notes)
    assert len(data.bad) == len(sizes) - len(data)


def test_size_and_flip_are_the_users(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "data", [(100, 100)] * 2)
    data = codec.load_data(dataclasses.replace(RECIPE, flip=False), DataRequest(data=place, size=(64, 96)))
    assert data.spec.size == (64, 96) and not data.crops.flip and RECIPE.flip
    with pytest.raises(ValueError, match="Every picture is smaller"):
        codec.load_data(RECIPE, DataRequest(data=place, size=128))
    with pytest.raises(ValueError, match="--fit has no meaning"):
        codec.load_data(RECIPE, DataRequest(data=place, fit="pad"))
    with pytest.raises(ValueError, match="one set of pictures"):
        codec.load_data(RECIPE, DataRequest(data=place, second=place))


def test_validator_measures_the_mean_over_qualities() -> None:
    torch.manual_seed(0)
    net = Codec(ImageSpec(3, 28, 28), TINY).eval()
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 28, 28), dtype=np.uint8))
    validator = rate_distortion(pictures, "crops", MACHINE)
    assert validator.columns == ("rd_loss", "bpp", "psnr") and validator.better == "lower"
    found = validator.measure(net)
    x = torch.nn.functional.pad(to_float(pictures), (0, 36, 0, 36), mode="replicate")
    wanted = torch.zeros(3)
    with torch.no_grad():
        for level in range(3):
            quality = torch.full((3,), float(level))
            y = net.analysis(x, quality)
            bits, _ = net.rate_distortion(x, y, net.hyper_analysis(y), quality)
            error = (net(x, quality).clamp(-1, 1) - x)[..., :28, :28].square().mean((1, 2, 3)) * 127.5**2
            losses = net.weighted(bits / 28**2, error, quality)
            wanted += torch.stack([losses.mean(), (bits / 28**2).mean(), (10 * torch.log10(255**2 / error)).mean()]) / 3
    assert [found[name] for name in validator.columns] == pytest.approx(wanted.tolist(), rel=1e-4)


def test_a_run_writes_its_figures_and_a_preview_of_four_rows(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "data", [(70, 80)] * 20)
    run = limner.train(place, recipe="codec", images=16, out=tmp_path / "run", changes=SMALL, **FAST)
    with Image.open(run.folder / "preview.png") as sheet:
        assert sheet.height > sheet.width / 3  # 8 columns, 4 rows
    log = artifact.read_log(run.folder)
    assert {"bpp", "psnr"} <= log[-1].keys() and any("rd_loss" in entry for entry in log)
    description = artifact.read_description(run.folder)
    assert description["training"]["held_out_count"] == 2 and description["network"]["architecture"] == "hyperprior"
    assert "limner compress" in (run.folder / "README.md").read_text()


def test_a_ruined_codec_learns_nothing(tmp_path: Path) -> None:
    data = limner.data.open_source("fashion", labels=False)
    pictures = np.stack([np.asarray(data.open(i)) for i in range(40)])
    limner.train(pictures, recipe="codec", images=320, out=tmp_path / "run", changes=SMALL | {"codec_optimizer.lr": 0.2}, **FAST)
    found = doctor.read_report(tmp_path / "run").findings
    assert found and {finding["finding"] for finding in found} <= {"not-finite", "learns-nothing", "constant-output"}
    assert any("lower --codec-optimizer.lr" in finding["advice"] for finding in found)
    limner.train(pictures, recipe="codec", images=320, out=tmp_path / "well", changes=SMALL, **FAST)
    assert not doctor.read_report(tmp_path / "well").findings

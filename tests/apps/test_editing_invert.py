"""Inversion: the search, the encoder beside the run, tuned copies, and `limner invert`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import limner
from editing_models import model_of
from limner.apps.editing import encoder as encoders
from limner.apps.editing import search
from limner.apps.editing import tune as tuning
from limner.apps.editing.invert import Inverter, target_of
from limner.apps.editing.latent import Latent, fingerprint, latent_of, render
from limner.apps.editing.objective import Objective
from limner.apps.editing.search import Found, levenberg_marquardt, residuals
from limner.apps.editing.spaces import Space, space_of
from limner.cli import main
from limner.core.images import to_float
from limner.data.image import Damaged
from limner.evaluation.image_quality import psnr_of


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few seconds on squares, of two classes; its encoder is trained on few pictures."""
    out = tmp_path_factory.mktemp("runs") / "squares"
    changes = {"architecture": "conv", "generator.z_size": 16, "generator.width": 8, "discriminator.width": 8}
    limner.train(str(squares), recipe="spectral", changes=changes, images=1600, out=str(out), quiet=True)
    return out


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "PIXELS", 0)
    monkeypatch.setattr(encoders, "LEAST_PICTURES", 640)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("editing"))
    return tmp_path / "run"


# ---- search ----------------------------------------------------------------------------------------------------------


def test_levenberg_marquardt_solves_a_linear_generator_in_one_step() -> None:
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 64, generator=rng) * 0.1
    model = model_of()

    class Linear(torch.nn.Module):
        z_size = 6

        def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
            return (z @ matrix).view(-1, 1, 8, 8)

    model.network = Linear()
    truth = torch.randn(1, 6, generator=rng)
    objective = Objective(model, Space(6), Linear()(truth))
    found = levenberg_marquardt(objective, Found(torch.zeros(6), float("inf"), 1e-6), None, 4)
    assert torch.allclose(found.q, truth[0], atol=1e-3)
    assert found.done


def test_levenberg_marquardt_never_raises_the_cost_and_ends_at_the_deadline() -> None:
    model = model_of()
    objective = Objective(model, Space(8), to_float(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16), np.uint8))))
    found, costs = Found(torch.zeros(8), float("inf")), []
    for _ in range(8):
        found = levenberg_marquardt(objective, found, None, 1)
        costs.append(found.cost)
    assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]
    ticks: list[int] = []
    same = levenberg_marquardt(objective, found, None, 5, lambda: True, ticks.append)
    assert torch.equal(same.q, found.q) and not ticks


def test_the_prior_keeps_a_picture_that_is_no_sample_likely() -> None:
    model = model_of()
    space = space_of(model)
    noise = to_float(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16), np.uint8)))
    found = levenberg_marquardt(Objective(model, space, noise), Found(torch.zeros(8), float("inf")), None, 20)
    assert found.q.norm() < 3 * 8**0.5


def test_a_large_picture_is_compared_at_lower_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.apps.editing.objective.LARGEST_PIXELS", 64)
    model = model_of()
    objective = Objective(model, Space(8), torch.zeros(1, 1, 16, 16))
    assert objective.pool == 2 and objective.count == 64
    assert residuals(objective, torch.zeros(3, 8), None).shape == (3, 64)


def test_whitened_styles_have_unit_variance() -> None:
    model = model_of("stylegan2", 3)
    space = space_of(model)
    assert space.means is not None and space.axes is not None and space.means.shape == (3, 8)
    w = torch.randn(4000, space.size, generator=torch.Generator().manual_seed(0)) @ space.axes
    labels = torch.arange(4000) % 3
    true = model.network.mapping(torch.from_numpy(model.latents(4000, np.random.default_rng(0))), labels) - space.means[labels]
    assert torch.allclose(w.T.cov(), true.T.cov(), atol=0.1 * float(true.T.cov().diagonal().max()))
    assert space.code(torch.zeros(2, space.size), torch.tensor([0, 1])).shape == (2, model.network.layers, 8)


# ---- inversion -------------------------------------------------------------------------------------------------------


def test_own_samples_are_recovered_with_their_class(run: Path) -> None:
    model = limner.load(run, "cpu")
    inverter = Inverter(model)
    labels = np.arange(12) % 2
    pictures = np.asarray(model.render(model.latents(12, np.random.default_rng(3)), labels))
    found = [inverter.invert(picture) for picture in pictures]
    assert np.mean([result.psnr >= 35 for result in found]) >= 0.75, [result.psnr for result in found]
    assert np.mean([result.latent.label == label for result, label in zip(found, labels, strict=True)]) >= 0.75
    for picture, result in zip(pictures, found, strict=True):
        assert result.psnr == psnr_of(np.asarray(model.render(result.latent))[0], picture)


@pytest.mark.parametrize("name", ["mlp", "biggan", "stylegan2", "r3gan"])
def test_every_kind_of_generator_is_inverted_without_a_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = model_of(name, 2)
    model.folder = tmp_path / "run"
    model.description |= {"recipe": {"discriminator": {}}}
    picture = np.asarray(model.render(model.latents(1, np.random.default_rng(0)), np.array([1])))[0]
    inverter = Inverter(model)  # there is no checkpoint: the features are the encoder's
    assert inverter.discriminator is None and inverter.encoder is not None
    result = inverter.invert(picture, 1)
    assert result.psnr > 26, result.psnr
    assert (result.latent.styles is not None) == (name == "stylegan2")
    monkeypatch.setattr("limner.apps.editing.invert.LARGEST_JACOBIAN", 0)
    assert inverter.invert(picture, 1, steps=4).psnr > 16  # by gradient


def test_inversion_is_deterministic_and_survives_a_second_model(run: Path) -> None:
    picture = np.full((1, 16, 16), 90, np.uint8)
    first, second = (limner.load(run, "cpu").invert(picture, encoder=False).code for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1"])
def test_any_picture_becomes_one_of_the_training_data(run: Path, mode: str) -> None:
    model = limner.load(run, "cpu")
    gray = Image.fromarray(np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((np.asarray(gray).astype(np.uint16)) * 257)
    else:
        image = gray.convert(mode)
    target = target_of(model, image)
    assert target.shape == (1, 16, 16) and target.dtype == np.uint8
    if mode != "1":
        assert np.abs(target.astype(int) - target_of(model, gray)).max() <= 2


def test_what_cannot_be_inverted_is_one_sentence(run: Path, tmp_path: Path) -> None:
    model = limner.load(run, "cpu")
    with pytest.raises(ValueError, match="label 'cat' is unknown"):
        model.invert(np.zeros((1, 16, 16), np.uint8), label="cat")
    with pytest.raises(ValueError, match="as an array is uint8"):
        model.invert(np.zeros((16, 16), np.uint8))
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be used"):
        model.invert(tmp_path / "no.png")
    with pytest.raises(Damaged):
        broken = Image.open(write_truncated(tmp_path / "half.png"))
        target_of(model, broken)


def write_truncated(path: Path) -> Path:
    """Write half of a PNG."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


# ---- the encoder beside the run --------------------------------------------------------------------------------------


def test_the_encoder_is_trained_once_and_goes_on_after_an_interrupt(copy: Path) -> None:
    model = limner.load(copy, "cpu")
    space, own = space_of(model), fingerprint(model)
    path = encoders.path_of(copy)

    def stop(done: int, total: int) -> None:
        if done >= 320:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoders.encoder_for(model, space, own, stop)
    assert path.exists()
    seen: list[int] = []
    encoders.encoder_for(model, space, own, lambda done, total: seen.append(done))
    assert seen[0] == 384 and seen[-1] == 640
    before = path.read_bytes()
    encoders.encoder_for(model, space, own, lambda *_: pytest.fail("trained again"))
    assert path.read_bytes() == before
    for damage in (before[:100], b"", before[:-4] + b"\0\0\1\2"):  # a damaged file is trained anew
        path.write_bytes(damage)
        seen.clear()
        encoders.encoder_for(model, space, own, lambda done, total: seen.append(done))
        assert seen[0] == 64
    other = model_of(classes=2)
    other.folder = copy
    seen.clear()
    encoders.encoder_for(other, space_of(other), fingerprint(other), lambda done, total: seen.append(done))
    assert seen[0] == 64  # the weights are others


def test_the_training_says_how_long_it_takes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = limner.load(copy, "cpu")
    monkeypatch.setattr(encoders, "LEAST_PICTURES", 2560)
    said: list[str] = []
    encoders.encoder_for(model, space_of(model), fingerprint(model), None, said.append)
    assert len(said) == 1 and "trains its encoder: about" in said[0] and str(encoders.path_of(copy)) in said[0]


# ---- tuned copies ----------------------------------------------------------------------------------------------------


def test_a_tuned_copy_shows_the_picture_and_keeps_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = limner.load(run, "cpu")
    before = fingerprint(model)
    target = np.zeros((1, 16, 16), np.uint8)
    target[0, 4:12, 4:12] = 200
    latent = model.invert(target, encoder=False)
    own = dict(model.network.named_parameters())
    z, labels = model.latents(64, np.random.default_rng(1)), np.arange(64) % 2
    others = [latent_of(model, row, int(label)) for row, label in zip(z, labels, strict=True)]
    kept = {}
    for locality in (0.0, 0.5):
        monkeypatch.setattr(tuning, "LOCALITY", locality)
        changes = tuning.tune(model, latent.code, latent.label, target, steps=100, goal=26)
        weights = {name: own[name] + change for name, change in changes.items()}
        projected, tuned = (psnr_of(render(model, [latent], w)[0], target) for w in (None, weights))
        assert tuned > projected + 6 and tuned > 26, (projected, tuned)
        kept[locality] = np.mean([psnr_of(a, b) for a, b in zip(render(model, others, weights), render(model, others), strict=True)])
    assert kept[0.5] > kept[0.0] + 1, kept
    assert fingerprint(model) == before


# ---- command ---------------------------------------------------------------------------------------------------------


def invoke(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command_writes_latent_sheet_and_delta(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "me.png")
    weights = (copy / "weights.safetensors").read_bytes()
    out = tmp_path / "me.latent.npz"
    assert invoke("invert", copy, tmp_path / "me.png", "--out", out, "--label", "1", "--steps", "6", "--tune") == 0
    output, errors = capsys.readouterr()
    assert f"1 latent is in {out}" in output and "dB by its tuned copy" in errors
    latent = Latent.load(out)
    assert latent.label == 1 and latent.delta == tmp_path / "me.delta.safetensors"
    with Image.open(tmp_path / "me.inverted.png") as sheet:
        assert sheet.height > 2 * sheet.width  # truth, reconstruction and tuned copy
    assert limner.load(copy, "cpu").render(latent).shape == (1, 1, 16, 16)
    assert (copy / "weights.safetensors").read_bytes() == weights


def test_a_folder_gives_a_folder_and_bad_pictures_are_skipped(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8)).save(pictures / f"{i}.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    assert invoke("invert", copy, pictures, "--no-encoder", "--steps", "2") == 0
    output, errors = capsys.readouterr()
    assert "3 latents are in" in output and "bad.png is skipped" in errors and "--tune makes a copy" in output
    assert sorted(path.name for path in (copy / "latents").iterdir()) == [*(f"{i}.latent.npz" for i in range(3)), "inverted.png"]
    assert not (copy / "editing").exists()
    for arguments, message in [
        (["--out", tmp_path / "x.latent.npz"], "holds one latent"), (["--label", "cat"], "is unknown"), (["--steps", "0"], "1 to 10,000 steps"),
        (["--seconds", "nan"], "more than 0"), (["--out", copy / "weights.safetensors"], "belongs to the run itself"),
    ]:  # fmt: skip
        assert invoke("invert", copy, pictures, *arguments) == 2
        assert message in capsys.readouterr().err
    assert invoke("invert", copy, pictures / "0.png", "--out", tmp_path / "x.npz") == 2
    assert "ends in .latent.npz" in capsys.readouterr().err
    assert invoke("invert", copy, pictures / "bad.png") == 2
    assert "cannot be used" in capsys.readouterr().err


def test_search_by_gradient_lowers_the_cost() -> None:
    model = model_of()
    space = space_of(model)
    x = to_float(torch.from_numpy(np.asarray(model.render(model.latents(1, np.random.default_rng(0))))))
    objective = Objective(model, space, x)
    start = torch.full((8,), 0.1)
    q, cost = search.descend(objective, start, None, 100)
    assert cost < float(search.evaluated(objective, start[None], None)[0]) - 1
    assert cost == pytest.approx(float(search.evaluated(objective, q[None], None)[0]), abs=1e-4)

"""`limner export RUN model.onnx`: every family and architecture, against PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import export_models as models  # noqa: E402
from limner.apps.export import check, onnx  # noqa: E402
from limner.apps.export.parts import folded, part_of, parts_of  # noqa: E402
from limner.core import latents  # noqa: E402
from limner.core.condition import NONE, Condition  # noqa: E402
from limner.networks import NAMES, padding  # noqa: E402

CLASSES = models.CLASSES


@pytest.fixture(autouse=True)
def fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself is tested once with all its rows."""
    monkeypatch.setattr("limner.apps.export.part.LATENTS_CHECKED", 70)


def exported(model: Any, folder: Path, part: str | None = None) -> tuple[Any, Any]:
    """The session of an exported part, and its report."""
    report = onnx.write(model, folder / "out.onnx", part)
    assert 0 <= report.error <= 2e-5 and report.size == (folder / "out.onnx").stat().st_size
    return check.session((folder / "out.onnx").read_bytes()), report


@pytest.mark.parametrize("name", NAMES)
def test_every_generator_is_exported_with_classes(name: str, tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", name, CLASSES)
    session, _ = exported(model, tmp_path)
    z, label = np.random.default_rng(3).standard_normal((5, model.z_size), np.float32), np.arange(5) % 3
    pixels = session.run(None, {"z": z, "label": label})[0]
    with torch.no_grad():
        truth = model.network(torch.from_numpy(z), torch.from_numpy(label)).clamp(-1, 1)
    assert np.abs(pixels - (truth.numpy() + 1) / 2).max() < 2e-5
    assert np.abs(pixels[0] - pixels[3]).max() > 1e-4  # the latent matters
    other = session.run(None, {"z": z, "label": (label + 1) % 3})[0]
    assert np.abs(pixels - other).max() > 1e-4  # and so does the class


@pytest.mark.slow
@pytest.mark.parametrize("condition", [NONE, Condition.vector(4), Condition.tokens(9, 5)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_generator_is_exported_with_every_condition(name: str, condition: Condition, tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", name, condition, channels=1 if condition else 4)
    if condition.kind == "tokens":  # as a text-to-image generator has them, whose export tests/apps/test_export_text.py covers
        model.tokenizer, model.captions = SimpleNamespace(to_json=dict), []
    exported(model, tmp_path)


@pytest.mark.parametrize("noise", latents.DISTRIBUTIONS)
def test_latents_are_standard_normal_whatever_the_network_uses(noise: str, tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "mlp", noise=noise)
    part, z = part_of(model), torch.from_numpy(np.random.default_rng(0).standard_normal((4000, 8), np.float32))
    with torch.no_grad():
        truth = model.network(latents.transform(z, noise))
    assert (part(z)[0] * 2 - 1 - truth).abs().max() < 1e-6


def test_virtual_batch_normalization_is_frozen(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "dcgan", CLASSES, norm="virtual", reference_batch=4)
    z, label = folded(model).examples(7, 0)
    assert (folded(model)(z, label)[0] - part_of(model)(z, label)[0]).abs().max() < 1e-5
    exported(model, tmp_path)


def test_truncation_is_an_input_with_a_default(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "stylegan2", CLASSES)
    session, _ = exported(model, tmp_path)
    z, label = np.random.default_rng(3).standard_normal((6, model.z_size), np.float32), np.arange(6) % 3
    whole = session.run(None, {"z": z, "label": label})[0]
    assert np.array_equal(whole, session.run(None, {"z": z, "label": label, "truncation": np.ones(1, np.float32)})[0])
    half = session.run(None, {"z": z, "label": label, "truncation": np.full(1, 0.5, np.float32)})[0]
    model._precision = torch.float32
    model.calibrate(label)
    truth = np.asarray(model.render(z, label, 0.5))
    assert np.abs(np.round(half * 255) - truth).max() <= 1
    mean = session.run(None, {"z": z, "label": label, "truncation": np.zeros(1, np.float32)})[0]
    assert np.abs(mean[0] - mean[3]).max() < 1e-5 < np.abs(mean[0] - mean[1]).max()  # one mean a class


@pytest.mark.parametrize(
    ("make", "name"),
    [pytest.param(lambda f: models.autoencoder(f, "vae", CLASSES), "vae", marks=pytest.mark.slow), (lambda f: models.autoencoder(f, "vqvae"), "vqvae")],
    ids=["vae", "vqvae"],
)
def test_autoencoders(make: Any, name: str, tmp_path: Path) -> None:
    model = make(tmp_path / "run")
    for part in parts_of(model):
        session, _ = exported(model, tmp_path, part)
        if part == "encoder":
            picture = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), np.uint8)
            made = session.run(None, {"pixel_values": picture.astype(np.float32) / 255})[0]
            assert made.shape == model.encode(picture).shape


def test_samples_of_a_vae_are_those_of_its_prior(tmp_path: Path) -> None:
    model = models.autoencoder(tmp_path / "run", "vae", CLASSES)
    part, n = part_of(model), 2000
    z, chance, label = part.examples(n, 0)
    drawn = model.autoencoder.prior.draw(z, chance, label)
    with torch.no_grad():
        truth = (model.autoencoder.decode(drawn).clamp(-1, 1) + 1) / 2
    different = (part(z, chance, label)[0] - truth).abs().amax((1, 2, 3)) > 1e-4
    assert different.float().mean() < 1e-3  # a component's end may be rounded


@pytest.mark.parametrize("name", ["unet", "resnet"])
def test_translators_of_any_size(name: str, tmp_path: Path) -> None:
    model = models.translator(tmp_path / "run", name)
    session, report = exported(model, tmp_path, "b2a")
    assert "transparency" in report.notes[0]
    for size in ((1, 3, 21, 34), (2, 3, 48, 17)):
        x = torch.rand(size)
        with torch.no_grad():
            truth = (model.networks["b2a"](x * 2 - 1) + 1) / 2
        assert np.abs(session.run(None, {"pixel_values": x.numpy()})[0] - truth.numpy()).max() < 2e-5


@pytest.mark.parametrize(
    ("name", "task", "scale"),
    [("plain", "super-resolution", 3), ("plain", "denoise", 1), ("restoration-unet", "inpaint", 1), ("restoration-unet", "colorize", 1)],
)
def test_restorers_of_any_size(name: str, task: str, scale: int, tmp_path: Path) -> None:
    model = models.restored(tmp_path / "run", name, task, scale)
    session, _ = exported(model, tmp_path)
    x = np.random.default_rng(0).random((2, 1 if task == "colorize" else 3, 23, 30), np.float32)
    feed = {"pixel_values": x}
    if task == "inpaint":
        mask = np.zeros((2, 1, 23, 30), np.float32)
        mask[:, :, 5:9, 5:20] = 1
        feed["mask"] = mask
    made = session.run(None, feed)[0]
    assert made.shape == (2, 3, 23 * scale, 30 * scale) and made.min() >= 0 and made.max() <= 1
    if task == "inpaint":
        outside = np.broadcast_to(mask == 0, made.shape)
        assert np.array_equal(made[outside], x[outside]) and np.abs(made - x)[~outside].max() > 0.01


@pytest.mark.slow
def test_codecs_and_classifiers(tmp_path: Path) -> None:
    codec = models.codec(tmp_path / "codec")
    for part in ("decoder", "encoder"):
        assert "limner decompress" in exported(codec, tmp_path, part)[1].notes[0]
    for norm in ("weight", "batch"):
        model = models.classifier(tmp_path / norm, norm)
        session, _ = exported(model, tmp_path)
        pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), np.uint8)
        logits, features = session.run(None, {"pixel_values": pictures.astype(np.float32) / 255})
        model._precision = torch.float32
        odds = np.exp(logits.astype(np.float64))
        assert np.abs(odds / odds.sum(1, keepdims=True) - model.classify(pictures)).max() < 1e-5
        assert np.abs(features - model.encode(pictures)).max() < 1e-4


def test_metadata_names_the_classes_the_latent_and_the_run(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "conv", CLASSES, channels=1)
    session, _ = exported(model, tmp_path)
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["limner.classes"]) == ["class 0", "class 1", "class 2"]
    assert (found["limner.latent_size"], found["limner.latent_distribution"]) == ("8", "standard normal")
    assert (found["Image.BitmapPixelFormat"], found["Image.NominalPixelRange"]) == ("Gray8", "Normalized_0_1")
    assert found["license"] == "mit" and len(found["limner.run"]) == 64
    assert [i.shape for i in session.get_inputs()] == [["batch", 8], ["batch"]]
    assert session.get_outputs()[0].shape == ["batch", 1, 16, 16]
    content = (tmp_path / "out.onnx").read_bytes()
    assert b"site-packages" not in content and str(tmp_path).encode() not in content  # no path of this machine


def test_nothing_is_written_when_the_graph_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.generator(tmp_path / "run", "mlp")
    good = onnx.traced(folded(model), {})
    with torch.no_grad():
        model.network.layers[0].bias += 0.01
    monkeypatch.setattr(onnx, "traced", lambda *_: good)
    (tmp_path / "x.onnx").write_bytes(b"before")
    with pytest.raises(ValueError, match=r"differs from PyTorch by .* nothing was written"):
        onnx.write(model, tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == b"before"


def test_the_comparison_takes_a_thousand_latents_in_batches_of_1_3_and_64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model, rows = models.generator(tmp_path / "run", "mlp"), []
    content, real = onnx.traced(folded(model), {}), check.run
    monkeypatch.setattr(check, "run", lambda *given: rows.append(len(given[2][0])) or real(*given))
    assert check.compare(part_of(model), content) < 1e-5
    assert sum(rows) == 3000 and set(rows) == {1, 3, 64, 1000 % 64}


def test_padding_of_symbols_equals_padding_of_numbers() -> None:
    class Pad(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return padding.pad_to(x, 4)

    dynamic = torch.export.Dim.DYNAMIC
    traced = torch.export.export(Pad(), (torch.rand(2, 3, 9, 10),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)).module()
    for size in ((2, 3, 8, 16), (1, 3, 9, 7), (3, 3, 11, 5)):
        x = torch.rand(size)
        assert torch.equal(traced(x), padding.pad_to(x, 4))


def test_unknown_parts_and_missing_packages_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.generator(tmp_path / "run", "mlp")
    with pytest.raises(ValueError, match="This generator has the parts generator, encoder, not 'decoder'"):
        onnx.write(model, tmp_path / "x.onnx", "decoder")
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'limner\[export\]'"):
        onnx.write(model, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()

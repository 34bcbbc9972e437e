"""Features of every kind of run: shapes, independence of the batch, a linear probe, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import limner
from limner.apps.encode import discriminator_features, encode, encoded, encoder_of
from limner.core.condition import Condition
from limner.core.files import write_tensors
from limner.core.images import ImageSpec
from limner.networks import NAMES, architecture, hyperprior, plain, restoration_unet
from sides import model_of


@pytest.fixture(scope="module", autouse=True)
def _no_speed_trial() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        yield


@pytest.fixture(scope="module")
def gan(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run without classes, so that its discriminator never saw a label."""
    images = np.load(squares)["images"]
    small = {"generator.width": 8, "discriminator.width": 8, "batch": 16}
    out = tmp_path_factory.mktemp("runs") / "gan"
    limner.train(images, images=1600, recipe="spectral", changes=small, out=out, quiet=True, metric="none")
    return out


def fake_run(folder: Path, name: str, spec: ImageSpec, **recipe: float) -> SimpleNamespace:
    """A model whose checkpoint holds an untrained discriminator of an architecture."""
    home = architecture(name)
    torch.manual_seed(0)
    shape = spec if not recipe.get("classifier") else ImageSpec(spec.channels, spec.height, spec.width)
    net = home.Discriminator(shape, home.TINY_DISCRIMINATOR)
    (folder / "checkpoint").mkdir(parents=True)
    tensors = {f"net.discriminator.{key}": value for key, value in net.state_dict().items()} | {"net.generator.x": torch.zeros(1)}
    write_tensors(folder / "checkpoint/latest.safetensors", tensors)
    description = {"kind": "generator", "recipe": {"discriminator": asdict(home.TINY_DISCRIMINATOR), **recipe}, "network": {"architecture": name}}
    return SimpleNamespace(folder=folder, spec=spec, description=description, _device=torch.device("cpu"))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_discriminator_gives_features_of_each_picture_alone(name: str, classes: int, tmp_path: Path) -> None:
    model = fake_run(tmp_path, name, ImageSpec(3, 32, 32, Condition.classes(classes)))
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    encoder = encoder_of(model)
    rows = encoded(encoder, pictures, model._device)
    assert rows.dtype == np.float32 and rows.shape[0] == 5 and rows.shape[1] >= 4 and rows.std(0).max() > 0
    np.testing.assert_allclose(encoded(encoder, pictures[2:3], model._device), rows[2:3], rtol=1e-4, atol=1e-5)
    assert encoded(encoder, pictures[:0], model._device).shape == (0, rows.shape[1])


def test_features_do_not_depend_on_a_class_that_is_not_known(tmp_path: Path) -> None:
    model = fake_run(tmp_path, "dcgan", ImageSpec(1, 16, 16, Condition.classes(2)))  # takes the class as a channel
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    home = architecture("dcgan")
    torch.manual_seed(0)
    net = home.Discriminator(model.spec, home.TINY_DISCRIMINATOR).eval()
    found: list[torch.Tensor] = []
    net.last.register_forward_pre_hook(lambda _, given: found.append(given[0].flatten(1)))
    for label in range(2):
        net(x, torch.full((4,), label))
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(discriminator_features(model)(x), (found[0] + found[1]) / 2)


def test_the_discriminator_of_acgan_takes_no_class(tmp_path: Path) -> None:
    model = fake_run(tmp_path, "dcgan", ImageSpec(1, 16, 16, Condition.classes(2)), classifier=1.0)
    assert discriminator_features(model)(torch.zeros(2, 1, 16, 16)).shape[0] == 2


def test_a_linear_probe_of_a_discriminator_that_saw_no_label(gan: Path, squares: Path, tmp_path: Path) -> None:
    line = encode(limner.load(gan, "cpu"), str(squares), tmp_path / "f.npz")
    assert line.startswith("96 features of ") and "f.npz" in line
    kept = np.load(tmp_path / "f.npz")
    assert set(kept) == {"features", "names", "labels", "classes"} and kept["classes"].tolist() == ["0", "1"]
    x, y = kept["features"].astype(np.float64), kept["labels"]
    x = (x - x[:48].mean(0)) / (x[:48].std(0) + 1e-6)
    w, b = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True), torch.zeros((), dtype=torch.float64, requires_grad=True)
    features, labels = torch.from_numpy(x), torch.from_numpy(y).double()
    optimizer = torch.optim.LBFGS([w, b], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(features[:48] @ w + b, labels[:48]) + 0.01 * w.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    right = ((features[48:] @ w + b > 0) == (labels[48:] > 0.5)).double().mean().item()
    assert right > 0.9  # chance is 0.5


def test_without_a_readable_checkpoint_there_is_one_sentence(gan: Path, squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(gan, run)
    model = limner.load(run, "cpu")
    latest, previous = run / "checkpoint/latest.safetensors", run / "checkpoint/previous.safetensors"
    rows = discriminator_features(model)(torch.zeros(1, 1, 16, 16))
    shutil.copy(latest, previous)
    latest.write_bytes(latest.read_bytes()[:1000])
    torch.testing.assert_close(discriminator_features(model)(torch.zeros(1, 1, 16, 16)), rows)
    previous.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no readable discriminator that fits limner\.json"):
        encode(model, str(squares), tmp_path / "f.npz")
    write_tensors(latest, {"net.discriminator.other": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"no readable discriminator that fits limner\.json"):
        discriminator_features(model)
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(ValueError, match="holds no folder checkpoint, where a run keeps its discriminator"):
        discriminator_features(model)


@pytest.mark.parametrize("recipe", ["pix2pix", "cyclegan"])
def test_a_translator_gives_its_bottleneck(recipe: str, squares: Path, tmp_path: Path) -> None:
    images = np.load(squares)["images"]
    small = {"network.width": 8, "discriminator.width": 8}
    limner.train(images, 255 - images, images=8, recipe=recipe, changes=small, out=tmp_path / "run", quiet=True, metric="none")
    encode(limner.load(tmp_path / "run", "cpu"), str(squares), progress=lambda done, total: None)
    kept = np.load(tmp_path / "run/features.npz")
    assert kept["features"].ndim == 2 and len(kept["features"]) == 96 and np.ptp(kept["features"], 0).max() > 0


def test_a_classifier_and_labels_of_some(squares: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path, classes=("0", "1", "2"))
    images = np.load(squares)["images"]
    np.savez(tmp_path / "some.npz", images=images[:5], labels=np.array([0, 1, -1, 1, -1]))
    encode(model, str(tmp_path / "some.npz"), tmp_path / "f.npz")
    kept = np.load(tmp_path / "f.npz")
    assert kept["labels"].tolist() == [0, 1, -1, 1, -1]
    np.testing.assert_allclose(kept["features"], model.encode(images[:5, None]), rtol=1e-6)
    np.save(tmp_path / "bare.npy", images)
    encode(model, str(tmp_path / "bare.npy"), tmp_path / "g.npz")
    assert set(np.load(tmp_path / "g.npz")) == {"features", "names"}
    np.save(tmp_path / "mnist.npy", images)
    said: list[str] = []
    encode(model, str(tmp_path / "mnist.npy"), tmp_path / "h.npz", say=said.append)
    assert not said  # text must not be mirrored in training, and here nothing is
    with pytest.raises(ValueError, match=r"an \.npz file, not to 'f\.csv'"):
        encode(model, str(squares), tmp_path / "f.csv")
    model.description["kind"] = "strange"
    with pytest.raises(ValueError, match="a strange, for which Limner computes no features"):
        encode(model, str(squares), tmp_path / "f.npz")


def restorer(spec: ImageSpec, inputs: int) -> torch.nn.Module:
    if inputs == spec.channels:
        return plain.Restorer(spec, plain.Config(width=8, depth=2), scale=2)
    return restoration_unet.Restorer(spec, restoration_unet.TINY, inputs)


@pytest.mark.parametrize(("kind", "inputs", "width"), [("restorer", 3, 8), ("restorer", 4, 4), ("restorer", 1, 4), ("codec", 3, 0)])
def test_restorers_and_codecs(kind: str, inputs: int, width: int, tmp_path: Path) -> None:
    spec = ImageSpec(3, 40, 40)
    torch.manual_seed(0)
    net: Any = restorer(spec, inputs) if kind == "restorer" else hyperprior.Codec(spec, hyperprior.TINY)
    model = SimpleNamespace(folder=tmp_path, spec=spec, description={"kind": kind}, network=net.eval(), _device=torch.device("cpu"))
    encoder = encoder_of(model)
    assert encoder.channels == min(3, inputs)
    pictures = torch.randint(0, 256, (3, encoder.channels, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = encoded(encoder, pictures, model._device)
    assert rows.shape == (3, width or 2 * net.latent_channels) and rows.std(0).max() > 0 and np.isfinite(rows).all()
    np.testing.assert_allclose(encoded(encoder, pictures[1:2], model._device), rows[1:2], rtol=1e-3, atol=1e-4)

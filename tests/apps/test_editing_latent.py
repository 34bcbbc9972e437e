"""Latents as files, and rendered by every architecture."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from editing_models import model_of
from limner.apps.editing.delta import save_delta
from limner.apps.editing.latent import Latent, fingerprint, latent_of, render, styles_of
from limner.apps.model import GeneratorModel
from limner.networks import NAMES


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_latent_renders_as_sample_does(name: str, classes: int) -> None:
    model = model_of(name, classes)
    z = model.latents(3, np.random.default_rng(0))
    labels = np.array([2, 0, 1]) if classes else None
    given = [latent_of(model, row, None if labels is None else int(labels[i])) for i, row in enumerate(z)]
    assert np.array_equal(render(model, given), model.render(z, labels))
    assert np.array_equal(model.render(given[1]), model.render(given)[1:2])


def test_the_latent_distribution_is_that_of_the_model() -> None:
    model = model_of(noise="uniform")
    z = model.latents(2, np.random.default_rng(0)) * 3
    assert np.array_equal(render(model, [latent_of(model, row) for row in z]), model.render(z))


def test_styles_render_as_the_z_they_come_from() -> None:
    model = model_of("stylegan2", 3)
    model._precision = torch.float32  # bf16 would round the styles of a z
    given = [latent_of(model, row, 1) for row in model.latents(2, np.random.default_rng(0))]
    styles = styles_of(model, given)
    assert styles.shape == (2, model.network.layers, 8)
    again = [latent_of(model, row, 1) for row in styles]
    assert np.abs(render(model, again).astype(int) - render(model, given)).max() <= 1
    mixed = [given[0], again[1]]  # of both kinds
    assert render(model, mixed).shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match="no styles"):
        styles_of(model_of(), [])


@pytest.mark.parametrize("kind", ["z", "styles"])
def test_save_and_load(kind: str, tmp_path: Path) -> None:
    model = model_of("stylegan2", 3)
    latent = latent_of(model, model.latents(1, np.random.default_rng(0))[0], 2)
    if kind == "styles":
        latent = latent_of(model, styles_of(model, [latent])[0], 2)
    again = Latent.load(latent.save(tmp_path / "me.latent.npz"))
    assert np.array_equal(again.code, latent.code)
    assert (again.fingerprint, again.size, again.label, again.delta) == (latent.fingerprint, (1, 16, 16), 2, None)
    with pytest.raises(ValueError, match=r"ends in \.latent\.npz"):
        latent.save(tmp_path / "me.npz")


def test_a_latent_of_another_generator_is_refused() -> None:
    latent = latent_of(model_of(seed=0), np.zeros(8, np.float32))
    with pytest.raises(ValueError, match="another generator than the one in run"):
        render(model_of(seed=1), [latent])
    model = model_of("conv", 3)
    for label in (None, 3):
        with pytest.raises(ValueError, match="does not fit"):
            render(model, [latent_of(model, np.zeros(8, np.float32), label)])
    with pytest.raises(ValueError, match="does not fit"):
        render(model, [latent_of(model, np.zeros(9, np.float32), 1)])
    with pytest.raises(ValueError, match="does not fit"):
        render(model, [latent_of(model, np.zeros((2, 8), np.float32), 1)])


@pytest.mark.parametrize("code", [np.zeros(0, np.float32), np.zeros(8), np.full(8, np.nan, np.float32), np.zeros((2, 2, 2), np.float32)])
def test_numbers_that_no_generator_has_are_refused(code: np.ndarray) -> None:
    with pytest.raises(ValueError):
        Latent(fingerprint="0" * 64, size=(1, 16, 16), z=code)


def test_damaged_and_hostile_files_are_one_sentence(tmp_path: Path) -> None:
    good = latent_of(model_of(), np.zeros(8, np.float32)).save(tmp_path / "good.latent.npz")
    path = tmp_path / "bad.latent.npz"

    def members() -> dict[str, bytes]:
        with zipfile.ZipFile(good) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def npy(array: Any) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        return buffer.getvalue()

    huge = npy(np.zeros(8, np.float32)).replace(b"(8,), }", b"(1099511627776,), }").replace(b" " * 12 + b"\n", b"\n")
    changed: list[dict[str, bytes]] = [
        {"z.npy": npy(np.array([SimpleNamespace()], object))}, {"z.npy": huge}, {"z.npy": b"\x93NUMPY"}, {"z.npy": npy(np.zeros((0,), np.float32))},
        {"other.npy": npy(np.zeros(1))}, {"size.npy": npy(np.array([1, 16]))}, {"delta.npy": npy(np.array("../weights.safetensors"))},
        {"fingerprint.npy": npy(np.array("short"))}, {"label.npy": npy(np.array("x"))}, {"styles.npy": npy(np.zeros((2, 2), np.float32))},
    ]  # fmt: skip
    for change in changed:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (members() | change).items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match="no latent that Limner wrote"):
            Latent.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb
        archive.writestr("z.npy", bytes(1 << 27))
    with pytest.raises(ValueError, match="no latent that Limner wrote"):
        Latent.load(path)
    for content in (b"", b"PK\x03\x04", good.read_bytes()[:-30], good.read_bytes().replace(b"\x93NUMPY", b"\x93NUMPX")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no latent that Limner wrote"):
            Latent.load(path)
    with pytest.raises(FileNotFoundError):
        Latent.load(tmp_path / "none.latent.npz")


def test_a_tuned_copy_renders_by_its_own_weights(tmp_path: Path) -> None:
    model = model_of()
    plain = latent_of(model, model.latents(1, np.random.default_rng(0))[0])
    name = "ups.1.weight"
    change = {name: torch.randn_like(model.network.get_parameter(name)) * 0.5}
    path = tmp_path / "a" / "me.delta.safetensors"
    digest = save_delta(path, change, fingerprint(model))
    tuned = Latent(fingerprint=plain.fingerprint, size=plain.size, z=plain.z, delta=path, delta_sha256=digest)
    before = fingerprint(model)
    made = render(model, [plain, tuned])
    assert fingerprint(model) == before  # the generator is as it was
    assert np.array_equal(made[:1], model.render(plain))
    network = model_of().network
    network.get_parameter(name).data += change[name].half().float()
    assert np.array_equal(made[1:], GeneratorModel(network, model.spec, model.description, torch.device("cpu"), Path("run")).render(plain.code[None]))
    again = Latent.load(tuned.save(tmp_path / "b" / "me.latent.npz"))  # in another folder: the delta comes along
    assert again.delta == tmp_path / "b" / "me.delta.safetensors"
    assert np.array_equal(render(model, [again]), made[1:])
    save_delta(path, {name: change[name] * 2}, fingerprint(model))  # another picture's
    with pytest.raises(ValueError, match="belongs to another latent"):
        render(model, [tuned])
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        render(model, [tuned])


def test_latents_of_a_style_based_generator_render_by_other_weights() -> None:
    model = model_of("stylegan2", classes=3)
    latents = [latent_of(model, row, 1) for row in model.latents(2, np.random.default_rng(0))]
    weights = {name: value + 0 for name, value in model.network.named_parameters()}
    assert np.array_equal(render(model, latents, weights), render(model, latents))
    weights["basis"] = weights["basis"] * 3
    assert not np.array_equal(render(model, latents, weights), render(model, latents))

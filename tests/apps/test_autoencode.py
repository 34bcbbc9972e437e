"""An autoencoder in the hand: reconstruct, interpolate, encode, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.apps.autoencode import (
    Autoencoder,
    interpolate,
    picture_of,
    pictures_of,
    reconstruct,
    some,
    traverse,
)
from limner.apps.encode import encode
from limner.apps.sample import sample
from limner.data import open_source, prepare
from limner.families.load import load_kind
from limner.networks import vae, vqvae


@pytest.fixture(scope="module", autouse=True)
def _no_speed_trial() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        yield


@pytest.fixture(scope="module", params=["vae", "vqvae"])
def run(request, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = {"vae": vae.TINY, "vqvae": vqvae.TINY}[request.param]
    out = tmp_path_factory.mktemp("runs") / request.param
    limner.train(squares, images=64, recipe=request.param, changes={"network": tiny, "batch": 16}, out=out)
    return out


def test_the_card_of_an_autoencoder_is_not_tagged_as_a_gan(run: Path) -> None:
    assert "\ntags: [autoencoder, image-reconstruction, limner]\n" in (run / "README.md").read_text()


def test_reconstruct_encode_and_sheet(run: Path, squares: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    x = np.load(squares)["images"][:5, None]
    latents = model.encode(x)
    assert len(latents) == 5 and np.array_equal(model.decode(latents), model.reconstruct(x))
    assert "PSNR" in reconstruct(model, str(squares), tmp_path / "sheet.png", 11)
    assert Image.open(tmp_path / "sheet.png").size[0] > 100
    encode(model, str(squares), tmp_path / "z.npz")
    kept = np.load(tmp_path / "z.npz")
    assert kept["latents"].shape[0] == len(kept["names"]) == 96
    np.testing.assert_allclose(kept["latents"][:5], latents, atol=1e-3)
    with pytest.raises(ValueError, match=r"\.npz"):
        encode(model, str(squares), tmp_path / "z.csv")
    with pytest.raises(ValueError, match="takes uint8 pictures"):
        model.encode(x[:, :, :8])


def test_none_and_other_kinds_of_numbers(run: Path, squares: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    x = np.load(squares)["images"][:3, None]
    latents = model.encode(x)
    wide = latents.astype(np.float64 if run.name == "vae" else np.int32)
    assert np.array_equal(model.decode(wide), model.decode(latents))
    assert model.reconstruct(x[:0]).shape == (0, 1, 16, 16)
    if run.name == "vae":
        assert model.sample(0).shape == (0, 1, 16, 16)
    for n in (0, -2):
        for draw in (reconstruct, traverse):
            with pytest.raises(ValueError, match="At least one picture"):
                draw(model, str(squares), tmp_path / "sheet.png", n=n)
    for draw in (reconstruct, traverse):
        with pytest.raises(ValueError, match=r"a \.png, not as 'r\.jpg'"):
            draw(model, "nowhere", tmp_path / "r.jpg")


def test_some_of_a_folder_of_classes_are_of_every_class(tmp_path: Path) -> None:
    for k, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("L", (16, 16), 80 * k + i).save(tmp_path / name / f"{i}.png")
    found = prepare(open_source(tmp_path, labels=False))
    assert [int(x[0, 0, 0]) // 80 for x in some(found, 3)] == [0, 1, 2]
    assert len(some(found, 1)) == 1 and np.array_equal(some(found, 99), found.images.numpy())


def test_encoding_a_set_takes_no_copy_of_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepare(open_source(np.zeros((5, 16, 16, 3), np.uint8)))
    monkeypatch.setattr("limner.apps.encode.labeled_pictures", lambda *_: found)
    given: list[torch.Tensor] = []
    monkeypatch.setattr("limner.apps.encode.encoded", lambda encoder, x, *_: given.append(x) or np.zeros((len(x), 1)))
    encode(limner.load(run), "x", tmp_path / "z.npz", say=lambda text: None)
    assert np.shares_memory(given[0].numpy(), found.images.numpy())


def test_damaged_pictures_are_told(run: Path, squares: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    (tmp_path / "in").mkdir()
    for i, x in enumerate(np.load(squares)["images"][:4]):
        Image.fromarray(x).save(tmp_path / f"in/{i}.png")
    for name in ("broken.png", "torn.png"):
        (tmp_path / "in" / name).write_bytes(b"\x89PNG nothing")
    verbs = {encode: "z.npz", reconstruct: "r.png"} | ({traverse: "t.png"} if run.name == "vae" else {})
    for verb, out in verbs.items():
        said: list[str] = []
        assert verb(model, str(tmp_path / "in"), tmp_path / out, say=said.append).endswith("; 2 were skipped.")
        assert said[0].startswith("2 pictures could not be used and are skipped, such as broken.png (")
        assert [line.split(":")[0] for line in said[1:]] == ["Skipped broken.png", "Skipped torn.png"]


def test_interpolate_between_two_files(run: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    for name, size in (("a.png", (40, 30)), ("b.png", (16, 16))):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    interpolate(model, a, b, tmp_path / "row.png", 5)
    interpolate(model, a, b, tmp_path / "film.gif", seconds=0.5)
    interpolate(model, a, b, tmp_path / "many", 3)
    assert Image.open(tmp_path / "film.gif").n_frames == 10 and len(list((tmp_path / "many").iterdir())) == 3
    with pytest.raises(ValueError, match="cannot be used"):
        interpolate(model, a, tmp_path / "nothing.png", tmp_path / "row.png")
    with pytest.raises(ValueError, match="at least 2"):
        interpolate(model, a, b, tmp_path / "row.png", 1)


def test_traverse_orders_by_cost_and_moves_one_number_alone(run: Path, squares: Path, tmp_path: Path) -> None:
    model = limner.load(run)
    x = np.load(squares)["images"][:, None]
    if run.name == "vqvae":
        with pytest.raises(ValueError, match="as discrete codes"):
            model.traverse(x)
        return
    found = model.traverse(x, dims=3, steps=5, around=x[7])
    assert found.pictures.shape == (15, 1, 16, 16) and found.columns == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert found.nats.shape == (8,) and 0 <= found.active <= 8 and (found.nats >= 0).all()
    assert found.rows == np.argsort(-found.nats)[:3].tolist()
    z, latents = model.encode(x), model.encode(x[7:8])
    latents[0, found.rows[1]] = z[:, found.rows[1]].mean()
    np.testing.assert_array_equal(found.pictures[7], model.decode(latents)[0])  # the middle of the second row
    assert found.save(tmp_path / "sheet.png").exists()
    sheet = found.sheet()
    assert sheet.shape[0] == 3 and (sheet[:, :, :90] < 128).any() and (sheet[:, :20] < 128).any()  # a legend on each side
    assert "3 of 8 latent dimensions" in traverse(model, str(squares), tmp_path / "drawn.png", 3)
    for call, says in (
        (lambda: model.traverse(x, dims=0), "at least 1 row and 2 steps"),
        (lambda: model.traverse(x[:1]), "at least 2 pictures"),
        (lambda: found.save(tmp_path / "sheet.gif"), r"a \.png"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_samples_come_from_the_prior_or_are_refused(run: Path) -> None:
    model = limner.load(run)
    if run.name == "vae":
        pictures = model.sample(3, seed=1)
        assert pictures.shape == (3, 1, 16, 16) and np.array_equal(pictures, model.sample(3, seed=1))
    else:
        with pytest.raises(ValueError, match="has no prior"):
            model.sample(3)


def test_pictures_are_brought_to_their_shape_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 32, 4), dtype=np.uint8))
    wide.save(tmp_path / "in/a.png")
    how = {"size": 16, "channels": "3", "fit": "pad", "background": "blue"}
    tiny = {"network": vae.TINY, "batch": 2}
    limner.train(tmp_path / "in", images=2, recipe="vae", changes=tiny, out=tmp_path / "run", device="cpu", quiet=True, **how)
    data = json.loads((tmp_path / "run/limner.json").read_text())["data"]
    assert (data["fit"], data["background"]) == ("pad", "blue")
    model = limner.load(tmp_path / "run", "cpu")
    for seen in (picture_of(model, tmp_path / "in/a.png"), pictures_of(model, str(tmp_path / "in")).images[0].numpy()):
        assert (seen[:, :4] == np.array([0, 0, 255])[:, None, None]).all() and (seen[0, 5:11] > 0).any()
    del data["fit"], data["background"]  # as a run of before they were told
    model.description["data"] = data
    assert picture_of(model, tmp_path / "in/a.png")[0, 0].any()


def test_a_generator_is_refused(squares: Path, tmp_path: Path) -> None:
    out = tmp_path / "gan"
    limner.train(squares, images=32, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out)
    with pytest.raises(ValueError, match="cannot use"):
        load_kind(out, "cpu", Autoencoder, "reconstruct")


@pytest.fixture(scope="module")
def conditional(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classes"
    changes = {"network": vae.TINY, "batch": 16, "ema_half_life": 100.0}
    limner.train(squares, images=8000, recipe="vae", changes=changes, out=out, device="cpu", quiet=True)
    return out


def test_samples_of_a_class_are_of_that_class(conditional: Path, tmp_path: Path) -> None:
    model = limner.load(conditional, "cpu")
    assert model.spec.classes == 2
    x = np.asarray(model.sample(100, seed=1, label="all")).astype(float)[:, 0]
    right = x[:, :, 8:].mean((1, 2)) > x[:, :, :8].mean((1, 2))  # class 1 has its square at the right
    assert right[50:].mean() > 0.8 and right[:50].mean() < 0.2
    assert np.array_equal(model.sample(5, seed=2, label=1), model.sample(5, seed=2, label=model.classes[1]))
    assert model.sample(5).shape == (5, 1, 16, 16)
    assert "12 pictures are in" in sample(model, tmp_path / "all.png", 12, label="all")
    assert "walk" in sample(model, tmp_path / "walk.gif", 2, label="1", seconds=1)
    with pytest.raises(ValueError, match="is unknown"):
        model.sample(1, label="dog")


def test_a_prior_of_classes_leaves_the_autoencoder_as_it_is(squares: Path, tmp_path: Path) -> None:
    """Pictures are coded without labels: with classes or without, encoder and decoder get the same weights."""
    how = {"images": 64, "recipe": "vae", "changes": {"network": vae.TINY, "batch": 16}, "device": "cpu", "quiet": True}
    models = []
    for name, more in (("with", {}), ("without", {"unconditional": True})):
        models.append(limner.load(limner.train(squares, out=tmp_path / name, **how, **more).folder, "cpu"))
    x = np.load(squares)["images"][:8, None]
    assert [m.spec.classes for m in models] == [2, 0]
    assert np.array_equal(models[0].reconstruct(x), models[1].reconstruct(x))
    with pytest.raises(ValueError, match="has no classes"):
        models[1].sample(1, label=0)


def test_vqvae_says_that_classes_are_not_used(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {"network": vqvae.TINY, "batch": 16}
    said = []
    for name, more in (("one", {}), ("two", {"unconditional": True})):
        limner.train(squares, images=16, recipe="vqvae", changes=tiny, out=tmp_path / name, device="cpu", **more)
        said.append("The 2 classes of the pictures are not used" in capsys.readouterr().err)
    assert said == [True, False]

"""The verbs of trained autoencoders and translators as people use them: real processes on two runs that all share."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner import train
from limner.networks import patch, unet, vae
from test_cli import limner, sentence


@pytest.fixture(scope="module")
def runs(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `vae` and `oneway`, a translator of RGB pictures, and its two folders of pairs `a`, `b`."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for side in ("a", "b"):
        (folder / side).mkdir()
    for i in range(20):
        picture = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"a/{i}.png")
        Image.fromarray(255 - picture).save(folder / f"b/{i}.png")
    with pytest.MonkeyPatch.context() as change:
        change.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        train(squares, recipe="vae", images=64, out=folder / "vae", device="cpu", changes={"network": vae.TINY})
        small = {"network": unet.TINY, "discriminator": patch.Config(width=8)}
        train(folder / "a", folder / "b", recipe="pix2pix", images=16, out=folder / "oneway", device="cpu", changes=small)
    return folder


def said(*arguments: object) -> str:
    done = limner(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# ---- autoencoders ----------------------------------------------------------------------------------------------------


def test_reconstruct_and_encode(runs: Path, squares: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.png"
    assert "12 pictures above their reconstructions" in said("reconstruct", runs / "vae", squares, "-n", 12, "--out", out)
    assert Image.open(out).mode == "L" and Image.open(out).size[0] > 200
    assert "96 latents of 8 numbers" in said("encode", runs / "vae", squares, "--out", tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as kept:
        assert kept["latents"].shape == (96, 8) and len(kept["names"]) == 96


def test_interpolate_and_traverse(runs: Path, squares: Path, tmp_path: Path) -> None:
    a, b = runs / "a/0.png", runs / "a/1.png"
    out = tmp_path / "way.png"
    assert "5 pictures from 0.png to 1.png" in said("interpolate", runs / "vae", a, b, "--steps", 5, "--out", out)
    assert Image.open(out).size == (5 * 64 + 4 * 2, 64)
    out = tmp_path / "axes.png"
    told = said("traverse", runs / "vae", squares, "--dims", 3, "--steps", 5, "--around", a, "--out", out)
    assert "3 of 8 latent dimensions" in told and "nats a picture, measured on 96 pictures" in told
    assert Image.open(out).mode == "RGB" and Image.open(out).size[0] > 5 * 64


def test_what_a_verb_cannot_use_is_a_sentence(runs: Path, tmp_path: Path) -> None:
    told = sentence(limner("translate", runs / "vae", runs / "a", tmp_path / "out"))
    assert "holds a trained autoencoder, which `limner translate` cannot use" in told
    assert f"its command is `limner reconstruct {runs / 'vae'} PICTURES`" in told


# ---- translators -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures as people have them, one of them broken."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "deep").mkdir()
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (7, 3), "blue").save(folder / "small.bmp")
    Image.effect_noise((3000, 50), 40).convert("RGB").save(folder / "long.jpg")
    clear = Image.merge("RGBA", [Image.effect_noise((40, 30), 60)] * 4)
    clear.save(folder / "deep/clear.webp", lossless=True)
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(folder / "deep16.png")
    Image.effect_noise((40, 30), 60).save(folder / "gray.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.effect_noise((40, 30), 60).convert("RGB").save(folder / "turned.jpg", exif=turned)
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return folder


SIZES = {
    "dot.png": (1, 1), "small.png": (7, 3), "long.jpg": (3000, 50), "deep/clear.webp": (40, 30),
    "deep16.png": (40, 30), "gray.png": (40, 30), "turned.jpg": (30, 40),
}  # fmt: skip


def test_translate_a_folder_of_all_kinds(runs: Path, strange: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    told = said("translate", runs / "oneway", strange, out, "--sheet", sheet)
    assert "7 translated pictures are in" in told and "1 was skipped" in told and "Skipped broken.png" in told
    found = {str(path.relative_to(out)): Image.open(path).size for path in out.rglob("*.*")}
    assert found == SIZES
    assert Image.open(out / "deep/clear.webp").mode == "RGBA" and Image.open(out / "gray.png").mode == "RGB"
    assert Image.open(sheet).size[0] > 7 * 64


def test_translate_a_zip_into_a_zip_and_a_file(runs: Path, strange: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("dot.png", "deep/clear.webp", "broken.png"):
            archive.write(strange / name, name)
    assert "2 translated pictures" in said("translate", runs / "oneway", tmp_path / "in.zip", tmp_path / "out.zip")
    assert sorted(zipfile.ZipFile(tmp_path / "out.zip").namelist()) == ["deep/clear.webp", "dot.png"]
    told = said("translate", runs / "oneway", strange / "deep/clear.webp", tmp_path / "one.png")
    assert "1 translated picture is in" in told
    with Image.open(tmp_path / "one.png") as after, Image.open(strange / "deep/clear.webp") as before:
        assert np.array_equal(np.asarray(after)[..., 3], np.asarray(before)[..., 3])


def test_translate_refuses_in_a_sentence(runs: Path, strange: Path, tmp_path: Path) -> None:
    run = runs / "oneway"
    back = limner("translate", run, strange, tmp_path / "out", "--direction", "b2a")
    assert "translates a2b, not 'b2a'" in sentence(back) and not (tmp_path / "out").exists()
    assert "cannot be used" in sentence(limner("translate", run, strange / "broken.png", tmp_path / "x.png"))
    assert "is the folder of the originals" in sentence(limner("translate", run, strange, strange))
    assert "not as 'x.jpg'" in sentence(limner("translate", run, strange, tmp_path / "out", "--sheet", tmp_path / "x.jpg"))
    assert not (tmp_path / "out").exists()


def test_a_translator_is_measured_on_pairs(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = limner(
        "evaluate", runs / "oneway", "--data", runs / "a", runs / "b", "--metrics", "psnr", "ssim", "ms-ssim",
        "--out", page, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [m["name"] for m in found["metrics"]] == ["psnr", "ssim"] and found["metrics"][0]["value"] < 20
    assert found["protocol"]["pairs"]["n"] == 20 and "ms_ssim is left out" in found["warnings"][-1]
    assert "Worst pairs" in page.read_text()
    alone = limner("evaluate", runs / "a", "--data", runs / "a", runs / "b", "--metrics", "psnr")
    assert "only a translator takes two" in sentence(alone)

"""Recipes that restore: each trains, resumes exactly, is published and loads; data that is cut anywhere is the same; errors."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import limner
from limner.core import distributed
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.data.degrade import Degraded
from limner.data.request import DataRequest
from limner.recipes import restore
from limner.runs.validate import restoration

MACHINE = Machine(torch.device("cpu"), torch.float32, distributed.ALONE)
SMALL = {"network.width": 8, "batch": 8}
RECIPES = list(restore.PRESETS)


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 RGB pictures of about 60x70: smooth gradients with sharp boxes; one is too small to crop."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for i in range(24):
        height, width = (20, 70) if i == 7 else (int(rng.integers(56, 70)), int(rng.integers(60, 80)))
        y, x = np.mgrid[:height, :width]
        picture = np.stack([127 + 60 * np.sin(x / rng.uniform(5, 20) + i), 127 + 60 * np.cos(y / rng.uniform(5, 20)), 80 + 0 * x], -1)
        for _ in range(4):
            top, left = rng.integers(0, height - 12), rng.integers(0, width - 12)
            picture[top : top + 12, left : left + 9] = rng.integers(0, 255, 3)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


def small(recipe: str) -> dict[str, Any]:
    depth = {"network.blocks": 1, "network.downsamplings": 2} if isinstance(restore.PRESETS[recipe].make(), restore.ContextRecipe) else {"network.depth": 1}
    gan = {"discriminator.width": 8} if "gan" in recipe or "real" in recipe else {}
    return SMALL | depth | gan


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_and_loads(recipe: str, photos: Path, tmp_path: Path) -> None:
    run = limner.train(photos, recipe=recipe, size=48, images=24, out=tmp_path / "run", changes=small(recipe), quiet=True)
    assert run.outcome.finished
    model = limner.load(run.folder, "cpu")
    document = json.loads((run.folder / "limner.json").read_text())
    network = document["network"]
    assert document["kind"] == "restorer" and network["name"] == "restorer" and network["task"] in recipe + " super-resolution"
    assert network["scale"] == (4 if recipe.startswith("super-resolution") else 1) and network["degradation"]
    assert {"psnr_gain", "psnr", "ssim"} <= document["metrics"].keys()
    assert Image.open(run.folder / "preview.png").mode == "RGB"
    x = torch.rand(1, model.network.inputs, 16, 20)
    torch.testing.assert_close(model.network.fused()(x), model.network(x), rtol=0, atol=1e-4)


def test_denoising_is_learned_and_the_best_state_kept(photos: Path, tmp_path: Path) -> None:
    changes = SMALL | {"network.depth": 2, "sigma_min": 40.0}
    run = limner.train(photos, recipe="denoise", size=32, images=1600, out=tmp_path / "run", changes=changes, quiet=True)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    gains = [entry["psnr_gain"] for entry in log if "psnr_gain" in entry]
    assert gains[0] == pytest.approx(0, abs=0.01) and gains[-1] > 1.5
    assert not any("doctor" in entry for entry in log) and log[-1]["explained"] > 0.3
    best = json.loads((run.folder / "best/limner.json").read_text())["metrics"]
    assert best["psnr_gain"] == max(gains)


def test_no_state_is_kept_as_best_where_losses_trade_psnr(photos: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"recipe": "super-resolution-gan", "size": 32, "images": 16, "quiet": True}
    changes = small("super-resolution-gan") | {"restorer_optimizer.lr": 1e-6}  # which keeps the gain at 0, the best so far
    free = limner.train(photos, out=tmp_path / "free", changes=changes, **more).folder
    kept = limner.train(photos, out=tmp_path / "kept", changes=changes, metric="ssim", **more).folder
    assert not (free / "best").exists() and "psnr_gain" in json.loads((free / "limner.json").read_text())["metrics"]
    assert (kept / "best").exists()


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales(scale: int, photos: Path, tmp_path: Path) -> None:
    changes = small("super-resolution") | {"scale": scale}
    run = limner.train(photos, recipe="super-resolution", size=48, images=16, out=tmp_path / "run", changes=changes, quiet=True)
    assert limner.load(run.folder, "cpu").network(torch.rand(1, 3, 8, 9)).shape == (1, 3, 8 * scale, 9 * scale)


@pytest.mark.parametrize("channels", ["1", "4"])
def test_gray_and_transparent_pictures(channels: str, photos: Path, tmp_path: Path) -> None:
    for recipe in ("super-resolution", "inpaint", "denoise"):
        run = limner.train(photos, recipe=recipe, size=48, channels=channels, images=16, out=tmp_path / recipe, changes=small(recipe), quiet=True)
        assert limner.load(run.folder, "cpu").spec.channels == int(channels)


@pytest.mark.parametrize("recipe", ["super-resolution-gan", "inpaint", "denoise"])
def test_a_resumed_run_equals_an_unbroken_one(recipe: str, photos: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"recipe": recipe, "size": 32, "images": 64, "changes": small(recipe), "quiet": True, "device": "cpu"}

    def stop(view: Any) -> None:
        if view.clock.seen == 24:
            signal.raise_signal(signal.SIGTERM)

    class Stopping:
        due = staticmethod(lambda clock: clock.seen == 24)
        __call__ = staticmethod(stop)

    whole = limner.train(photos, out=tmp_path / "whole", **more)
    broken = limner.train(photos, out=tmp_path / "broken", callbacks=[Stopping()], **more)
    assert not broken.outcome.finished and broken.outcome.seen < 64
    resumed = limner.train(photos, out=tmp_path / "broken", **more)
    assert resumed.outcome.finished
    one, two = (load_file(run.folder / "weights.safetensors") for run in (whole, resumed))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("recipe", RECIPES)
def test_pairs_are_the_same_however_batches_are_cut(recipe: str, photos: Path) -> None:
    made = restore.PRESETS[recipe].make()
    pictures = restore.load_data(made, DataRequest(data=photos, size=48))
    pairs = Degraded(pictures.crops, restore.degradation_of(made))
    whole = pairs.batch(5, 6, 3)
    halves = [pairs.batch(5, 3, 3), pairs.batch(8, 3, 3)]
    assert whole.keys() == halves[0].keys() and ("mask" in whole) == (recipe == "inpaint")
    assert all(torch.equal(whole[name], torch.cat([half[name] for half in halves])) for name in whole)


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(photos: Path, tmp_path: Path) -> None:
    common = ["-m", "limner", "train", str(photos), "--recipe", "super-resolution", "--size", "32", "--images", "40", "--precision", "fp32"]
    common += ["--device", "cpu", "--quiet", "--network.width", "8", "--network.depth", "1", "--batch", "8"]
    common += ["--restorer-optimizer.name", "sgd", "--restorer-optimizer.lr", "0.02", "--restorer-optimizer.beta1", "0"]
    found = []
    for ranks in (1, 2):
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if ranks == 2 else []
        out = tmp_path / f"{ranks}"
        done = subprocess.run(
            [sys.executable, *start, *common, "--out", str(out)], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(load_file(out / "weights.safetensors"))
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=2e-4, atol=2e-5)


def test_the_default_crop_fits_half_of_the_pictures(photos: Path) -> None:
    made = restore.PRESETS["super-resolution"].make()
    median = int(np.median([min(Image.open(path).size) for path in photos.glob("*.png")]))
    for scale in (2, 3, 4):
        pictures = restore.load_data(dataclasses.replace(made, scale=scale), DataRequest(data=photos))
        assert pictures.spec.size == (min(32 * scale, median) // scale * scale,) * 2
    assert any("smaller and left out" in note for note in pictures.notes) and "07.png" in dict(pictures.bad)


def test_pictures_too_small_for_any_crop_are_a_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (12, 40)).save(tmp_path / "a.png")
    for recipe in ("super-resolution", "inpaint"):
        with pytest.raises(ValueError, match="smaller than 16x16, the smallest crop: use larger pictures"):
            restore.load_data(restore.PRESETS[recipe].make(), DataRequest(data=tmp_path))


@pytest.mark.parametrize("recipe", ["denoise", "restore", "low-light"])
def test_clean_crops_are_left_as_they_are(recipe: str, photos: Path) -> None:
    made = dataclasses.replace(restore.PRESETS[recipe].make(), clean=1.0)
    batch = Degraded(restore.load_data(made, DataRequest(data=photos, size=32)).crops, restore.degradation_of(made)).batch(0, 8, 0)
    assert torch.equal(batch["image"], batch["target"])


def test_the_gain_of_an_untrained_network_is_zero(photos: Path) -> None:
    for recipe in ("super-resolution", "denoise", "inpaint"):
        made = restore.PRESETS[recipe].make()
        pictures = restore.load_data(made, DataRequest(data=photos, size=48))
        pairs, scale = Degraded(pictures.crops, restore.degradation_of(made)).batch(0, 4, 0), restore.scale_of(made)
        network = restore.network_of(made, pictures.spec).eval()
        figures = restoration(pairs, scale, "psnr_gain", "crops", MACHINE).measure(network)
        assert figures["psnr_gain"] == pytest.approx(0, abs=1e-4) and 5 < figures["psnr"] < 60


@pytest.mark.parametrize(("recipe", "options", "said"), [
    ("super-resolution", {"size": 30}, "multiple of 4"),
    ("super-resolution", {"changes": {"scale": 5}}, "give 2 to 4"),
    ("super-resolution", {"changes": {"sigma_max": 5.0}}, "does nothing while task is super-resolution"),
    ("super-resolution", {"size": 512}, "Every picture is smaller"),
    ("denoise", {"changes": {"scale": 2}}, "does nothing while task is denoise"),
    ("super-resolution", {"changes": {"clean": 0.5}}, "does nothing while task is super-resolution"),
    ("inpaint", {"changes": {"clean": 0.5}}, "does nothing while task is inpaint"),
    ("denoise", {"changes": {"sigma_min": 60.0}}, "--sigma-min 60 is above --sigma-max 50"),
    ("dejpeg", {"changes": {"quality_min": 90}}, "--quality-min 90 is above --quality-max 75"),
    ("inpaint", {"changes": {"holes_min": 0.5}}, "--holes-min 0.5 is above --holes-max 0.4"),
    ("restore", {"changes": {"degrade": "jpeg,rust"}}, "'rust' is unknown: choose from blur, jpeg, low-light, motion, noise, poisson, real, scratches, webp,"),
    ("restore", {"changes": {"degrade": ","}}, "No degradation is named: choose from blur, jpeg, low-light"),
    ("restore", {"changes": {"degrade": "jpeg,holes"}}, "recipe of its own, inpaint"),
    ("colorize", {"channels": "1"}, "color pictures"),
    ("colorize", {"channels": "4"}, "color pictures"),
    ("super-resolution", {"labels": Path("x.csv")}, "--labels has no meaning"),
    ("super-resolution", {"metric": "own"}, "psnr_gain"),
    ("super-resolution", {"changes": {"network.width": 60_000}}, "of memory"),
])  # fmt: skip
def test_errors_are_sentences(recipe: str, options: dict[str, Any], said: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        limner.train(photos, recipe=recipe, images=16, out=tmp_path / "run", quiet=True, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", RECIPES)
def test_presets_are_not_refused(name: str) -> None:
    restore.refuse_too_large(restore.PRESETS[name].make(), ImageSpec(3, 128, 128), MACHINE)

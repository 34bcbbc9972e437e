"""`auto` says what it chose and why; a person's own choices win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import limner
from limner.cli.flags import changes, flags
from limner.core import distributed
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.networks import patch, unet
from limner.recipes import automatic, gan, groups
from limner.recipes.groups import kept_groups
from limner.runs.options import Options
from limner.training.interrupt import Pause

CPU = Machine(torch.device("cpu"), torch.float32, distributed.ALONE)


@pytest.mark.parametrize(
    ("spec", "count", "options", "said"),
    [
        (ImageSpec(1, 32, 32, Condition.classes(10)), 60_000, Options(), "width 32: of the widths measured on a CPU it gave the best 32x32"),
        (ImageSpec(4, 64, 64), 3_786, Options(minutes=10), "patches of 2x2 pixels, width 16: narrow networks see more"),
        (ImageSpec(3, 200, 128), 3_786, Options(minutes=10), "patches of 4x4 pixels (the discriminator: 2x2), width 16"),
        (ImageSpec(4, 64, 64), 3_786, Options(minutes=60), "width 32"),
        (ImageSpec(3, 32, 32), 400, Options(), "a set of 400 is small"),
    ],
)
def test_the_choice_is_told(spec: ImageSpec, count: int, options: Options, said: str) -> None:
    name, recipe, why = automatic.choose(spec, count, options, CPU)
    assert said in why and why.endswith(".") and name in gan.PRESETS and isinstance(recipe, gan.Recipe)
    assert f"width {recipe.generator.width}" in why


@pytest.mark.parametrize(("side", "patches"), [(32, (1, 1)), (45, (1, 1)), (64, (2, 2)), (128, (4, 2)), (256, (8, 4))])
def test_the_discriminator_sees_finer_patches_of_large_pictures(side: int, patches: tuple[int, int]) -> None:
    assert automatic.patches_of(ImageSpec(3, side, side)) == patches
    _, recipe, _ = automatic.choose(ImageSpec(3, side, side), 400, Options(), CPU)
    assert (recipe.generator.patch, recipe.discriminator.patch) == patches


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 64}, "width 32: of the widths measured"),
        ({"generator.width": 48}, "width 32 of the discriminator: of the widths"),
        ({"generator.width": 48, "discriminator.width": 48}, "spectral; a set of 400 is small, so the discriminator sees shifted pictures."),
        ({"architecture": "dcgan", "augmentation": "none"}, "auto chose spectral."),
        ({"augmentation": "full"}, "best 32x32 pictures."),
    ],
)
def test_nothing_is_told_of_what_the_person_decides(changes: dict, said: str) -> None:
    assert said in automatic.choose(ImageSpec(3, 32, 32), 400, Options(), CPU, changes)[2]


def test_a_gpu_is_said_to_be_unmeasured() -> None:
    machine = Machine(torch.device("meta"), torch.float32, distributed.ALONE)
    assert "nothing was measured" in automatic.choose(ImageSpec(3, 64, 64), 9999, Options(), machine)[2]


def test_a_run_goes_on_with_what_another_machine_chose() -> None:
    machine = Machine(torch.device("meta"), torch.float32, distributed.ALONE)
    recorded_request = {"recipe": "spectral", "options": {"generator": {"width": 24}}}
    _, recipe, why = automatic.choose(ImageSpec(3, 64, 64), 9999, Options(), machine, (), recorded_request)
    assert recipe.generator.width == recipe.discriminator.width == 24 and "the run was started with it" in why


def test_own_choices_win_over_auto_and_reach_the_description(squares: Path, tmp_path: Path) -> None:
    limner.train(squares, images=32, out=tmp_path, batch=8, changes={"discriminator_optimizer.lr": 1e-3}, quiet=True, metric="none")
    recipe = json.loads((tmp_path / "limner.json").read_text())["recipe"]
    assert recipe["name"] == "spectral" and recipe["batch"] == 8 and recipe["discriminator_optimizer"]["lr"] == 1e-3
    assert not (tmp_path / "best").exists()


def test_what_a_person_says_to_auto_is_kept_even_where_it_is_a_recipes_usual_value() -> None:
    choices = flags(gan.Recipe, unset=True)
    said = choices(batch=gan.Recipe().batch, generator=choices().generator.__class__(width=32))
    assert changes(said, None) == {"batch": gan.Recipe().batch, "generator.width": 32}
    assert changes(said, gan.Recipe()) == {}


def test_unknown_options_of_a_recipe_are_sentences(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no option 'color'"):
        limner.train(squares, images=32, out=tmp_path, color=3)
    with pytest.raises(ValueError, match=r"no option 'discriminator\.speed'"):
        limner.train(squares, images=32, out=tmp_path, changes={"discriminator.speed": 3})
    with pytest.raises(ValueError, match="The option metric is 'beauty': choose auto, convolutions"):
        limner.train("nowhere", images=32, out=tmp_path, metric="beauty")  # said before pictures are looked for
    monkeypatch.setattr("limner.runs.run.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        limner.train("nowhere", images=32, out=tmp_path, tensorboard=True)


def test_a_set_of_one_picture_trains(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (1, 20, 36, 3), dtype=np.uint8)
    outcome = limner.train(picture, images=32, batch=8, out=tmp_path / "run", changes={"generator.width": 8, "discriminator.width": 8}).outcome
    assert outcome.finished
    assert limner.load(tmp_path / "run").sample(1).shape == (1, 3, 20, 36)


def test_every_picture_left_out_is_listed_in_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for place, count in ((a, 12), (b, 2)):
        place.mkdir()
        for i in range(count):
            Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(place / f"{i:02}.png")

    def lines() -> list[str]:
        small = {"network": unet.TINY, "discriminator": patch.Config(width=8)}
        limner.train(a, b, recipe="pix2pix", images=4, out=tmp_path / "run", device="cpu", changes=small)
        listed = tmp_path / "run/skipped.txt"
        return listed.read_text().splitlines() if listed.exists() else []

    assert lines() == [f"{i:02}.png: no partner in the second set" for i in range(2, 12)]
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run/skipped.txt'} lists every picture" in said and "10 pictures were left out" in said
    assert "limner data" not in said
    for i in range(2, 12):
        (a / f"{i:02}.png").unlink()
    assert lines() == []


def test_every_preset_can_be_built() -> None:
    for name, preset in gan.PRESETS.items():
        recipe = preset.make()
        assert isinstance(recipe, gan.Recipe) and preset.summary and any(c.isdigit() for c in preset.source), name


def test_groups_stand_for_classes_where_pictures_have_none(squares: Path, tmp_path: Path) -> None:
    """The groups are found again on resuming, samples follow their frequencies, and pictures that have classes keep them."""
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 3, "batch": 8}
    wanted: dict[str, Any] = {"changes": small, "quiet": True, "metric": "none", "doctor": False, "images": 32}
    whole = limner.train(squares, out=tmp_path / "whole", unconditional=True, **wanted)
    data = json.loads((whole.folder / "limner.json").read_text())["data"]
    assert data["classes"] == ["group 1", "group 2", "group 3"] and sum(data["class_counts"]) == 96
    limner.train(squares, out=tmp_path / "parts", unconditional=True, pause=Pause(at=16), **wanted)
    limner.train(resume=tmp_path / "parts")
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)
    model = limner.load(whole.folder)
    assert model.sample(4, label="group 2", seed=1).shape == (4, 1, 16, 16)
    drawn = np.bincount(model.labels(3000, None, np.random.default_rng(0)), minlength=3) / 3000
    assert drawn == pytest.approx(np.array(data["class_counts"]) / 96, abs=0.04)
    with pytest.raises(ValueError, match="these pictures have some: add --unconditional"):
        limner.train(squares, out=tmp_path / "kept", **wanted)
    child = limner.train(squares, out=tmp_path / "child", from_=whole.folder, unconditional=True, images=16, quiet=True, metric="none", doctor=False)
    assert json.loads((child.folder / "limner.json").read_text())["data"]["classes"] == [], "groups are those of other pictures"
    (tmp_path / "parts" / groups.FILE).write_bytes(b"no groups")
    with pytest.raises(ValueError, match="is damaged"):
        limner.train(resume=tmp_path / "parts")


def test_a_validation_split_gets_the_same_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for split, count in (("train", 40), ("val", 12)):
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / "pictures" / split / f"{i}.png")
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 4, "batch": 8}
    run = limner.train(tmp_path / "pictures", out=tmp_path / "run", images=16, changes=small, quiet=True, metric="none")
    assert run.outcome.finished and len(limner.load(run.folder).classes) == 4


def test_a_run_that_is_extended_keeps_its_number_of_groups() -> None:
    for number, count in ((0, 3_100), (30, 2_900)):
        recorded = {"recipe": automatic.NAME, "options": {"generator": {"width": 32}, "groups": number}}
        assert automatic.choose(ImageSpec(3, 32, 32), count, Options(), CPU, (), recorded)[1].groups == number


@pytest.mark.parametrize(
    ("spec", "count", "wanted"),
    [
        (ImageSpec(3, 32, 32), 3_000, 30),
        (ImageSpec(3, 32, 32), 2_999, 0),
        (ImageSpec(3, 32, 32, Condition.classes(10)), 60_000, 0),
        (ImageSpec(3, 64, 64), 60_000, 2_000),
        (ImageSpec(3, 64, 64), 1_000, 500),
        (ImageSpec(3, 64, 64), 999, 0),
        (ImageSpec(3, 64, 64, Condition.classes(10)), 60_000, 0),
    ],
)
def test_pictures_without_classes_are_sorted_into_groups(spec: ImageSpec, count: int, wanted: int) -> None:
    assert automatic.choose(spec, count, Options(), CPU)[1].groups == wanted


def test_other_architectures_and_classifiers_get_no_groups_of_two() -> None:
    for given in ({"architecture"}, {"classifier"}):
        assert automatic.choose(ImageSpec(3, 64, 64), 5_000, Options(), CPU, given)[1].groups == 0
        assert automatic.choose(ImageSpec(3, 32, 32), 5_000, Options(), CPU, given)[1].groups == 30


def test_groups_stay_when_pictures_are_added(squares: Path, tmp_path: Path) -> None:
    images = np.load(squares)["images"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(images[:60]):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 3, "batch": 8}
    limner.train(folder, out=tmp_path / "run", images=16, changes=small, quiet=True, metric="none", doctor=False)
    before = kept_groups(tmp_path / "run")
    for i, picture in enumerate(images[60:]):
        Image.fromarray(picture).save(folder / f"{60 + i:03d}.png")
    run = limner.train(resume=tmp_path / "run", more="16 images")
    after = kept_groups(tmp_path / "run")
    assert run.outcome.seen == 32 and before is not None and after is not None and before.centers.equal(after.centers)
    data = json.loads((tmp_path / "run" / "limner.json").read_text())["data"]
    assert data["classes"] == ["group 1", "group 2", "group 3"] and sum(data["class_counts"]) == 96

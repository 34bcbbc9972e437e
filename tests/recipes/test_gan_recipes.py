"""Every adversarial preset trains three iterations through the command line, is interrupted, resumes exactly, samples."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from limner.apps.evaluate import draw_samples
from limner.apps.sample import walk
from limner.cli import app, main
from limner.core import device, distributed, schedule
from limner.core.images import ImageSpec
from limner.core.latents import DISTRIBUTIONS
from limner.core.options import options
from limner.families.load import load
from limner.families.train import train
from limner.losses.adversarial import OBJECTIVES
from limner.losses.penalties import PENALTIES
from limner.losses.regularizers import REGULARIZERS
from limner.networks import NAMES, conv, diffaugment
from limner.recipes import gan, generators, motion
from limner.recipes.changes import changed
from limner.recipes.config import Recipe
from limner.runs import decide, run
from limner.runs.costs import validation_seconds
from limner.runs.experiment import Validator
from limner.sampling.generate import preview_of, sampler_of
from limner.training.loop import Outcome
from stopping import StopAt


def limner(*arguments: object) -> None:
    if "train" in app:  # a process makes it once, for one recipe
        del app["train"]
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert ended.value.code in (0, None)


def small(name: str) -> dict[str, object]:
    base = generators.PRESETS[name].make()
    sizes = {"width": 8, "decoder_width": 8, "hidden": 16, "maxout": 8, "pieces": 2, "group_width": 4, "mapping": 2, "w_size": 8}
    fields = {net: {f.name for f in dataclasses.fields(getattr(base, net))} for net in ("generator", "discriminator")}
    return {"batch": 8} | {f"{net}.{key}": value for net in fields for key, value in sizes.items() if key in fields[net]}


@pytest.mark.parametrize("name", [name for name in generators.PRESETS if name not in motion.PRESETS])
def test_a_preset_trains_resumes_and_samples(
    name: str, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)  # the speed is measured for seconds otherwise
    changes = small(name)
    flags = [part for key, value in changes.items() for part in (f"--{key}", value)]
    common = ["train", squares, "--recipe", name, "--images", 24, "--device", "cpu", "--threads", 1, "--quiet", *flags]
    limner(*common, "--out", tmp_path / "whole")
    broken = train(
        squares, recipe=name, images=24, device="cpu", threads=1, quiet=True, out=tmp_path / "broken",
        changes=changes, callbacks=[StopAt(8)],
    )  # fmt: skip
    assert not broken.outcome.finished
    limner(*common, "--out", tmp_path / "broken")
    one, two = (load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert all(value.isfinite().all() for value in one.values() if value.is_floating_point())
    limner("sample", tmp_path / "whole", "-n", 4, "--label", "all", "--device", "cpu", "--out", tmp_path / "s.png")
    assert (tmp_path / "s.png").exists()
    described = json.loads((tmp_path / "whole" / "limner.json").read_text())
    assert described["recipe"]["name"] == name and described["training"]["images"] == 24


def test_a_recipe_plays_with_the_nets_of_another_architecture(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    usual = str(gan.PRESETS["spectral"].make().generator.width)  # not that of the other architecture, so it is a wish like any other
    limner("train", squares, "--recipe", "spectral", "--architecture", "dcgan", "--generator.width", usual, "--generator.norm",
           "virtual", "--images", 8, "--batch", 8, "--device", "cpu", "--threads", 1, "--quiet", "--out", tmp_path)  # fmt: skip
    described = json.loads((tmp_path / "limner.json").read_text())
    assert described["network"]["architecture"] == "dcgan" and described["recipe"]["objective"] == "hinge"
    assert described["network"]["config"] | {"width": int(usual), "norm": "virtual"} == described["network"]["config"]
    assert load(tmp_path, "cpu").sample(2).shape == (2, 1, 16, 16)
    changes = {"generator.norm": "virtual", "architecture": "dcgan"}  # in any order
    assert changed(gan.PRESETS["spectral"].make(), changes).generator.norm == "virtual"
    kept = gan.PRESETS["dcgan"].make()
    assert changed(kept, {"architecture": "dcgan"}) == kept


@pytest.mark.parametrize(("share", "warned"), [(0.9, False), (0.25, True)])
def test_a_busy_machine_is_told_when_the_speed_was_measured_on_it(
    share: float, warned: bool, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(decide, "measure", lambda *a, **k: time.sleep(0.05) or 100.0)
    monkeypatch.setattr(time, "thread_time", lambda: share * time.monotonic())
    train(squares, recipe="spectral", images=8, device="cpu", threads=1, out=tmp_path, changes=small("spectral"))
    said = capsys.readouterr().err
    assert ("this run got 25% of a core" in said) == ("ends sooner than announced." in said) == warned


def test_minutes_pay_for_the_pictures_that_people_watch_by(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Linear(1, 1)
    product = SimpleNamespace(network="generator", preview=lambda net: time.sleep(0.01))
    validator = Validator(columns=("x",), title="", better="lower", measure=lambda net: {}, cost=lambda net: 0.5)
    experiment: Any = SimpleNamespace(method=SimpleNamespace(nets={"generator": network}), product=product, validators=[validator])
    marks = len(schedule.preview_milestones(10**6))
    assert 0.01 + 0.5 <= validation_seconds(experiment) < (0.01 + 0.5) * 2
    experiment.validators = []
    assert 0.01 <= validation_seconds(experiment) < 0.01 * 10
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    monkeypatch.setattr(decide, "validation_seconds", lambda job: 30.0 / marks)
    monkeypatch.setattr(run, "fit", lambda *a, **k: Outcome(0, 0.0, False, None))
    train(squares, recipe="spectral", minutes=1, device="cpu", quiet=True, out=tmp_path, changes=small("spectral"))
    decided = json.loads((tmp_path / "run.json").read_text())["decided"]
    assert decided["besides"] >= 30 and decided["threads"] == 1
    assert 100 * (60 - decided["besides"] - 5) * 0.97 < decided["images"] <= 100 * 30 * 0.97  # start-up is paid for too


def test_what_is_announced_is_the_budget_even_where_validation_takes_most_of_it(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A codec's `--minutes 1` announced two minutes: 20 validations of 4 s each were due, and 12 s of training were added."""
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    monkeypatch.setattr(decide, "validation_seconds", lambda job: 4.0)
    monkeypatch.setattr(run, "fit", lambda *a, **k: Outcome(0, 0.0, False, None))
    start = time.monotonic()
    train(squares, recipe="spectral", minutes=1, device="cpu", batch=8, out=tmp_path, changes=small("spectral"))
    began = time.monotonic() - start
    decided = json.loads((tmp_path / "run.json").read_text())["decided"]
    calls = schedule.milestone_batches(decided["images"], 8)
    assert 8 <= calls < 20 and decided["besides"] >= 4 * calls
    assert decided["images"] / 100 / decide.TRAINING + decided["besides"] <= 60
    assert 60 - began - 10 < decided["images"] / 100 + decided["besides"]  # and no more is left than one more call would take
    announced = re.search(r"about (?:(\d+) min )?(\d+) s from start to end", capsys.readouterr().err)
    assert announced and 60 * int(announced[1] or 0) + int(announced[2]) <= 61 + began


def test_a_run_of_another_version_is_named(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    monkeypatch.setattr(run, "fit", lambda *a, **k: Outcome(0, 0.0, False, None))
    more = {"recipe": "spectral", "images": 8, "device": "cpu", "quiet": True, "out": tmp_path}
    train(squares, **more)
    kept = json.loads((tmp_path / "run.json").read_text())
    del kept["request"]["options"]["lr_warmup"]
    (tmp_path / "run.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"another version of Limner \(.*\) with other options \(options.lr_warmup\)"):
        train(squares, **more)


def test_a_run_keeps_the_precision_it_was_started_in(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)

    def run_once(out: str, precision: str = "auto", **more) -> None:
        train(squares, recipe="spectral", images=24, device="cpu", threads=1, out=tmp_path / out,
                      changes=small("spectral"), precision=precision, **more)  # fmt: skip

    run_once("whole")
    run_once("broken", callbacks=[StopAt(8)])
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)  # moved to another machine
    with pytest.raises(ValueError, match=r"was started with precision fp32, now it is bf16: .* leave --precision out"):
        run_once("broken", "bf16")
    run_once("broken")
    assert "started in fp32 and continues in it" in capsys.readouterr().err
    one, two = (load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert json.loads((tmp_path / "broken/limner.json").read_text())["training"]["machine"].endswith("fp32")


@pytest.mark.parametrize("name", gan.PRESETS)
def test_a_preset_names_its_source_and_changes_only_what_it_says(name: str) -> None:
    preset = gan.PRESETS[name]
    assert preset.summary and any(c.isdigit() for c in preset.source)
    recipe = preset.make()
    assert recipe.objective in OBJECTIVES and recipe.architecture in NAMES
    assert recipe.penalty in (*PENALTIES, "none") and recipe.regularizer in (*REGULARIZERS, "none")
    assert recipe.augmentation in (*diffaugment.POLICIES, "ada", "auto") and recipe.noise in DISTRIBUTIONS


def test_sngans_rates_fall_on_a_line_from_the_first_picture() -> None:
    """Miyato et al. 2018: configs/sn_cifar10_unconditional.yml of their code decays from iteration 0 to the last."""
    recipe = gan.PRESETS["sngan"].make()
    heights = [schedule.lr_factor(seen, 100, recipe.schedule, recipe.lr_decay_start, recipe.lr_warmup) for seen in (0, 25, 75)]
    assert heights == pytest.approx([1.0, 0.75, 0.25])


def test_the_options_of_the_recipe_have_every_choice() -> None:
    taken = {name: about.values for name, about, _ in options(Recipe)}
    assert taken["objective"] == tuple(OBJECTIVES) and taken["architecture"] == NAMES and taken["noise"] == tuple(DISTRIBUTIONS)
    assert taken["penalty"] == ("none", *PENALTIES) and taken["regularizer"] == ("none", *REGULARIZERS)
    assert taken["augmentation"] == ("auto", *diffaugment.POLICIES, "ada")


def test_the_networks_of_a_gan_have_configs_of_their_own(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their widths differ, and the description holds the published network's options alone."""
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    recipe = changed(gan.PRESETS["wgan-gp"].make(), {"generator.width": 8, "discriminator.width": 16})
    nets = gan.players(recipe, ImageSpec(1, 16, 16))
    assert nets["generator"].ups[-1].in_channels == 8 and nets["discriminator"].convs[0].out_channels == 16
    train(squares, recipe=recipe, images=8, batch=8, device="cpu", threads=1, quiet=True, out=tmp_path)
    described = json.loads((tmp_path / "limner.json").read_text())
    assert described["network"]["config"] == dataclasses.asdict(recipe.generator)
    assert described["recipe"]["discriminator"] == dataclasses.asdict(recipe.discriminator)
    with pytest.raises(ValueError, match="The options of the discriminator are not those of dcgan"):
        gan.players(dataclasses.replace(recipe, discriminator=conv.DiscriminatorConfig()), ImageSpec(1, 16, 16))


@pytest.mark.parametrize("noise", ["uniform", "truncated"])
def test_everything_that_samples_draws_the_kind_of_noise_that_was_trained_on(
    noise: str, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is replaced by one that only keeps what it was given."""
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    limner("train", squares, "--recipe", "spectral", "--noise", noise, "--images", 24, "--batch", 8, "--generator.width",
           8, "--device", "cpu", "--threads", 1, "--quiet", "--out", tmp_path)  # fmt: skip
    assert json.loads((tmp_path / "limner.json").read_text())["network"]["noise"] == noise
    limit = {"uniform": 1.0, "truncated": 2.0}[noise] * (1 + 1e-6)
    model, given = load(tmp_path, "cpu"), []
    network = model.network
    network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    whole = model.sample(200)
    machine = run.Machine(torch.device("cpu"), torch.float32, distributed.ALONE)
    preview_of(model.z_size, 2, noise, machine)(network)
    sampler_of(torch.arange(2), noise, machine)(network, 200)
    draw_samples(model, 200, 0)
    walk(model, 4, seconds=1)
    for z in given:
        assert z.abs().max() <= limit
    assert torch.cat(given).std() == pytest.approx({"uniform": 3**-0.5, "truncated": 0.88}[noise], abs=0.02)
    given.clear()
    chosen = model.sample(20, truncation=0.5)
    assert torch.cat(given).abs().max() <= limit and not np.array_equal(whole[:20], chosen)


def test_runs_from_before_there_were_kinds_sample_from_normal_noise(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    train(squares, recipe="spectral", images=8, device="cpu", threads=1, quiet=True, out=tmp_path,
                  changes={"batch": 8, "generator.width": 8, "discriminator.width": 8})  # fmt: skip
    description = json.loads((tmp_path / "limner.json").read_text())
    pictures = load(tmp_path, "cpu").sample(3)
    assert description["network"].pop("noise") == "normal"
    (tmp_path / "limner.json").write_text(json.dumps(description))
    assert np.array_equal(load(tmp_path, "cpu").sample(3), pictures)
    description["network"]["noise"] = "pink"
    (tmp_path / "limner.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="noise 'pink' is unknown"):
        load(tmp_path, "cpu")

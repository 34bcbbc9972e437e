"""Runs that start from others: what is taken over and recorded, resumption, refusals, the trial, the copy check, more pictures."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limner
from limner.cli import main
from limner.core import artifact
from limner.data.request import DataRequest
from limner.families import presets
from limner.families.parents import with_parent
from limner.recipes.changes import changed
from limner.runs import run as runs
from limner.runs import transfer
from limner.runs.inventory import only_added
from limner.runs.transfer import read_parent, verdict
from limner.training.interrupt import Pause

FAST: dict[str, Any] = {"device": "cpu", "precision": "fp32", "threads": 1, "quiet": True, "metric": "none"}
SMALL = {"generator.width": 4, "generator.z_size": 8, "discriminator.width": 4, "batch": 16}


def pictures(count: int = 48, channels: int = 1, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    shape = (count, 16, 16) if channels == 1 else (count, 16, 16, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), np.arange(count) % classes


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "parent"
    limner.train(pictures(), recipe="spectral", changes=SMALL, images=64, out=folder, **FAST)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint/latest.safetensors")


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_networks_and_averages_are_taken_over_and_the_parent_is_named(parent: Path, tmp_path: Path) -> None:
    run = limner.train(pictures(seed=1), from_=parent, images=32, out=tmp_path / "child", **FAST).folder
    description = artifact.read_description(run)
    assert description["recipe"]["generator"]["width"] == 4, "the parent's options are the defaults"
    (entry,) = description["parents"]
    assert entry["sha256"] == read_parent(parent).sha256 == artifact.content_hash(load_file(parent / "weights.safetensors"))
    assert entry["images"] == 64 and entry["adapt"] == "full" and entry["sha256"] in (run / "README.md").read_text()
    # the sheets at 0 images are those of the averages
    assert (run / "samples/000000000.png").read_bytes() == (parent / "preview.png").read_bytes()
    grandchild = limner.train(pictures(seed=2), from_=run / "best" if (run / "best").exists() else run, images=16, out=tmp_path / "two", **FAST)
    assert [p["images"] for p in artifact.read_description(grandchild.folder)["parents"]] == [32, 64]
    assert not torch.equal(weights(run)["net.generator.first.weight"], weights(parent)["net.generator.first.weight"])


@pytest.mark.parametrize(("adapt", "net", "moves"), [("freeze-d", "discriminator", "last.weight"), ("styles", "generator", "norms.0.scale.table.weight")])
def test_a_resumed_start_equals_an_unbroken_one_and_frozen_layers_stay(adapt: str, net: str, moves: str, parent: Path, tmp_path: Path) -> None:
    kept = {"freeze-d": "convs.0.weight", "styles": "first.weight"}[adapt]
    command: dict[str, Any] = dict(from_=parent, images=96, adapt=adapt, **FAST)
    np.savez(tmp_path / "new.npz", images=pictures(seed=1)[0], labels=pictures()[1])
    for name, pause in (("whole", Pause()), ("broken", Pause(at=48))):
        outcome = limner.train(str(tmp_path / "new.npz"), out=tmp_path / name, pause=pause, **command).outcome
        assert outcome.seen == (pause.at or 96) and outcome.finished == (not pause.at)
    parents = tmp_path / "elsewhere"
    shutil.move(parent, parents)  # --resume needs no parent
    try:
        limner.train(resume=tmp_path / "broken", quiet=True)
    finally:
        shutil.move(parents, parent)
    assert same(tmp_path / "whole", tmp_path / "broken")
    before, now = weights(parent), weights(tmp_path / "whole")
    assert torch.equal(before[f"net.{net}.{kept}"], now[f"net.{net}.{kept}"])
    assert not torch.equal(before[f"net.{net}.{moves}"], now[f"net.{net}.{moves}"])
    assert artifact.read_description(tmp_path / "broken")["parents"][0]["adapt"] == adapt
    limner.train(str(tmp_path / "new.npz"), out=tmp_path / "broken", **command)  # the same command is accepted again


def test_a_start_that_was_killed_before_its_first_checkpoint_needs_its_parent(parent: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", images=pictures(seed=1)[0])
    command: dict[str, Any] = dict(from_=parent, images=16, out=tmp_path / "run", **FAST)
    limner.train(str(tmp_path / "new.npz"), **command)
    for path in (tmp_path / "run/checkpoint").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="--from among it"):
        limner.train(resume=tmp_path / "run", quiet=True)
    assert limner.train(str(tmp_path / "new.npz"), **command).outcome.finished


def test_another_parent_is_another_run(parent: Path, tmp_path: Path) -> None:
    limner.train(pictures(), from_=parent, images=16, out=tmp_path / "run", **FAST)
    limner.train(pictures(), recipe="spectral", changes=SMALL, images=16, out=tmp_path / "other", **FAST)
    with pytest.raises(ValueError, match=r"was started with from [0-9a-f]{64}, now it is [0-9a-f]{64}"):
        limner.train(pictures(), from_=tmp_path / "other", images=16, out=tmp_path / "run", **FAST)


def test_differences_of_the_pictures_are_said(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = pictures(channels=3, classes=3, seed=1)
    limner.train((images, labels), from_=parent, size=32, images=16, out=tmp_path / "run", **(FAST | {"quiet": False}))
    said = capsys.readouterr().err
    for text in (
        "Starts from array (spectral, 64 images seen, SHA-256", "Channels: gray before, RGB now", "Size: 16x16 before, 32x32 now",
        "Classes: 2 of 3 have the parent's names; 2 starts at the mean of its 2 classes.", "New: generator.first.weight",
    ):  # fmt: skip
        assert text in said, said


def test_only_the_published_network_is_enough(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(parent, shared, ignore=shutil.ignore_patterns("checkpoint"))
    limner.train(pictures(), from_=shared, images=16, out=tmp_path / "run", **(FAST | {"quiet": False}))
    assert "generator 100%, discriminator 0% (anew)" in capsys.readouterr().err


def test_other_families_start_from_their_own(tmp_path: Path) -> None:
    tiny = {"network.width": 4, "network.z_size": 4}
    first = limner.train(pictures(), recipe="vae", changes=tiny, images=32, out=tmp_path / "vae", **FAST).folder
    second = limner.train(pictures(seed=1), from_=first, images=32, out=tmp_path / "next", **FAST).folder
    assert artifact.read_description(second)["kind"] == "autoencoder"
    np.savez(tmp_path / "new.npz", images=pictures(seed=2)[0])
    words = ["--from", first, "--network.width", "4", "--beta", "0.5", "--images", "16", "--out", tmp_path / "third", "--device", "cpu", "--threads", "1", "--quiet"]
    with pytest.raises(SystemExit) as ended:  # the options of the command are those of the parent's recipe
        main(["train", str(tmp_path / "new.npz"), *map(str, words)])
    assert ended.value.code == 0
    assert artifact.read_description(tmp_path / "third")["recipe"]["beta"] == 0.5
    with pytest.raises(ValueError, match=r"holds a trained autoencoder, and the recipe spectral trains another kind, a generator"):
        limner.train(pictures(), recipe="spectral", from_=first, images=16, out=tmp_path / "x", **FAST)
    with pytest.raises(ValueError, match="is for GANs of pictures"):
        limner.train(pictures(), from_=first, adapt="freeze-d", images=16, out=tmp_path / "x", **FAST)


def test_networks_that_have_grown_do_not_grow_again(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = artifact.read_description(parent)
    for name, architecture, growing in (("spectral", "progan", 0.0), ("progan", "progan", 0.0), ("progan", "conv", None)):
        made = changed(presets()[name].make(), {"architecture": architecture})
        described = known | {"recipe": json.loads(json.dumps({"name": name, **dataclasses.asdict(made)}))}
        monkeypatch.setattr(artifact, "read_description", lambda _, described=described: described)
        recipe, changes, _ = with_parent(parent, None, {}, DataRequest())
        found = dataclasses.asdict(changed(presets()[recipe].make(), changes))
        assert found["architecture"] == architecture
        assert found["generator"].get("growing") == growing and found["discriminator"].get("growing") == growing


def test_what_cannot_be_a_parent_is_refused_in_a_sentence(parent: Path, tmp_path: Path) -> None:
    data = pictures()
    with pytest.raises(ValueError, match="give that one with --from, or leave --adapt out"):
        limner.train(data, adapt="styles", images=16, out=tmp_path / "x", **FAST)
    with pytest.raises(ValueError, match="There is no folder"):
        limner.train(data, from_=tmp_path / "nothing", images=16, out=tmp_path / "x", **FAST)
    with pytest.raises(ValueError, match="holds networks of the architecture conv, and this run has r3gan"):
        limner.train(data, recipe="r3gan", from_=parent, images=16, out=tmp_path / "x", **FAST)
    with pytest.raises(ValueError, match="where the run of --from is: choose another folder"):
        limner.train(data, from_=parent, images=16, out=parent, **FAST)
    with pytest.raises(ValueError, match="so from has no meaning"):
        limner.train(resume=parent, from_=parent)
    damaged = tmp_path / "damaged"
    shutil.copytree(parent, damaged)
    content = bytearray((damaged / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        limner.train(data, from_=damaged, images=16, out=tmp_path / "x", **FAST)
    described = json.loads((parent / "limner.json").read_text())
    (damaged / "limner.json").write_text(json.dumps(described | {"recipe": {"name": "mine"}}))
    with pytest.raises(ValueError, match="'mine', which is not known by this name here"):
        limner.train(data, from_=damaged, images=16, out=tmp_path / "x", **FAST)
    assert not (tmp_path / "x/checkpoint").exists()


# ---- the trial -----------------------------------------------------------------------------------------------------------


def test_the_trial_leaves_the_run_as_it_is(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command: dict[str, Any] = dict(from_=parent, images=64, adapt="freeze-d", **(FAST | {"metric": "pixels"}))
    data = pictures(64, seed=1)
    limner.train(data, out=tmp_path / "plain", **command)
    monkeypatch.setattr(transfer, "MIN_BUDGET", 1)
    monkeypatch.setattr(transfer, "MIN_TRIAL", 32)
    limner.train(data, out=tmp_path / "tried", **command)
    assert same(tmp_path / "plain", tmp_path / "tried")
    decided = [json.loads((tmp_path / name / "run.json").read_text())["decided"]["transfer"] for name in ("plain", "tried")]
    assert "trial" not in decided[0]
    trial = decided[1]["trial"]
    assert trial["images"] == 32 and trial["metric"] == "fd_pixels" and trial["parent"] != trial["nothing"]


def test_the_verdict_of_a_trial() -> None:
    figures = {"images": 1000, "metric": "fd_pixels", "parent": 30.0, "nothing": 60.0, "parent_before": 3.0, "nothing_before": 100.0}
    assert verdict(figures, "lower").startswith("The start from the parent helps")
    assert "hurts" in verdict(figures, "higher") and "leave --from out" in verdict(figures, "higher")
    far = verdict(figures | {"parent_before": 40.0}, "lower")
    assert far.startswith("The parent's pictures are far from these") and "helps at first" in far
    assert "helps: after" in verdict(figures | {"metric": "psnr", "parent_before": 40.0}, "lower"), "a measure of pairs says nothing about that"
    assert "no difference" in verdict(figures | {"nothing": 30.5}, "lower")
    assert verdict(figures | {"parent": float("nan")}, "lower").startswith("The trial does not tell")


# ---- the copy check ------------------------------------------------------------------------------------------------------


def test_small_sets_are_tested_for_copies(parent: Path, tmp_path: Path) -> None:
    found = artifact.read_description(parent)["copies"]
    assert found["samples"] == 500 and found["verdict"] in (parent / "README.md").read_text()
    large = limner.train(pictures(500), recipe="spectral", changes=SMALL, images=16, doctor=False, out=tmp_path / "large", **FAST).folder
    assert "copies" not in artifact.read_description(large)


def test_a_generator_that_copies_is_found() -> None:
    from limner.data import open_source, prepare
    from limner.runs.copies import copy_check

    data = prepare(open_source(pictures(100)[0]))
    rows = torch.arange(500) % 100
    copying = copy_check(lambda network, n: data.images[rows], data, None)
    honest = copy_check(lambda network, n: torch.from_numpy(pictures(500, seed=7)[0])[:, None], data, None)
    assert copying and copying(torch.nn.Identity())["verdict"].startswith("It copies")
    assert honest and honest(torch.nn.Identity())["verdict"].startswith("No sign of copying")


# ---- more pictures -------------------------------------------------------------------------------------------------------


def test_a_longer_run_may_have_more_pictures(tmp_path: Path) -> None:
    from PIL import Image

    images, _ = pictures(40)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(32):
        Image.fromarray(images[i]).save(folder / f"{i:02}.png")
    run = limner.train(folder, recipe="spectral", changes=SMALL, images=32, out=tmp_path / "run", **FAST).folder
    for i in range(32, 40):
        Image.fromarray(images[i]).save(folder / f"{i:02}.png")
    with pytest.raises(ValueError, match=r"was started on other pictures \(8 added"):
        limner.train(resume=run, quiet=True)
    shutil.copytree(run, tmp_path / "broken")
    done = limner.train(resume=run, more="64 images", quiet=True)
    assert done.outcome.seen == 96 and artifact.read_description(run)["data"]["count"] == 40
    limner.train(resume=tmp_path / "broken", more="64 images", quiet=True, pause=Pause(at=48))
    limner.train(resume=tmp_path / "broken", quiet=True)
    assert same(run, tmp_path / "broken"), "a longer run is resumed bit for bit too"
    (folder / "00.png").unlink()
    with pytest.raises(ValueError, match=r"was started on other pictures \(1 removed"):
        limner.train(resume=run, more="16 images", quiet=True)


def test_added_pictures_are_told_from_changed_ones(tmp_path: Path) -> None:
    from limner.data import open_source, prepare

    few, more, other = (prepare(open_source(x)) for x in (pictures(40)[0][:32], pictures(40)[0], pictures(40, seed=5)[0]))
    runs.record_pictures(tmp_path, few)
    assert only_added(tmp_path, more)
    assert not only_added(tmp_path, few) and not only_added(tmp_path, other)

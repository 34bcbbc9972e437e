"""Paths through latents, dreams, explanations, and the commands that direct a generator."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from direction_models import fake, painter
from limner.apps.editing.codes import drawn, latents_of, pictures
from limner.apps.editing.direct import find_directions, with_amounts
from limner.apps.editing.direction_sheet import amounts, sheet
from limner.apps.editing.directions import Direction, Directions
from limner.apps.editing.dream import chosen_layer, dream, layers_of, seer_of
from limner.apps.editing.edit import by_seed, edit, mix
from limner.apps.editing.explain import explain, layer_named, maps_of, without
from limner.apps.editing.latent import render
from limner.apps.editing.path import curvatures, film, frames, positions, row, spline
from limner.cli import main

SMALL = {"generator.width": 8, "discriminator.width": 8}


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=64, recipe="spectral", changes=SMALL, out=out, quiet=True)
    return out


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.apps.editing.find.CODES", 200)
    monkeypatch.setattr("limner.apps.editing.find.QUERIES", 20)
    monkeypatch.setattr("limner.apps.editing.find.CLASS_QUERIES", 4)
    monkeypatch.setattr("limner.apps.editing.class_change.PICTURES", 40)
    monkeypatch.setattr("limner.apps.editing.class_change.STEPS", 3)


def cli(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_a_closed_spline_passes_its_keys_smoothly_and_closes() -> None:
    keys = np.random.default_rng(0).standard_normal((5, 3))
    assert np.allclose(spline(keys, np.arange(6.0), True), keys[[0, 1, 2, 3, 4, 0]])
    for at in range(5):  # first and second derivatives are continuous at every key, the first one too
        near = spline(keys, np.array([at - 2e-4, at - 1e-4, at, at + 1e-4, at + 2e-4]), True)
        before, after = (near[1] - near[0]) / 1e-4, (near[4] - near[3]) / 1e-4
        assert np.allclose(before, after, atol=0.02)
    circle = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
    points = spline(circle, np.linspace(0, 8, 100), True)
    assert np.allclose(np.linalg.norm(points, axis=1), 1, atol=0.005)


def test_an_open_spline_has_natural_ends_and_two_keys_are_a_line() -> None:
    keys = np.random.default_rng(0).standard_normal((4, 3))
    assert np.allclose(curvatures(keys, False)[[0, 3]], 0) and np.allclose(spline(keys, np.arange(4.0), False), keys)
    assert np.allclose(spline(keys[:2], np.array([0.25]), False), 0.75 * keys[:1] + 0.25 * keys[1:2])


def test_frames_of_a_loop_begin_where_they_end() -> None:
    assert positions(6, 3, True).tolist() == [0, 0.5, 1, 1.5, 2, 2.5] and positions(3, 3, False).tolist() == [0, 1, 2]
    model = painter(2)
    keys = latents_of(model, drawn(model, 3, 0))
    loop = list(frames(model, keys, np.linspace(0, 3, 13), True))
    assert np.array_equal(loop[0], loop[-1])
    shown = render(model, keys)
    assert all(np.array_equal(loop[4 * i], shown[i]) for i in range(3))  # key frames are themselves, to the bit


def test_points_between_latents_are_as_long_as_latents() -> None:
    from limner.apps.editing.path import along

    model = painter()
    codes = drawn(model, 4, 0)
    path = along(codes, np.linspace(0, 4, 41), True, 0)
    lengths, own = np.linalg.norm(path.code, axis=1), np.linalg.norm(codes.code, axis=1)
    assert lengths.min() >= own.min() - 1e-4 and lengths.max() <= own.max() + 1e-4


def test_styles_are_interpolated_too() -> None:
    model = fake("stylegan2")
    keys = latents_of(model, drawn(model, 2, 0))
    made = row(model, *keys, 5)
    assert np.array_equal(made[[0, -1]], render(model, keys)) and made.shape == (5, 3, 32, 32)
    with pytest.raises(ValueError, match="at least 2 steps"):
        row(model, *keys, 1)


def test_tuned_copies_are_blended_so_that_both_ends_are_exact(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = limner.load(run, "cpu")
    keys = latents_of(model, drawn(model, 2, 0))
    own = dict(model.network.named_parameters())
    brighter = {name: tensor.detach() * 1.5 for name, tensor in own.items()}
    monkeypatch.setattr("limner.apps.editing.path.tuned_weights", lambda m, key: brighter if key is keys[1] else None)
    made = row(model, *keys, 3)
    assert np.array_equal(made[0], render(model, keys[:1])[0]) and not np.array_equal(made[2], render(model, keys[1:])[0])


def test_films_are_refused_before_anything_is_made(run: Path, tmp_path: Path) -> None:
    model = limner.load(run, "cpu")
    keys = latents_of(model, drawn(model, 2, 0))
    with pytest.raises(ValueError, match="2 to 64 key frames"):
        film(model, keys[:1], tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"\.gif, \.webp or \.mp4"):
        film(model, keys, tmp_path / "a.png")
    assert "loop of 20 frames past 2" in film(model, keys, tmp_path / "a.gif", 1.0, True)
    with Image.open(tmp_path / "a.gif") as image:
        assert getattr(image, "n_frames", 1) > 1 and image.size[0] >= 16


# ---- dream -----------------------------------------------------------------------------------------------------------


def test_a_dream_makes_its_unit_answer_more(run: Path) -> None:
    model = limner.load(run, "cpu")
    seer = seer_of(model)
    name = next(iter(layers_of(seer)))
    picture = np.asarray(model.sample(1, seed=0))[0]

    def answer(x: np.ndarray, unit: int) -> float:
        found: list[torch.Tensor] = []
        handle = seer.network.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2]))
        seer.work(torch.from_numpy(x[None]).float() / 127.5 - 1)
        handle.remove()
        return float(torch.nn.functional.softplus(found[0][:, unit]).square().mean())

    grown = [answer(dream(model, picture, name, unit, steps=10), unit) - answer(picture, unit) for unit in range(4)]
    assert min(grown) >= -1e-3 and max(grown) > 0.01
    one, two = (dream(model, picture, name, None, steps=3, octaves=2, seed=s) for s in (1, 1))
    assert np.array_equal(one, two) and one.shape == picture.shape and not np.array_equal(one, picture)
    wide = np.zeros((1, 40, 56), np.uint8)
    assert dream(model, wide, "0", 0, steps=1).shape == wide.shape  # at any size
    assert dream(model, None, steps=1).shape == (1, 16, 16)


def test_layers_and_units_of_dreams_are_checked(run: Path) -> None:
    model = limner.load(run, "cpu")
    seer = seer_of(model)
    names = list(layers_of(seer))
    assert chosen_layer(seer, "0", None) == names[0] == chosen_layer(seer, names[0], 0)
    with pytest.raises(ValueError, match="choose one of 0 = "):
        chosen_layer(seer, "nothing", None)
    with pytest.raises(ValueError, match="has units 0 to"):
        chosen_layer(seer, "0", 9999)
    with pytest.raises(ValueError, match="octaves"):
        dream(model, octaves=0)


# ---- explain ---------------------------------------------------------------------------------------------------------


def test_switching_a_unit_off_shows_what_it_draws() -> None:
    model = painter()
    assert maps_of(model, drawn(model, 1, 0)) == {"mix": 8}
    found = explain(model, units=8)
    assert found.layer == "mix" and found.count == 8 and [u.unit for u in found.units][3:] == [3, 4, 5, 6, 7]
    sizes = {u.unit: u.size for u in found.units}
    assert all(sizes[k] > 0 for k in range(3)) and all(sizes[k] == 0 for k in range(3, 8))
    assert found.units[0].where.shape == (32, 32) and found.units[0].pictures.shape == (8, 1, 32, 32)
    codes = drawn(model, 4, 0)
    assert torch.equal(without(model, "mix", 7, codes), pictures(model, codes))  # and the network is as before
    codes.code[:, 1] = 0
    assert torch.equal(without(model, "mix", 1, codes), pictures(model, codes))


def test_layers_of_generators_are_named_or_numbered(run: Path) -> None:
    model = limner.load(run, "cpu")
    known = maps_of(model, drawn(model, 1, 0))
    assert not any(name.endswith("norm") for name in known)  # a part of a conditional normalization
    assert layer_named(known, "1") == list(known)[1]
    with pytest.raises(ValueError, match="choose one of 0 = "):
        layer_named(known, "nothing")
    with pytest.raises(ValueError, match="gives maps"):
        layer_named({}, None)


# ---- sheets and commands ---------------------------------------------------------------------------------------------


def test_the_sheet_has_a_row_for_each_direction(run: Path) -> None:
    model = limner.load(run, "cpu")
    found, told = find_directions(model, count=2)
    assert str(len(found)) in told and (run / "editing/directions.png").exists()
    assert len(list(found)) >= 4 and [d.label for d in found if d.label is not None] == [0, 1]
    shown = sheet(model, found, by_seed(model), steps=3)
    fewer = sheet(model, Directions(found.items[:-1], found.fingerprint, found.look), by_seed(model), steps=3)
    assert shown.dtype == np.uint8 and shown.shape[0] == 3 and shown.shape[1] > fewer.shape[1]
    assert amounts(Direction("a", "class", np.zeros(1, np.float32), 0))[0] == 0 and amounts(found.items[0], 3) == [-3, 0, 3]
    with pytest.raises(ValueError, match="2 or more"):
        sheet(model, found, by_seed(model), steps=1)


def test_amounts_default_to_two_deviations_or_one_class(run: Path) -> None:
    model = limner.load(run, "cpu")
    find_directions(model, count=1)
    axis = Directions.load(model).names[0]  # type: ignore[union-attr]
    assert with_amounts(model, [axis, "CLASS: 1"], []) == [(axis, 2.0), ("class:1", 1.0)]
    assert with_amounts(model, [axis], [-3.0]) == [(axis, -3.0)]
    with pytest.raises(ValueError, match="one --by after each"):
        with_amounts(model, [axis, axis], [1.0])


def test_the_commands_from_directions_to_a_film(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = (tmp_path / f"{name}.latent.npz" for name in "abc")
    assert cli("edit", run, "--seed", 7, "--label", 0, "--out", a) == 0 and cli("edit", run, "--seed", 8, "--label", 1, "--out", b) == 0
    assert cli("directions", run, "--axes", 1, "--like", a, b, "--out", tmp_path / "sheet.png", "--json") == 0
    found = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert "like" in [d["name"] for d in found["directions"]] and (tmp_path / "sheet.png").exists()
    assert cli("edit", run, a, "--direction", "like", "--by", "-1.5", "--direction", "class:1", "--by", 0.5, "--out", c) == 0
    model = limner.load(run, "cpu")
    made = edit(model, by_seed(model, 7, 0), [("like", -1.5), ("class:1", 0.5)])
    assert cli("edit", run, c, "--out", tmp_path / "c.png") == 0
    with Image.open(tmp_path / "c.png") as image:
        assert np.array_equal(np.asarray(image), render(model, [made])[0, 0])
    assert cli("interpolate", run, a, b, "--steps", 4, "--out", tmp_path / "row.png") == 0
    assert cli("sample", run, "--frames", a, b, c, "--loop", "--seconds", 1, "--out", tmp_path / "loop.gif") == 0
    assert cli("dream", run, tmp_path / "c.png", "--steps", 2, "--out", tmp_path / "dream.png") == 0
    assert cli("explain", run, "--units", 2, "--out", tmp_path / "units.png") == 0
    assert all((tmp_path / name).exists() for name in ("row.png", "loop.gif", "dream.png", "units.png"))


@pytest.mark.parametrize(("arguments", "told"), [
    (["edit", "RUN", "--seed", "1", "--out", "x.txt"], "picture"),
    (["edit", "RUN", "nothing.latent.npz"], "There is no file"),
    (["mix", "RUN", "a.latent.npz", "b.latent.npz", "--layers", "x"], "numbers and ranges"),
    (["sample", "RUN", "--loop"], "give them with --frames"),
    (["dream", "RUN", "--layer", "nothing"], "choose one of"),
    (["explain", "RUN", "--layer", "nothing"], "choose one of"),
    (["directions", "RUN", "--out", "x.jpg"], "written as a .png"),
    (["directions", "RUN", "--like", "nothing.latent.npz"], "There is no file"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(run: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(*[str(run) if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_examples_of_the_python_functions_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limner.apps.editing.find import find

    monkeypatch.chdir(tmp_path)
    runner, finder = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF), doctest.DocTestFinder(recurse=False)
    report: list[str] = []
    for function in (limner.train, find, edit, mix, dream, explain):
        (test,) = finder.find(function, function.__qualname__, globs={"__name__": "__main__"})
        assert test.examples, f"{function.__qualname__} has no example"
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)

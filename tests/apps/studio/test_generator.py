"""Pictures of states: the same as those of `limner sample`, moved along axes, placed on the map, mixed, and written with their command."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limner.apps.editing.axes import axes_of
from limner.apps.studio import latent_map
from limner.apps.studio.generator import Drawing
from limner.apps.studio.state import State, from_json, png, texts_of
from limner.families.load import load
from studio_process import PROGRAM


@pytest.fixture(scope="module")
def drawing(run_folder: Path) -> Drawing:
    return Drawing(load(run_folder, "cpu"))


@pytest.fixture(scope="module")
def styled(styled_folder: Path) -> Drawing:
    return Drawing(load(styled_folder, "cpu"))


@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_a_plain_state_is_the_first_picture_of_sample(drawing: Drawing, styled: Drawing, truncation: float) -> None:
    made = drawing.draw(State(seed=7, label="1", truncation=truncation))
    assert np.array_equal(made, drawing.model.sample(1, seed=7, label="1", truncation=truncation)[0])
    made = styled.draw(State(seed=7, truncation=truncation))
    assert np.array_equal(made, styled.model.sample(1, seed=7, truncation=truncation)[0])


def test_axes_read_their_own_steps_are_the_same_again_and_move_pictures(drawing: Drawing, styled: Drawing) -> None:
    for one in (drawing, styled):
        axes = one.axes
        assert np.allclose(axes.steps @ axes.readers, np.eye(len(axes)), atol=1e-6)
        assert np.array_equal(axes_of(one.model).steps, axes.steps)
        still, moved = one.draw(State(seed=1)), one.draw(State(seed=1, axes={1: 3.0}))
        assert not np.array_equal(still, moved)
        assert np.array_equal(still, one.draw(State(seed=1, axes={1: 0.0})))


def test_the_first_axis_changes_pictures_more_than_a_random_direction(drawing: Drawing) -> None:
    """The axes are those of largest variation: on average over seeds, the first beats directions drawn at random."""
    axes, model = drawing.axes, drawing.model
    z = model.latents(64, np.random.default_rng(5), np.zeros(64, np.int64)).astype(np.float64)
    labels = np.zeros(64, np.int64)

    def change(direction: np.ndarray) -> float:
        ends = [model.render((z + by * direction).astype(np.float32), labels).astype(float) for by in (-1.0, 1.0)]
        return float(np.abs(ends[1] - ends[0]).mean())

    random = np.random.default_rng(6).standard_normal((20, z.shape[1]))
    others = [change(row / np.linalg.norm(row)) for row in random]
    assert change(axes.steps[0] / np.linalg.norm(axes.steps[0])) > np.mean(others)


def test_latents_keep_their_length_when_they_are_moved_or_placed(drawing: Drawing) -> None:
    axes = drawing.axes
    z = drawing.model.latents(5, np.random.default_rng(0)).astype(np.float64)
    length = np.linalg.norm(z - axes.center, axis=1)
    moved = axes.moved(z, np.array([2.0, -1.0, *[0.0] * (len(axes) - 2)]))
    assert np.allclose(np.linalg.norm(moved - axes.center, axis=1), length)
    reach = latent_map.reach_of(drawing)
    at = np.array([[reach, reach], [0.0, 0.0], [-reach, 0.5]])
    placed = axes.placed(z[0], at)
    assert np.allclose(np.linalg.norm(placed - axes.center, axis=1), length[0])
    assert np.allclose(axes.coordinates(placed)[:, :2], at)


def test_the_map_shows_at_each_cell_the_picture_of_its_place(drawing: Drawing) -> None:
    state = State(seed=3, label="0")
    real, note = latent_map.real_pictures(drawing.model, 0)
    assert len(real) == 48 and not note  # of 96 pictures in two classes
    made = latent_map.make(drawing, state, lambda: (real, note))
    grid = latent_map.places(made.reach)
    for cell in (0, 84, 168):
        x, y = grid[cell]
        assert np.array_equal(made.pictures[cell], drawing.draw(State(seed=3, label="0", at=(float(x), float(y)))))
    assert grid[0][0] < 0 < grid[0][1]  # top left: y grows upward
    cells = [tuple(np.flatnonzero((grid == mark.place).all(1))) for mark in made.landmarks]
    rows = [divmod(int(cell[0]), latent_map.CELLS) for cell in cells]
    apart = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for i, a in enumerate(rows) for b in rows[:i]]
    assert made.landmarks and min(apart, default=latent_map.MIN_DISTANCE) >= latent_map.MIN_DISTANCE
    assert all(np.array_equal(picture, real[mark.index]) for picture, mark in zip(made.real, made.landmarks, strict=True))


def test_landmarks_stand_at_the_nearest_drawn_picture() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((latent_map.CELLS**2, 5))
    real = drawn[[20, 100]] + 0.01
    marks = latent_map.landmarks(drawn, real, latent_map.places(2.5))
    assert {mark.place for mark in marks} == {tuple(latent_map.places(2.5)[cell]) for cell in (20, 100)}


def test_style_mixing_takes_later_layers_from_the_second_seed(styled: Drawing) -> None:
    layers = int(styled.model.network.layers)  # type: ignore[arg-type]
    one, two = styled.draw(State(seed=1)), styled.draw(State(seed=2))
    assert np.array_equal(styled.draw(State(seed=1, mix_seed=2, mix_from=layers)), one)
    assert np.array_equal(styled.draw(State(seed=1, mix_seed=2, mix_from=0)), two)
    mixed = styled.draw(State(seed=1, mix_seed=2, mix_from=layers // 2))
    assert not np.array_equal(mixed, one) and not np.array_equal(mixed, two)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": {9: 1.0}}, "has the axes 1 to"), ({"axes": {1: 7.0}}, "-6 to 6"), ({"axes": {1: float("nan")}}, "-6 to 6"),
        ({"at": (7.0, 0.0)}, "place on the map"), ({"mix_seed": 1}, "style space"), ({"truncation": 2.0}, "truncation"),
        ({"seed": -1}, "seed"), ({"label": "ghost"}, "ghost"),
    ],
)  # fmt: skip
def test_states_out_of_range_are_refused(drawing: Drawing, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawing.draw(State(**fields))


@pytest.mark.parametrize("document", [{"seed": 1.5}, {"seed": "x"}, {"axes": {"a": 1}}, {"axes": 3}, {"at": [1]}, {"at": "ab"}, {"truncation": 1e999}, {"color": 1}, {"seed": True}])
def test_damaged_states_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_json(document)


def test_the_saved_picture_holds_the_command_that_draws_it_again(drawing: Drawing, run_folder: Path, tmp_path: Path) -> None:
    state = State(seed=5, label="1", truncation=0.5, axes={1: 1.25, 2: -0.1}, at=None)
    content = png(drawing.draw(state), texts_of(run_folder, state))
    with Image.open(io.BytesIO(content)) as image:
        assert image.text["Software"].startswith("Limner ")  # type: ignore[attr-defined]
        command = shlex.split(image.text["Comment"])  # type: ignore[attr-defined]
        assert from_json(json.loads(image.text["limner"])) == state  # type: ignore[attr-defined]
    command[command.index("picture.png")] = str(tmp_path / "again.png")
    subprocess.run([*PROGRAM, *command[1:]], check=True, capture_output=True)
    with Image.open(io.BytesIO(content)) as one, Image.open(tmp_path / "again.png") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))

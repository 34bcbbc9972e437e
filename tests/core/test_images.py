"""The two doors, sheets and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.condition import Condition
from limner.core.images import ImageSpec, grid, grid_size, to_float, to_pil, to_uint8, write_animation, write_png


def test_the_doors_are_inverse_on_every_byte() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = to_float(every)
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    assert torch.equal(to_uint8(x), every)
    assert to_uint8(torch.tensor([[[[-9.0, 9.0]]]])).flatten().tolist() == [0, 255]


def test_the_door_in_takes_bytes_only() -> None:
    with pytest.raises(AssertionError, match="uint8"):
        to_float(torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pictures_reach_the_disk_as_they_are(channels: int, mode: str, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    write_png(tmp_path / "deep/er/x.png", picture)
    with pytest.raises(ValueError, match=r"a \.png, not as 'x\.jpg'"):
        write_png(tmp_path / "x.jpg", picture)
    with Image.open(tmp_path / "deep/er/x.png") as again:
        assert again.mode == mode and again.size == (7, 5)
        array = np.asarray(again)
    assert np.array_equal(array[None] if channels == 1 else array.transpose(2, 0, 1), picture)
    assert to_pil(picture).mode == mode


def test_a_grid_places_pictures_row_by_row() -> None:
    images = np.stack([np.full((1, 2, 3), i, np.uint8) for i in range(5)])
    sheet = grid(images, columns=3, gap=1, scale=1)
    assert sheet.shape == (1, 5, 11)
    assert sheet[0, 0, 0] == 0 and sheet[0, 0, 4] == 1 and sheet[0, 3, 0] == 3 and sheet[0, 3, 8] == 255
    assert grid(images, columns=3, gap=0, scale=2).shape == (1, 8, 18)
    clear = grid(np.zeros((1, 4, 2, 2), np.uint8), columns=2, scale=1)
    assert clear[3].max() == 0


@pytest.mark.parametrize(("n", "height", "width", "columns"), [(1, 5, 7, None), (70, 3, 9, None), (7, 16, 8, 3), (5, 4, 4, 40)])
def test_the_size_of_a_grid_is_known_before_it_is_made(n: int, height: int, width: int, columns: int | None) -> None:
    assert grid(np.zeros((n, 1, height, width), np.uint8), columns).shape[1:] == grid_size(n, height, width, columns)


def test_a_grid_places_rows_of_unlike_length() -> None:
    images = np.stack([np.full((1, 2, 3), i, np.uint8) for i in range(5)])
    sheet = grid(images, gap=1, scale=1, rows=[1, 3, 1])
    assert sheet.shape == (1, 8, 11)
    assert sheet[0, ::3, ::4].tolist() == [[0, 255, 255], [1, 2, 3], [4, 255, 255]]


@pytest.mark.parametrize("ending", [".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_animations_hold_every_frame(ending: str, channels: int, tmp_path: Path) -> None:
    frames = [np.full((channels, 8, 8), 60 * i + 15, np.uint8) for i in range(4)]
    write_animation(tmp_path / f"x{ending}", frames)
    with Image.open(tmp_path / f"x{ending}") as film:
        assert film.n_frames == 4


def test_a_spec_reads_as_a_sentence() -> None:
    assert str(ImageSpec(4, 20, 36, Condition.classes(3))) == "20x36 RGBA, 3 classes"
    assert str(ImageSpec(1, 28, 28)) == "28x28 gray"

"""Line drawings: lines at edges, none in flat areas, dark on white; pairs of equal names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.data.edges import blurred, line_drawings, luma, make_pairs


def test_flat_pictures_have_no_lines() -> None:
    for value in (0, 90, 255):
        assert (line_drawings(torch.full((1, 3, 32, 32), value, dtype=torch.uint8)) == 255).all()


def test_a_line_is_drawn_at_an_edge_and_nowhere_else() -> None:
    picture = torch.full((1, 1, 64, 64), 230, dtype=torch.uint8)
    picture[:, :, 16:48, 16:48] = 60
    drawn = line_drawings(picture)[0, 0].float()
    assert drawn[20:44, 20:44].min() == 255 and drawn[:10].min() == 255
    border = torch.stack([drawn[32, 14:20], drawn[32, 44:50], drawn[14:20, 32], drawn[44:50, 32]])
    assert (border.min(1).values < 64).all()


def test_the_outline_of_an_opaque_part_is_drawn() -> None:
    picture = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    picture[:, 3, 16:48, 16:48] = 255  # black, opaque in the middle
    drawn = line_drawings(picture)[0, 0]
    assert drawn[32, 12:20].min() < 64 and drawn[:8].min() == 255
    assert luma(picture)[0, 0, 0, 0] == 1 and luma(picture)[0, 0, 32, 32] == 0


def test_the_blur_keeps_the_mean_and_has_the_given_width() -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, 20, 20] = 1
    made = blurred(x, 2.0)
    assert made.sum() == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(41) - 20.0
    assert float((made[0, 0].sum(0) * offsets**2).sum()) == pytest.approx(4.0, rel=0.05)


def test_pairs_have_equal_names_and_never_replace_files(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"p{i}.png")
    sentence = make_pairs(str(folder), tmp_path / "pairs", (20, 24))
    assert sentence.startswith("3 pairs are in") and "--recipe pix2pix" in sentence
    names = [sorted(p.name for p in (tmp_path / "pairs" / side).iterdir()) for side in ("edges", "pictures")]
    assert names[0] == names[1] and len(names[0]) == 3
    with Image.open(tmp_path / "pairs" / "edges" / names[0][0]) as edges, Image.open(tmp_path / "pairs" / "pictures" / names[0][0]) as picture:
        assert edges.size == picture.size == (24, 20) and edges.mode == "L"
    with pytest.raises(ValueError, match="holds files already"):
        make_pairs(str(folder), tmp_path / "pairs")
    with pytest.raises(ValueError, match="among the pictures"):
        make_pairs(str(folder), folder / "pairs")

"""Groups of similar pictures that stand for classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import limner
from limner.data import open_source, prepare
from limner.recipes.groups import find_groups, grouped


def bars(n: int, channels: int = 3, size: tuple[int, int] = (24, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of two kinds in turn, n in all: a horizontal or a vertical bar, near the middle, of some brightness. -> [N,H,W,C], kind [N]"""
    rng = np.random.default_rng(0)
    pictures, kinds = np.zeros((n, *size, channels), np.uint8), np.arange(n) % 2
    for picture, kind in zip(pictures, kinds, strict=True):
        at = rng.integers(9, 12)
        place = (slice(at, at + 4), slice(None)) if kind else (slice(None), slice(at, at + 4))
        picture[place] = rng.integers(200, 256)
    return pictures, kinds


def groups_of(images: torch.Tensor, count: int) -> torch.Tensor:
    groups, labels = find_groups(images, count)
    assert labels.equal(groups.of(images))
    return labels


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_two_shapes_are_two_groups(channels: int) -> None:
    pictures, kinds = bars(60, channels)
    if channels == 4:
        pictures[..., 3] = 255
    groups = groups_of(torch.from_numpy(pictures).permute(0, 3, 1, 2), 2)
    assert sorted([tuple(set(groups[kinds == kind].tolist())) for kind in (0, 1)]) == [(0,), (1,)]


def test_groups_are_numbered_by_size_and_do_not_depend_on_threads() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (500, 1, 16, 16), np.uint8))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(groups_of(images, 12))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])
    sizes = found[0].bincount().tolist()
    assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0 and len(sizes) <= 12


def test_equal_pictures_make_one_group() -> None:
    assert groups_of(torch.full((20, 3, 8, 8), 7, dtype=torch.uint8), 5).tolist() == [0] * 20


def test_transparent_pixels_have_no_edges() -> None:
    """What a transparent pixel hides is not seen, so it must not decide the group."""
    pictures, kinds = bars(40, 4)
    pictures[..., 3] = 255
    hidden = np.random.default_rng(2).integers(0, 256, pictures.shape, np.uint8)
    clear = pictures[..., :3].sum(-1) == 0
    pictures[clear] = hidden[clear]
    pictures[..., 3] = np.where(clear, 0, 255)
    groups = groups_of(torch.from_numpy(pictures).permute(0, 3, 1, 2), 2)
    assert len(set(groups[kinds == 0].tolist())) == len(set(groups[kinds == 1].tolist())) == 1


def test_the_data_has_the_groups_as_classes() -> None:
    pictures, _ = bars(60)
    plain = prepare(open_source(pictures))
    data = grouped(plain, find_groups(plain.images, 2)[1], 2)
    assert data.classes == ("group 1", "group 2") and data.spec.classes == 2
    assert data.labels is not None and data.labels.bincount().tolist() == [30, 30]
    assert data.fingerprint != plain.fingerprint and plain.labels is None
    assert "groups of similar pictures" in data.notes[-1]
    with pytest.raises(ValueError, match="choose --groups 30 or less"):
        find_groups(plain.images, 31)


def test_the_model_card_says_what_the_classes_are(tmp_path: Path) -> None:
    pictures, _ = bars(60, 1)
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 2, "batch": 8}
    run = limner.train(pictures, out=tmp_path / "run", images=16, changes=small, quiet=True, metric="none", doctor=False)
    card = (run.folder / "README.md").read_text()
    assert "2 groups of similar pictures" in card and "Classes:" not in card

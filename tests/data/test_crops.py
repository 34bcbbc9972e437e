"""Crops of pictures at their own size: which, where and how turned depend on (seed, position) and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.distributed import Ranks
from limner.data import cache as store
from limner.data import open_source
from limner.data.crops import Crops
from limner.data.native import Native, prepare_native

SIZES = [(40, 60), (33, 33), (64, 20), (90, 41)]


def addresses(height: int, width: int, number: int) -> Image.Image:
    """A picture whose every pixel says where it is and of which picture."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([y, x, np.full_like(y, number)], -1))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for i, size in enumerate(SIZES):
        (tmp_path / "set" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        addresses(*size, i).save(tmp_path / "set" / f"{i % 2}" / f"{i}.png")
    return tmp_path / "set"


@pytest.fixture
def native(place: Path) -> Native:
    return prepare_native(open_source(place))


def number(native: Native, row: int) -> int:
    return int(native.picture(row)[0, 0, 2])


def test_pictures_keep_their_size_and_pixels(native: Native, place: Path) -> None:
    assert len(native) == 4 and native.channels == 3 and native.classes == ("0", "1")
    for row, name in enumerate(native.names):
        picture = native.picture(row)
        assert picture.shape[:2] == SIZES[number(native, row)] and str(number(native, row)) in name
        assert (picture == np.asarray(Image.open(place / name))).all() and native.labels[row] == number(native, row) % 2
    assert any("height 33 to 90, width 20 to 60" in note for note in native.notes)


def test_what_is_damaged_turned_gray_clear_or_equal(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    place = tmp_path / "set"
    place.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    noise(20, 30, "L", 1).save(place / "a.png", exif=exif)
    noise(24, 24, "L", 2).save(place / "b.png")
    noise(24, 24, "L", 2).save(place / "c.bmp")
    (place / "d.png").write_bytes((place / "b.png").read_bytes()[:200])
    (place / "e.png").write_bytes(b"nothing")
    native = prepare_native(open_source(place))
    assert native.channels == 1 and native.names == ["a.png", "b.png", "c.bmp"]
    assert native.sizes.tolist() == [[30, 20], [24, 24], [24, 24]]
    assert (native.picture(0)[..., 0] == np.rot90(np.asarray(noise(20, 30, "L", 1)), -1)).all()
    assert native.duplicates == [["b.png", "c.bmp"]]
    assert [name for name, _ in native.bad] == ["d.png", "e.png"] and any("2 pictures could not be used" in n for n in native.notes)
    Image.new("RGBA", (20, 20), (9, 9, 9, 0)).save(place / "clear.png")
    assert (prepare_native(open_source(place), background="red").picture(3) == (255, 0, 0)).all()
    assert prepare_native(open_source(place), channels=4).picture(3)[0, 0].tolist() == [255, 255, 255, 0]


def test_the_cache_gives_the_same_and_big_sets_are_mapped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "0" / "cut.png").write_bytes((place / "0" / "0.png").read_bytes()[:150])
    source = open_source(place)
    fresh = prepare_native(source, cache=False)
    opened: list[int] = []
    counting = replace(source, content=lambda i: (opened.append(i), source.content(i))[1])
    for big, reads in ((store.MAX_MEMORY_BYTES, 1), (store.MAX_MEMORY_BYTES, 0), (1000, 0)):
        monkeypatch.setattr(store, "MAX_MEMORY_BYTES", big)
        opened.clear()
        native = prepare_native(counting)
        assert bool(opened) == bool(reads) and (big > 1000 or isinstance(native.pixels, np.memmap))
        assert native.fingerprint == fresh.fingerprint and native.names == fresh.names and native.bad == fresh.bad
        assert torch.equal(Crops(native, 20).batch(0, 16, 1)["image"], Crops(fresh, 20).batch(0, 16, 1)["image"])
    mapped = prepare_native(counting, cache=False)
    assert isinstance(mapped.pixels, np.memmap) and mapped.fingerprint == fresh.fingerprint
    monkeypatch.setattr(store, "allocate", lambda shape: np.empty(shape, np.uint8))  # as where the disk is full
    with pytest.raises(ValueError, match=r"These pictures need 0\.0 GB decoded, for which .* has no space: free some"):
        prepare_native(source, cache=False)


def windows(native: Native, batch: dict[str, torch.Tensor]) -> list[tuple[int, int, int]]:
    """(row of the picture, top, left) of every crop; each is checked to be that window, turned in one of eight ways."""
    found = []
    rows = {number(native, row): row for row in range(len(native))}
    for crop in batch["image"].permute(0, 2, 3, 1).numpy():
        row, top, left = rows[int(crop[0, 0, 2])], int(crop[..., 0].min()), int(crop[..., 1].min())
        window = native.picture(row)[top : top + crop.shape[0], left : left + crop.shape[1]]
        ways = [np.rot90(w, k) for w in (window, window[:, ::-1]) for k in range(4)]
        assert any(way.shape == crop.shape and (way == crop).all() for way in ways)
        found.append((row, top, left))
    return found


def test_crops_are_windows_of_the_pictures(native: Native) -> None:
    crops = Crops(native, 20)
    assert (len(crops), crops.spec.size, crops.spec.classes) == (4, (20, 20), 2) and not crops.bad
    batch = crops.batch(0, 400, 7)
    assert batch["image"].shape == (400, 3, 20, 20) and batch["image"].is_contiguous(memory_format=torch.channels_last)
    found = windows(native, batch)
    for epoch in range(100):
        assert sorted(row for row, _, _ in found[4 * epoch : 4 * epoch + 4]) == [0, 1, 2, 3]
    assert batch["label"].tolist() == [native.labels[row] for row, _, _ in found]
    for row in range(4):  # every place of the window is met, the outermost ones too
        for axis in (0, 1):
            places = {place[1 + axis] for place in found if place[0] == row}
            last = int(native.sizes[row, axis]) - 20
            assert min(places) >= 0 and max(places) <= last and len(places) > 0.5 * (last + 1)


def test_every_place_is_as_likely(native: Native) -> None:
    square = Crops(native, 20, kept=np.array([row for row in range(4) if number(native, row) == 1]))  # 33x33: 14 x 14 places
    found = np.array(windows(native, square.batch(0, 2800, 0)))[:, 1:]
    counts = np.bincount(found[:, 0] * 14 + found[:, 1], minlength=196)
    assert len(counts) == 196 and ((counts - 2800 / 196) ** 2 / (2800 / 196)).sum() < 260  # chi^2 of 195: p = 0.001 at 262


def test_flips_and_turns_are_even_and_move_no_window(native: Native) -> None:
    plain, flipped, turned = Crops(native, 20), Crops(native, 20, flip=True), Crops(native, 20, flip=True, rotate=True)
    one, two, three = (crops.batch(0, 800, 3) for crops in (plain, flipped, turned))
    assert windows(native, one) == windows(native, two) == windows(native, three)
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(one["image"], two["image"], strict=True)]
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, one["image"], two["image"], strict=True))
    assert 340 < sum(mirrored) < 460
    ways = [0] * 8
    for a, b in zip(one["image"], three["image"], strict=True):
        same = [torch.equal(b, way.flip(2) if m else way) for m in (0, 1) for way in (torch.rot90(a, k, (1, 2)) for k in range(4))]
        assert sum(same) == 1
        ways[same.index(True)] += 1
    assert min(ways) > 65


def test_batches_may_be_cut_anywhere(native: Native) -> None:
    crops = Crops(native, (20, 17), flip=True)
    whole = crops.batch(0, 48, 5)
    for cut in ([48], [1] * 48, [7, 13, 28]):
        starts = np.cumsum([0, *cut[:-1]])
        parts = [crops.batch(int(first), count, 5)["image"] for first, count in zip(starts, cut, strict=True)]
        assert torch.equal(torch.cat(parts), whole["image"])
    ranks = [Ranks(rank, 2).rows(8) for rank in (0, 1)]  # what each of two ranks asks for, iteration by iteration
    shared = [crops.batch(8 * i + rows.start, rows.stop - rows.start, 5)["image"] for i in range(6) for rows in ranks]
    assert torch.equal(torch.cat(shared), whole["image"])
    assert torch.equal(Crops(native, (20, 17), flip=True).batch(31, 17, 5)["image"], whole["image"][31:])  # resumed
    assert not torch.equal(crops.batch(0, 48, 6)["image"], whole["image"])


def test_smaller_pictures_are_left_out_and_listed(native: Native) -> None:
    crops = Crops(native, 32)
    small = next(row for row in range(4) if number(native, row) == 2)
    assert len(crops) == 3 and crops.bad == [(native.names[small], "64x20, smaller than the crop of 32x32")]
    assert small not in {row for row, _, _ in windows(native, crops.batch(0, 30, 0))}
    with pytest.raises(ValueError, match=r"Every picture is smaller than the crop of 64x64: choose one of at most 90x41\."):
        Crops(native, 64)
    with pytest.raises(ValueError, match="cannot be rotated by 90 degrees"):
        Crops(native, (20, 17), rotate=True)


def test_a_validation_split_of_smaller_pictures_is_a_sentence(tmp_path: Path) -> None:
    for name, side in (("train", 40), ("val", 20)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / name / "a.png")
    crops = Crops(prepare_native(open_source(tmp_path)), 32)
    with pytest.raises(ValueError, match=r"Every picture of the validation split is smaller than the crop of 32x32"):
        crops.own_validation()

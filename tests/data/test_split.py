"""What is held out for validation, of every kind of data: by picture, by pair, never a copy's original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.data import Dataset, open_source, prepare
from limner.data.batches import Splittable
from limner.data.crops import Crops
from limner.data.dataset import Subset
from limner.data.degrade import Degraded, GaussianNoise
from limner.data.native import prepare_native
from limner.data.pairs import Pairs, prepare_pairs
from limner.data.split import group_numbers, split


def numbered(count: int, labels: np.ndarray | None = None) -> Dataset:
    """`count` different pictures: the number of each stands in its first two pixels."""
    pictures = np.zeros((count, 16, 16, 1), np.uint8)
    pictures[:, 0, 0, 0], pictures[:, 0, 1, 0] = np.arange(count) % 256, np.arange(count) // 256
    return prepare(open_source((pictures, labels) if labels is not None else pictures))


def numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() + 256 * images[:, 0, 0, 1].int()).tolist()


@pytest.mark.parametrize(("count", "held_out"), [(15, 0), (16, 2), (59, 2), (100, 5), (6_000, 256)])
def test_one_in_twenty_is_held_out(count: int, held_out: int) -> None:
    data = numbered(count)
    train, held = split(data, 0)
    assert len(train) == count - held_out and (len(held) if held else 0) == held_out
    if held is None:
        assert train is data
        return
    assert sorted(numbers(train.images) + numbers(held.images)) == list(range(count))
    assert isinstance(train, Subset) and train.dataset is data  # a view
    again, other = split(data, 0)[1], split(data, 1)[1]
    assert again and other and again.names == held.names and other.names != held.names


def test_no_class_loses_its_last_picture() -> None:
    data = numbered(23, np.array([0] * 20 + [1, 2, 3]))
    for seed in range(20):
        train, held = split(data, seed)
        assert held is not None and len(held) == 2
        assert set(train.batch(0, len(train), 0)["label"].tolist()) == {0, 1, 2, 3}
    each = numbered(17, np.arange(17))
    assert split(each, 0) == (each, None)


def test_copies_of_a_picture_are_on_its_side() -> None:
    """60 different pictures, of which 20 lie there twice, and 30 copies of another."""
    values = np.r_[np.arange(60), np.arange(20), np.full(30, 60)]
    pictures = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (110, 16, 16, 1))
    data, twice = prepare(open_source(np.ascontiguousarray(pictures))), 0
    for seed in range(30):
        train, held = split(data, seed)
        assert held is not None
        inside, outside = ({int(v) for v in side.images[:, 0, 0, 0]} for side in (train, held))
        assert not inside & outside and inside | outside == set(range(61)) and 60 in inside
        assert len(outside) == 3  # one in twenty of 61
        assert len(train) + len(held) == 110
        twice += len(held) > len(outside)
    assert twice


def test_what_is_equal_by_way_of_another_is_one_group() -> None:
    groups = group_numbers(list("abcdef"), [["a", "b"], ["e", "b"], ["c", "gone"]])
    assert groups[0] == groups[1] == groups[4] and len(set(groups.tolist())) == 4


@pytest.fixture
def sides(tmp_path: Path, noise: Callable[..., Image.Image]) -> tuple[Path, Path]:
    """40 pairs: the second is the first upside down. Pairs 0 and 1 share their second picture."""
    for i in range(40):
        picture = np.asarray(noise(16, 16, "L", seed=i))
        for side, array in (("a", picture), ("b", 255 - np.asarray(noise(16, 16, "L", seed=0)) if i == 1 else 255 - picture)):
            path = tmp_path / side / f"{i:02d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "a", tmp_path / "b"


def test_pairs_are_held_out_as_pairs(sides: tuple[Path, Path]) -> None:
    pairs, shared = prepare_pairs(*sides, paired=True), 0
    for seed in range(60):
        train, held = split(pairs, seed)
        assert held is not None and isinstance(held, Pairs) and (len(train), len(held)) in ((38, 2), (37, 3))
        assert not set(train.names) & set(held.names) and train.a.names == train.b.names
        shared += "00.png" in held.names
        for part in (train, held):
            assert ("00.png" in part.names) == ("01.png" in part.names)  # an equal side makes them one
            batch = part.batch(5, 7, seed)
            same = [n not in ("01.png",) for n in np.array(part.names)[part.a._order.positions(5, 7, seed)]]
            assert torch.equal(batch["a"][same], 255 - batch["b"][same])
    assert shared


def test_sets_without_pairs_are_split_each(sides: tuple[Path, Path]) -> None:
    for i in range(20, 40):
        (sides[1] / f"{i}.png").unlink()
    train, held = split(prepare_pairs(*sides, paired=False), 3)
    assert held is not None and (len(train.a), len(train.b), len(held.a), len(held.b)) == (38, 18, 2, 2)
    assert held.batch(0, 4, 0)["b"].shape == (4, 1, 16, 16)
    for i in range(10, 20):
        (sides[1] / f"{i}.png").unlink()
    few = prepare_pairs(*sides, paired=False)
    assert split(few, 3) == (few, None)


def nested(tmp_path: Path, noise: Callable[..., Image.Image], folders: dict[str, int], width: int = 16) -> Path:
    for k, (folder, count) in enumerate(folders.items()):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for i in range(count):
            noise(16, width, "L", seed=100 * k + i).save(tmp_path / "set" / folder / f"{i}.png")
    return tmp_path / "set"


def test_a_split_of_its_own_is_taken_as_it_is(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    data = prepare(open_source(nested(tmp_path, noise, {"train": 30, "val": 4, "test": 5})))
    train, held = split(data, 0)
    assert train is data and held is not None and held.names == [f"val/{i}.png" for i in range(4)] and held.spec == data.spec


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_come_with_a_split_of_their_own(paired: bool, tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    place = nested(tmp_path, noise, {"trainA": 6, "trainB": 6, "testA": 3, "testB": 3, "valA": 2, "valB": 2})
    pairs = prepare_pairs(place, paired=paired)
    train, held = split(pairs, 0)
    assert train is pairs and held is not None and (len(held), held.paired) == (2, paired)
    assert held.a.names == held.b.names == ["0.png", "1.png"]
    assert held.a.images[0, 0].tolist() == np.asarray(Image.open(place / "valA/0.png")).tolist()
    assert held.b.images[1, 0].tolist() == np.asarray(Image.open(place / "valB/1.png")).tolist()
    turned = split(prepare_pairs(place, paired=paired, swap=True), 0)[1]
    assert turned is not None and torch.equal(turned.a.images, held.b.images)


def test_two_sided_pictures_come_with_a_split_of_their_own(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    place = nested(tmp_path, noise, {"train": 5, "val": 3}, width=32)
    (place / "val" / "2.png").write_bytes(b"nothing")
    train, held = split(prepare_pairs(place, paired=True), 0)
    whole = np.asarray(Image.open(place / "val/0.png"))
    assert len(train) == 5 and held is not None and held.names == ["val/0.png", "val/1.png"]
    assert held.a.images[0, 0].tolist() == whole[:, :16].tolist() and held.b.images[0, 0].tolist() == whole[:, 16:].tolist()
    assert [name for name, _ in held.bad] == ["val/2.png"]


def test_two_places_come_with_a_split_of_their_own(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    a = nested(tmp_path / "a", noise, {"train": 3, "val": 3})
    b = nested(tmp_path / "b", noise, {"train": 3, "val": 3})
    (b / "val/1.png").unlink()
    held = split(prepare_pairs(a, b, paired=True), 0)[1]
    assert held is not None and held.names == held.b.names == ["val/0.png", "val/2.png"]
    for i in (0, 2):
        (b / f"val/{i}.png").rename(b / f"val/other{i}.png")
    pairs = prepare_pairs(a, b, paired=True)
    assert split(pairs, 0) == (pairs, None) and any("The held-out split is not used: No file" in note for note in pairs.notes)


def test_crops_and_degraded_pictures_are_held_out_by_picture(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    place = nested(tmp_path, noise, {"one": 20, "two": 20}, width=40)
    Image.open(place / "one/0.png").save(place / "two/0.png")
    native = prepare_native(open_source(place))
    for kind in (Crops(native, 16), Degraded(Crops(native, 16), GaussianNoise(5))):
        data: Splittable = kind
        for seed in range(10):
            train, held = split(data, seed)
            assert type(train) is type(data) and held is not None and len(train) + len(held) == 40
            assert not set(train.names) & set(held.names)
            assert ("one/0.png" in train.names) == ("two/0.png" in train.names)
            assert train.labels.tolist() == [int(name.startswith("two")) for name in train.names]
    parted = prepare_native(open_source(nested(tmp_path / "parted", noise, {"train": 3, "val": 2}, width=40)))
    own = split(Degraded(Crops(parted, 16), GaussianNoise(5)), 0)[1]
    assert own is not None and own.names == ["val/0.png", "val/1.png"] and own.batch(0, 2, 0)["target"].shape == (2, 1, 16, 16)

"""Sets of which only some pictures have a class: where the classes come from, and batches of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.condition import UNLABELED, class_counts
from limner.data import Dataset, open_source, prepare
from limner.data.partial import PartlyLabeled, draw_labels, split_labeled

Noise = Callable[..., Image.Image]


@pytest.fixture
def pictures(tmp_path: Path, noise: Noise) -> Path:
    """Twelve PNGs of 16x16."""
    place = tmp_path / "pictures"
    place.mkdir()
    for i in range(12):
        noise(16, 16, seed=i).save(place / f"{i:02}.png")
    return place


def table(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "few.csv"
    path.write_text("file,label\n" + "\n".join(lines) + "\n")
    return path


def classes_of(dataset: Dataset) -> dict[str, str]:
    assert dataset.labels is not None
    names = [*dataset.classes, "-"]  # UNLABELED is the last
    return {name: names[k] for name, k in zip(dataset.names, dataset.labels.tolist(), strict=True)}


# ---- where the classes come from -------------------------------------------------------------------------------------


def test_table_labels_some_pictures(pictures: Path, tmp_path: Path) -> None:
    few = table(tmp_path, "03.png,dog", "04.png,dog", "05.png,cat", "00.png,cat", "99.png,cat")
    dataset = prepare(open_source(pictures, few, partial=True))
    assert len(dataset) == 12 and dataset.classes == ("cat", "dog")
    assert {k: v for k, v in classes_of(dataset).items() if v != "-"} == {"00.png": "cat", "03.png": "dog", "04.png": "dog", "05.png": "cat"}
    assert class_counts(dataset.labels, 2) == [2, 2]
    assert any("labels 1 file that is not here, such as 99.png" in note for note in dataset.notes)
    whole = prepare(open_source(pictures, few))  # other recipes leave out pictures without a class
    assert whole.names == ["00.png", "03.png", "04.png", "05.png"] and len(whole.bad) == 8


def test_each_labeled_picture_may_have_a_class_of_its_own(pictures: Path, tmp_path: Path) -> None:
    few = table(tmp_path, "03.png,dog", "05.png,cat")
    assert prepare(open_source(pictures, few, partial=True)).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="nearly as many labels as pictures"):
        open_source(pictures, few)


def test_table_of_unknown_files_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"few\.csv labels none of the pictures"):
        open_source(pictures, table(tmp_path, "a.png,dog", "b.png,cat"), partial=True)


@pytest.mark.parametrize("where", ["unlabeled/", "Unlabelled/", ""])
def test_folders_are_classes_and_one_is_unlabeled(where: str, tmp_path: Path, noise: Noise) -> None:
    for i, folder in enumerate(["cat/", "cat/", "dog/", "dog/", where, where, where]):
        (tmp_path / folder).mkdir(exist_ok=True)
        noise(16, 16, seed=i).save(tmp_path / folder / f"{i}.png")
    dataset = prepare(open_source(tmp_path, partial=True))
    assert dataset.classes == ("cat", "dog")
    assert sorted(classes_of(dataset).values()) == ["-", "-", "-", "cat", "cat", "dog", "dog"]
    plain = prepare(open_source(tmp_path))
    assert plain.classes == (() if not where else tuple(sorted({"cat", "dog", where[:-1]}, key=str.lower)))


def test_held_out_split_keeps_labeled_pictures_only(tmp_path: Path, noise: Noise) -> None:
    for i, folder in enumerate(["train/a", "train/b", "train/unlabeled", "val/a", "val/b", "val/unlabeled"]):
        (tmp_path / folder).mkdir(parents=True)
        noise(16, 16, seed=i).save(tmp_path / folder / f"{i}.png")
    dataset = prepare(open_source(tmp_path, partial=True))
    held = dataset.own_validation()
    assert classes_of(dataset) == {"train/a/0.png": "a", "train/b/1.png": "b", "train/unlabeled/2.png": "-"}
    assert held is not None and classes_of(held) == {"val/a/3.png": "a", "val/b/4.png": "b"}


def test_unlabeled_pictures_may_lie_beside_the_splits(tmp_path: Path, noise: Noise) -> None:
    for i, folder in enumerate(["test/a", "test/b", "train/a", "train/b", "unlabeled"]):  # as STL-10 has them
        (tmp_path / folder).mkdir(parents=True)
        noise(16, 16, seed=i).save(tmp_path / folder / f"{i}.png")
    dataset = prepare(open_source(tmp_path, partial=True))
    held = dataset.own_validation()
    assert classes_of(dataset) == {"train/a/2.png": "a", "train/b/3.png": "b", "unlabeled/4.png": "-"}
    assert held is not None and classes_of(held) == {"test/a/0.png": "a", "test/b/1.png": "b"}
    assert sorted(prepare(open_source(tmp_path)).classes) == ["test", "train", "unlabeled"]


def test_arrays_take_minus_one_or_a_table_of_numbers(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    labels = np.array([-1, 4, 4, -1, 2, -1])
    assert prepare(open_source((images, labels), partial=True)).labels.tolist() == [-1, 1, 1, -1, 0, -1]  # type: ignore[union-attr]
    assert prepare(open_source((images, np.array(["", "b", "a", "", "a", ""])), partial=True)).classes == ("a", "b")
    np.savez(tmp_path / "x.npz", images=images)
    few = table(tmp_path, "1,four", "4,two")
    dataset = prepare(open_source(tmp_path / "x.npz", few, partial=True))
    assert dataset.classes == ("four", "two") and dataset.labels.tolist() == [-1, 0, -1, -1, 1, -1]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="named by its number, 0 to 5"):
        open_source(tmp_path / "x.npz", table(tmp_path, "x.png,four"), partial=True)
    with pytest.raises(ValueError, match="is not an array"):
        open_source(tmp_path / "x.npz", few)


def test_drop_duplicates_keeps_the_picture_with_a_class(tmp_path: Path, noise: Noise) -> None:
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1), ("d.png", 2)):
        noise(16, 16, seed=seed).save(tmp_path / name)
    few = table(tmp_path, "b.png,one", "d.png,two")
    dataset = prepare(open_source(tmp_path, few, partial=True), drop_duplicates=True)
    assert classes_of(dataset) == {"b.png": "one", "c.png": "-", "d.png": "two"}


# ---- batches ---------------------------------------------------------------------------------------------------------


def numbered(n: int = 40, labeled: int = 6) -> Dataset:
    """n pictures whose first pixel is their number; the first `labeled` have the classes 0, 1, 2 in turn."""
    images = np.zeros((n, 16, 16), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) % 256, np.arange(n) // 256
    labels = np.where(np.arange(n) < labeled, np.arange(n) % 3, UNLABELED)
    return prepare(open_source((images, labels), partial=True))


def test_batches_do_not_depend_on_where_they_are_cut() -> None:
    data = PartlyLabeled(numbered(), 4)
    whole = data.batch(0, 120, 7)
    for cuts in ([(0, 50), (50, 70)], [(i, 3) for i in range(0, 120, 3)], [(0, 1), (1, 118), (119, 1)]):
        parts = [data.batch(first, count, 7) for first, count in cuts]
        for name, tensor in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), tensor)
    assert not torch.equal(data.batch(0, 120, 8)["image"], whole["image"])


def test_batches_hold_labeled_rows_at_every_fourth_position() -> None:
    batch = PartlyLabeled(numbered(), 4).batch(0, 160, 7)
    numbers, labels = batch["image"][:, 0, 0, 0].numpy(), batch["label"].numpy()
    given = np.arange(160) % 4 == 0
    assert (labels[~given] == UNLABELED).all() and (labels[given] == numbers[given] % 3).all()
    assert np.bincount(numbers[given][:36]).tolist() == [6] * 6  # each labeled picture equally often
    assert set(numbers[~given][:40]) == set(range(40))  # an epoch of all pictures


def test_every_row_is_labeled_where_labels_stand_alone() -> None:
    data = PartlyLabeled(numbered(), 1)
    assert len(data) == 6 and (data.batch(3, 50, 0)["label"] >= 0).all()


# ---- draws and held-out pictures -------------------------------------------------------------------------------------


def test_draw_takes_as_many_of_each_class() -> None:
    labels = torch.arange(300) % 3
    one, two = draw_labels(labels, 4, 0), draw_labels(labels, 4, 1)
    assert class_counts(one, 3) == class_counts(two, 3) == [4, 4, 4] and not torch.equal(one, two)
    assert torch.equal(one, draw_labels(labels, 4, 0)) and (labels[one >= 0] == one[one >= 0]).all()
    with pytest.raises(ValueError, match="choose --labels-per-class 100 or less"):
        draw_labels(labels, 101, 0)


def test_held_out_pictures_are_labeled_and_all_classes_stay() -> None:
    data = numbered(400, labeled=90)
    assert len(split_labeled(data, None, 0, 50)[1]) == 0  # a tenth of 90 is too few to measure by
    training, held = split_labeled(data, 0.2, 0, 50)
    assert len(held) == 18 and len(training) == 382 and not set(held) & set(training)
    assert data.labels is not None and class_counts(data.labels[torch.from_numpy(held)], 3) == [6, 6, 6]
    assert len(split_labeled(numbered(600, labeled=540), None, 0, 50)[1]) == 54
    assert len(split_labeled(numbered(40, labeled=3), 0.9, 0, 50)[1]) == 0  # the only picture of a class is trained on

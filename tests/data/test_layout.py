"""How folders and zips are arranged: splits, class folders, loose and damaged pictures beside them, and what is said."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data import Dataset, open_source, prepare, prepare_validation
from limner.data.layout import common_folder, top_folders


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., list[Path]]:
    """Names to a folder of pictures and a zip of the same, each picture of another brightness."""

    def make(*names: str) -> list[Path]:
        root = tmp_path / "set"
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for i, name in enumerate(names):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (16, 16), 10 + i).save(path)
                archive.write(path, name)
        return [root, tmp_path / "set.zip"]

    return make


SPLIT = [f"{split}/{digit}/{i}.png" for split, count in (("train", 3), ("test", 2)) for digit in "02" for i in range(count)]


def labeled(data: Dataset) -> dict[str, str]:
    assert data.labels is not None
    return {name: data.classes[k] for name, k in zip(data.names, data.labels.tolist(), strict=True)}


def test_splits_of_classes_are_told_from_classes(tree: Callable[..., list[Path]]) -> None:
    for place in tree(*SPLIT):
        source = open_source(place)
        assert source.notes[0] == (
            "2 splits of 2 classes: training on train (6 pictures), validating on test (4 pictures); "
            "--classes-from parent trains on all."
        )
        data = prepare(source)
        assert labeled(data) == {name: name.split("/")[1] for name in SPLIT if name.startswith("train")}
        held = prepare_validation(data)
        assert held is not None and held.spec == data.spec and held.classes == ("0", "2")
        assert labeled(held) == {name: name.split("/")[1] for name in SPLIT if name.startswith("test")}
        both = {int(v) for one in (data, held) for v in one.images[:, 0, 0, 0]}
        assert both == set(range(10, 20)), "every picture is in one of them, with its own pixels"
        assert prepare_validation(prepare(open_source(place, splits=False))) is None


@pytest.mark.parametrize(
    ("names", "note", "train", "held"),
    [
        (["Training/a.png", "Testing/b.png"], "2 splits: training on Training (1 picture), validating on Testing", 1, 1),
        (["w/x/train/a.png", "w/x/valid/b.png", "w/x/test/c.png"], "test (1 picture) left out", 1, 1),
        (["train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/cow/d.png"], "a class that is not trained on", 2, 1),
    ],
)
def test_other_names_of_splits(
    names: list[str], note: str, train: int, held: int, tree: Callable[..., list[Path]]
) -> None:
    for place in tree(*names):
        source = open_source(place)
        assert note in " ".join(source.notes)
        assert len(source) == train and source.validation is not None and len(source.validation) == held


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["train/a.png", "car/b.png"], ("car", "train")),  # vehicles
        (["test/a.png", "val/b.png"], ("test", "val")),    # nothing to train on otherwise
        (["train/cat/a.png", "train/dog/a.png"], ("cat", "dog")),
    ],
)
def test_what_is_no_split(names: list[str], classes: tuple[str, ...], tree: Callable[..., list[Path]]) -> None:
    for place in tree(*names):
        source = open_source(place)
        assert source.classes == classes and source.validation is None and not source.notes


def test_a_person_says_where_classes_come_from(tree: Callable[..., list[Path]]) -> None:
    for place in tree(*SPLIT):
        parent, top = open_source(place, classes_from="parent"), open_source(place, classes_from="top")
        assert parent.classes == ("0", "2") and len(parent) == 10 and parent.validation is None
        assert top.classes == ("test", "train") and len(top) == 10 and "outermost" in top.notes[0]
        with pytest.raises(ValueError, match="is unknown: choose auto, parent, top"):
            open_source(place, classes_from="middle")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="leave one out"):
            open_source(place, place, classes_from="top")
    with pytest.raises(ValueError, match="holds no folders"):
        open_source("sample:fashion", classes_from="top")


@pytest.mark.parametrize(("names", "said"), [(["a/1.png", "2.png"], "2.png lies in no folder"), (["a/1.png"], "all pictures lie in one, a")])
def test_folders_that_give_no_classes_are_refused_where_they_were_asked_for(
    names: list[str], said: str, tree: Callable[..., list[Path]]
) -> None:
    for place in tree(*names):
        with pytest.raises(ValueError, match=said):
            open_source(place, classes_from="parent")


def test_loose_damaged_files_cancel_neither_classes_nor_splits(tree: Callable[..., list[Path]]) -> None:
    root, packed = tree("cat/1.png", "dog/2.png")
    Image.effect_noise((64, 64), 50).save(root / "cut.png")
    cut = (root / "cut.png").read_bytes()[:300]
    (root / "loose.png").write_bytes(b"no picture"), (root / "cut.png").write_bytes(cut)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("loose.png", b"no picture"), archive.writestr("cut.png", cut)
    for place in (root, packed):
        source = open_source(place)
        assert source.classes == ("cat", "dog") and len(source) == 2 and not source.notes
        assert dict(source.bad).keys() == {"loose.png", "cut.png"}
    Image.new("L", (16, 16)).save(root / "good.png")
    assert not open_source(root).classes and "not used as classes" in open_source(root).notes[0]


def test_a_table_and_splits_go_together(tree: Callable[..., list[Path]]) -> None:
    root, _ = tree(*[f"{split}/{i}.png" for split in ("train", "test") for i in range(4)])
    (root / "labels.csv").write_text(
        "file,label\n" + "".join(f"{split}/{i}.png,{'ab'[i % 2]}\n" for split in ("train", "test") for i in range(4))
    )
    source = open_source(root)
    assert source.classes == ("a", "b") and source.validation is not None and len(source.validation) == 4
    assert source.notes[0].startswith("2 splits of 2 classes") and source.notes[1] == "Classes come from labels.csv."


def test_a_changed_held_out_picture_is_another_validation_and_the_same_training(tree: Callable[..., list[Path]]) -> None:
    root, _ = tree(*SPLIT)
    before = open_source(root)
    Image.new("L", (16, 16), 200).save(root / "test/0/0.png")
    after = open_source(root)
    assert before.fingerprint() == after.fingerprint() and before.validation.fingerprint() != after.validation.fingerprint()


def test_common_folders() -> None:
    assert common_folder(["a/b/1.png", "a/b/c/2.png"]) == "a/b/" and common_folder(["a/1.png", "ab/2.png"]) == ""
    assert common_folder(["a.png"]) == common_folder([]) == ""
    assert top_folders(["x/cat/1.png", "x/dog/deep/2.png", "x/3.png"]) == ["cat", "dog", ""]


# ---- what stands in the way ------------------------------------------------------------------------------------------


def test_folders_nested_deeper_than_recursion_goes(tmp_path: Path) -> None:
    def inside(*steps: str) -> None:
        here = Path.cwd()
        try:
            os.chdir(tmp_path)
            for step in steps:  # one at a time: no system call takes the whole path
                Path(step).mkdir(exist_ok=True)
                os.chdir(step)
            Image.new("L", (16, 16)).save("a.png")
        finally:
            os.chdir(here)

    try:
        inside(*"d" * 1500)
        assert open_source(tmp_path).names == ["d/" * 1500 + "a.png"]
        inside(*"d" * 1500, *["e" * 200] * 20)
        source = open_source(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # what pytest and shutil cannot
    assert len(source) == 1 and "File name too long" in source.bad[0][1]


def test_pipes_devices_and_links_to_them_are_no_pictures(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    source = open_source(tmp_path)
    assert source.names == ["a.png"] and dict(source.bad) == dict.fromkeys(
        ("pipe.png", "zero.png"), "a pipe or a device, not a file"
    )
    for place in ("/dev/zero", tmp_path / "pipe.png", tmp_path / "zero.png"):
        with pytest.raises(ValueError, match="is a pipe or a device, not a file"):
            open_source(place)
        with pytest.raises(ValueError, match="does not exist, or is not a file"):
            open_source(tmp_path, Path(place))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("~nobody-of-this-name/x", "there is no user of that name"),
        ("x" * 5000, "file name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_paths_that_cannot_be_reached_are_a_sentence(place: str, said: str, folder: Path) -> None:
    for call in (lambda: open_source(place), lambda: open_source(folder, Path(place))):
        with pytest.raises(ValueError, match=f"{said}|labels file a.x00b does not exist") as caught:
            call()
        assert len(str(caught.value)) < 400


def test_a_huge_file_of_labels_is_refused_unread(folder: Path) -> None:
    with (folder / "labels.csv").open("wb") as file:
        file.truncate(1 << 40)
    source = open_source(folder)
    assert len(source) == 5 and "is too large" in source.notes[0]
    with pytest.raises(ValueError, match="is too large"):
        open_source(folder, folder / "labels.csv")


def test_names_reach_the_terminal_without_escape_sequences(tmp_path: Path) -> None:
    evil, turned, plain = "\x1b]0;own\x07ed", "a\u202egnp.exe", "عکس\u200cها"
    for name in (evil, turned, plain):
        (tmp_path / name).mkdir()
        for copy in range(2):
            Image.new("L", (16, 16)).save(tmp_path / name / f"{name}{copy}.png")
    (tmp_path / f"{evil}.heic").write_bytes(b"x")
    source = open_source(tmp_path)
    assert source.classes == ("\\x1b]0;own\\x07ed", "a\\u202egnp.exe", plain)
    assert source.bad[0][0] == "\\x1b]0;own\\x07ed.heic" and source.read(0).size == (16, 16)
    lines = [f"{name}{copy}.png,{label}\n" for name, label in ((evil, "\x1b[31m"), (turned, "b")) for copy in range(2)]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(lines))
    assert open_source(tmp_path).classes == ("\\x1b[31m", "b")
    packed = tmp_path / "x.npz"
    np.savez(packed, images=np.zeros((2, 16, 16), np.uint8), labels=np.array(["\x1b[2J", "b"]))
    assert open_source(packed).classes == ("\\x1b[2J", "b")


def test_classes_that_hold_the_splits_are_told(tree: Callable[..., list[Path]]) -> None:
    names = [f"{kind}/{split}/{i}.png" for kind in ("cat", "dog") for split, count in (("train", 3), ("test", 2)) for i in range(count)]
    for place in tree(*names):
        source = open_source(place)
        assert source.notes[0] == (
            "2 splits of 2 classes: training on train (6 pictures), validating on test (4 pictures); "
            "--classes-from top trains on all."
        )
        data = prepare(source)
        assert labeled(data) == {name: name.split("/")[0] for name in names if "/train/" in name}
        held = prepare_validation(data)
        assert held is not None and labeled(held) == {name: name.split("/")[0] for name in names if "/test/" in name}
        everything = prepare(open_source(place, classes_from="top"))
        assert labeled(everything) == {name: name.split("/")[0] for name in names}

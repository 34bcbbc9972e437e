"""Folders and zips as people have them: names, nesting, labels, litter and damage."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data import open_source, prepare
from limner.data.labels import match_labels, natural_key, read_labels
from limner.training.run import write_decisions


def put(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_names_nesting_and_litter(tmp_path: Path, noise) -> None:
    for name in ("ä ö.png", "with space/Täst 1.PNG", "with space/deep/er/x.JPG", "日本/猫.webp"):
        put(tmp_path / name, noise())
    for name in (".hidden.png", "__MACOSX/a.png", "Thumbs.db", ".git/b.png", "with space/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    put(tmp_path / "without.png", noise())
    (tmp_path / "without.png").rename(tmp_path / "without")
    source = open_source(tmp_path)
    assert sorted(source.names) == sorted(
        ["ä ö.png", "with space/Täst 1.PNG", "with space/deep/er/x.JPG", "日本/猫.webp", "without"]
    )
    assert source.others == {".txt": 1, ".mp4": 1} and not source.bad
    assert source.read(0).size == (32, 32)
    assert len(prepare(source)) == 5


def test_names_that_are_not_utf8_can_be_stored(tmp_path: Path, noise) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        root.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    for name in (b"th\xe9/a.png", b"th\xe8/b.png", b"th\xe8/c.png", b"th\xe8/d.png"):
        put(root / os.fsdecode(name), noise())
    (root / os.fsdecode(b"x.\xe9")).touch()
    table = root.with_name(os.fsdecode(b"\xe9.csv"))
    table.write_text("file,label\na.png,x\nb.png,y\nc.png,y\nd.png,y\n")
    packed, array = root.with_suffix(".zip"), root.with_suffix(".npy")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", png(noise()))
    np.save(array, np.zeros((2, 16, 16), np.uint8))
    data = prepare(open_source(root))
    assert data.classes == ("th\\xe8", "th\\xe9") and open_source(root).others
    for source in (open_source(root), open_source(root, table), open_source(packed), open_source(array)):
        for text in (source.origin, source.name, *source.names, *source.classes, *source.notes, *source.others):
            text.encode()


def test_link_loops_and_broken_links(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    source = open_source(folder)
    assert len(source) == 5 and source.bad == [("gone.png", "a link to nothing")]


def test_runs_among_the_pictures_are_no_data(folder: Path, noise) -> None:
    before = open_source(folder).fingerprint()
    run = folder / "runs" / "first"
    put(run / "samples" / "1.png", noise())
    put(run / "preview.png", noise())
    write_decisions(run, {}, {})
    put(folder / "copied" / "preview.png", noise())
    (folder / "copied" / "limner.json").write_text("{}")
    source = open_source(folder)
    assert source.fingerprint() == before and source.notes[-1].endswith("skipped: copied, runs/first.")
    with pytest.raises(ValueError, match="is a run, not a set of pictures"):
        open_source(folder / "copied")


def test_subfolders_are_classes(tmp_path: Path, noise) -> None:
    for name in ("2/a.png", "10/b.png", "10/deep/c.png"):
        put(tmp_path / name, noise())
    data = prepare(open_source(tmp_path))
    assert data.classes == ("2", "10") and data.spec.classes == 2
    assert dict(zip(data.names, data.labels.tolist(), strict=True)) == {"2/a.png": 0, "10/b.png": 1, "10/deep/c.png": 1}
    put(tmp_path / "loose.png", noise())
    mixed = open_source(tmp_path)
    assert mixed.classes == () and mixed.labels is None and "not used as classes" in mixed.notes[0]


def test_classes_below_a_lone_folder_as_in_a_zip(tmp_path: Path, noise) -> None:
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("train/cat/1.png", "train/dog/1.png"):
            put(tmp_path / "set" / name, noise())
            archive.write(tmp_path / "set" / name, name)
    for data in (tmp_path / "set", tmp_path, packed):
        assert open_source(data).classes == ("cat", "dog")


def test_one_subfolder_is_no_class(tmp_path: Path, noise) -> None:
    put(tmp_path / "all/a.png", noise())
    assert open_source(tmp_path).classes == ()


def test_labels_from_files(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\n0.png,cat\n1,dog\n2.png,cat\n3.png,cat\n")
    source = open_source(folder)
    assert source.classes == ("cat", "dog") and source.labels.tolist() == [0, 1, 0, 0]
    assert source.bad == [("4.png", "no label in labels.csv")]
    given = folder.parent / "mine.json"
    given.write_text(json.dumps({"labels": [[f"{i}.png", i % 2] for i in range(5)]}))
    source = open_source(folder, given)
    assert source.classes == ("0", "1") and source.labels.tolist() == [0, 1, 0, 1, 0]
    given.write_text("{}")
    with pytest.raises(ValueError, match="labels none of the pictures"):
        open_source(folder, given)
    given.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        open_source(folder, given)
    with pytest.raises(ValueError, match="does not exist"):
        open_source(folder, folder / "none.csv")


@pytest.mark.parametrize("name, content", [("labels.csv", "file,label\n0.png,cat\n1.png,dog\n2.png,cat\n"), ("labels.json", "{")])
def test_labels_that_nobody_asks_for_cost_no_picture(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    packed = folder.parent / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    for place in (folder, packed):
        source = open_source(place, labels=False)
        assert len(source) == 5 and source.labels is None and not (source.classes or source.bad or source.notes)


def test_a_table_of_one_class_costs_no_picture(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\n0.png,cat\n1.png,cat\n2.png,cat\n")
    source = open_source(folder)
    assert len(source) == 5 and not source.classes and not source.bad and "single class" in source.notes[0]


@pytest.mark.parametrize("name, content, words", [
    ("metadata.csv", b"id,artist,year\n1,Ada,1999\n", "needs the columns file and label"),
    ("dataset.json", b'{"version": {}}', "should hold"),
    ("labels.json", b"{", "not valid JSON"),
    ("labels.csv", "file,label\n".encode("utf-16"), "save it as CSV in UTF-8"),
])
def test_a_table_that_merely_lies_there_is_passed_over(tmp_path: Path, noise, name: str, content: bytes, words: str) -> None:
    for place in ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"):
        put(tmp_path / place, noise())
    (tmp_path / name).write_bytes(content)
    packed = tmp_path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for path in tmp_path.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    for data in (tmp_path, packed):
        source = open_source(data)
        assert source.classes == ("cat", "dog") and words in source.notes[0] and "is not used" in source.notes[0]
        with pytest.raises(ValueError, match=words):
            open_source(data, tmp_path / name)


def test_the_column_beside_the_files_is_the_label_of_a_table_that_was_named(folder: Path) -> None:
    table = folder / "metadata.csv"
    table.write_text("breed,image\n" + "".join(f"{'ab'[i % 2]},{i}.png\n" for i in range(5)))
    assert open_source(folder, table).classes == ("a", "b") and not open_source(folder).classes


def test_captions_are_no_classes(folder: Path) -> None:
    lines = "".join(f"{i}.png,a picture number {i}\n" for i in range(5))
    (folder / "labels.csv").write_text("file,label\n" + lines)
    source = open_source(folder)
    assert not source.classes and "nearly as many labels" in source.notes[0]
    (folder / "labels.csv").unlink()
    (folder / "metadata.csv").write_text("file_name,text\n" + lines)
    assert not open_source(folder).classes


def test_label_tables() -> None:
    assert read_labels(b"\xef\xbb\xbffilename;class\na.png;x\n", "l.csv") == {"a.png": "x"}
    assert read_labels(b"a.png\t1\nb.png\t2\n", "l.csv") == {"a.png": "1", "b.png": "2"}
    assert read_labels(b"file,label\ra.png,1\rb.png,2\r", "l.csv") == {"a.png": "1", "b.png": "2"}
    with pytest.raises(ValueError, match=r"l\.csv cannot be read as a table"):
        read_labels(b"file,label\na.png," + b"x" * 200_000, "l.csv")
    assert read_labels(b'{"labels": null}', "dataset.json") == {}
    with pytest.raises(ValueError, match="needs the columns file and label"):
        read_labels(b"a,b,c\n1,2,3\n", "l.csv")
    assert match_labels(["x/a.png", "y/a.png"], {"x/a.png": "1", "y/a.png": "2"}) == ["1", "2"]
    assert match_labels(["z/a.png"], {"x/a.png": "1", "y/a.png": "2"}) == [None]
    assert match_labels(["x/a.png", "y/a.png", "z/a.png"], {"x/a.png": "1"}) == ["1", None, None]  # of x alone
    assert match_labels(["x/a.png", "y/b.png"], {"a.png": "1", "b": "2"}) == ["1", "2"]
    assert sorted(["10", "2", "a"], key=natural_key) == ["2", "10", "a"]
    assert sorted(["①", "10", "2"], key=natural_key) == ["2", "10", "①"]


def test_damage_is_reported_and_skipped(folder: Path, noise) -> None:
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("hello, this is no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "phone.HEIC").write_bytes(b"\0" * 30)
    (folder / "drawing.svg").write_text("<svg/>")
    data = prepare(open_source(folder))
    assert len(data) == 5
    assert dict(data.bad) == {
        "empty.png": "empty file", "text.jpg": "not a picture, despite its name",
        "cut.png": "truncated: the file ends too early", "phone.HEIC": "HEIC needs conversion to JPEG or PNG first",
        "drawing.svg": "a vector drawing needs conversion to PNG first",
    }


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders(folder: Path, noise) -> None:
    (folder / "0.png").chmod(0)
    put(folder / "locked" / "a.png", noise())
    (folder / "locked").chmod(0)
    data = prepare(open_source(folder))
    assert len(data) == 4 and dict(data.bad).keys() == {"0.png", "locked"}
    (folder / "locked").chmod(0o700)


def test_a_file_that_vanishes_after_opening(folder: Path) -> None:
    source = open_source(folder)
    (folder / "3.png").unlink()
    assert prepare(source).bad == [("3.png", "the file no longer exists")]


@pytest.mark.parametrize("files, words", [
    ({}, "is empty"), ({"a.txt": b"x", "b.txt": b"y"}, "no pictures, only other files \\(2 .txt\\)"),
    ({"a.png": b""}, "no usable picture"), ({"a.png": b"text"}, "no usable picture: 1 cannot be read, such as a.png"),
])
def test_nothing_usable_is_one_sentence(tmp_path: Path, files: dict, words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        prepare(open_source(tmp_path))
    assert str(caught.value).count("\n") == 0


def test_zip_in_its_variety(tmp_path: Path, noise) -> None:
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pets/cats/ä.png", png(noise(seed=1)))
        archive.writestr("pets/dogs/../../../evil.png", png(noise(seed=2)))
        archive.writestr("__MACOSX/pets/cats/._ä.png", b"x")
        archive.writestr("pets/dogs/empty.png", b"")
        archive.writestr("pets/dogs/bad.png", png(noise(seed=3)))
        archive.writestr("pets/readme.txt", b"hello")
    content = bytearray(path.read_bytes())
    at = content.find(b"pets/dogs/bad.png") + len("pets/dogs/bad.png") + 200
    content[at : at + 4] = bytes(b ^ 0xFF for b in content[at : at + 4])
    path.write_bytes(content)
    before = sorted(p.name for p in tmp_path.parent.iterdir())
    source = open_source(path)
    data = prepare(source)
    assert data.classes == ("cats", "dogs") and data.labels.tolist() == [0, 1] and source.others == {".txt": 1}
    assert dict(data.bad) == {"pets/dogs/empty.png": "empty file", "dogs/bad.png": "damaged inside the zip"}
    assert np.array_equal(data.images[0].permute(1, 2, 0).numpy(), np.asarray(noise(seed=1)))
    assert sorted(p.name for p in tmp_path.parent.iterdir()) == before


def test_zip_encrypted_bombs_and_dataset_json(tmp_path: Path, noise) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("00/a.png", "00/b.png", "00/locked.png", "00/bomb.png"):
            archive.writestr(name, png(noise()))
        archive.writestr("dataset.json", json.dumps({"labels": [["00/a.png", 3], ["00/b.png", 1],
                                                                ["00/locked.png", 1], ["00/bomb.png", 1]]}))
    source = open_source(path)
    assert source.classes == ("1", "3")
    content = bytearray(path.read_bytes())
    central = content.find(b"PK\x01\x02")
    locked = content.find(b"00/locked.png", central) - 46
    content[locked + 8] |= 1  # the flag of encryption
    bomb = content.find(b"00/bomb.png", central) - 46
    content[bomb + 24 : bomb + 28] = (3_000_000_000).to_bytes(4, "little")
    path.write_bytes(content)
    data = prepare(open_source(path))
    assert len(data) == 2
    assert dict(data.bad)["00/locked.png"].startswith("encrypted")
    assert dict(data.bad)["00/bomb.png"].startswith("too large to unpack")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 50])
def test_damaged_zip_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be opened: it is damaged or not a zip"):
        open_source(tmp_path / "a.zip")

"""Arrays, IDX files, samples, and what is said when a path is wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from limner.data import SAMPLES, open_source, prepare
from limner.data.arrays import as_pictures
from limner.data.samples import FOLDER

GREY = np.random.default_rng(0).integers(0, 256, (6, 20, 18), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (6, 20, 18, 3), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_pair_by_file_and_folder(tmp_path: Path, packed: bool) -> None:
    pack, end = (gzip.compress, ".gz") if packed else (bytes, "")
    for kind, n in (("train", 6), ("t10k", 3)):
        (tmp_path / f"{kind}-images-idx3-ubyte{end}").write_bytes(pack(idx(GREY[:n])))
        (tmp_path / f"{kind}-labels-idx1-ubyte{end}").write_bytes(pack(idx(np.arange(n, dtype=np.uint8) % 3)))
    data = prepare(open_source(tmp_path))
    assert np.array_equal(data.images[:, 0].numpy(), GREY) and data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.classes == ("0", "1", "2") and str(data.spec) == "20x18 gray, 3 classes"
    assert any("train-images" in note for note in data.notes)
    test = open_source(tmp_path / f"t10k-images-idx3-ubyte{end}")
    assert len(test) == 3 and test.labels.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="holds labels, not pictures"):
        open_source(tmp_path / f"train-labels-idx1-ubyte{end}")


def test_idx_damage(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    for content in (b"", idx(GREY)[:-5], b"junk junk junk", gzip.compress(idx(GREY))[:-20], idx(GREY)[:6]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="download it again"):
            open_source(path)


@pytest.mark.parametrize("array, channels", [
    (GREY, 1), (GREY[..., None], 1), (GREY[:, None], 1), (RGB, 3), (RGB.transpose(0, 3, 1, 2), 3),
])
def test_layouts(tmp_path: Path, array: np.ndarray, channels: int) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", images=array, labels=np.array(["x", "y", "x", "y", "x", "x"]))
    expected = GREY[:, None] if channels == 1 else RGB.transpose(0, 3, 1, 2)
    for data in (tmp_path / "a.npy", tmp_path / "b.npz", array, (array, [0, 1, 0, 1, 0, 0])):
        made = prepare(open_source(data))
        assert np.array_equal(made.images.numpy(), expected) and made.spec.channels == channels
        if data is not array and str(data)[-3:] != "npy":
            assert made.labels.tolist() == [0, 1, 0, 1, 0, 0]


def test_number_types() -> None:
    for given in (RGB.astype(np.float32) / 255, RGB / 127.5 - 1, RGB.astype(np.uint16) * 257, RGB.astype(np.int64)):
        made, notes = as_pictures(given, "The array")
        assert np.array_equal(made, RGB) and notes
    assert as_pictures(np.ones((2, 16, 16), bool), "The array")[0].max() == 255
    assert as_pictures(RGB, "The array")[0] is RGB


@pytest.mark.parametrize("array, words", [
    (np.zeros((16, 16)), "shape"), (np.zeros((0, 16, 16), np.uint8), "empty"), (RGB * np.nan, "not finite"),
    (RGB * 1000.0, "values from"), (-RGB.astype(int) - 1, "negative"), (np.array([["a"]]), "not pictures"),
    (np.zeros((2, 16, 16, 5), np.uint8), "shape"), (np.zeros((16, 16, 3), np.uint8), "shape"),
])
def test_arrays_that_are_no_pictures(array: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_source(array)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, 1], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=np.array([{}, 1], object))
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04junk")
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in "ab":
        with pytest.raises(ValueError, match="Python objects, which are never loaded"):
            open_source(next(tmp_path.glob(f"{name}.np?")))
    for name in "cd":
        with pytest.raises(ValueError, match=r"damaged"):
            open_source(next(tmp_path.glob(f"{name}.np?")))
    with pytest.raises(ValueError, match="labels for 6 pictures"):
        open_source((RGB, [0, 1]))


def test_an_array_is_used_without_a_copy() -> None:
    array = RGB.copy()
    data = prepare(open_source(array))
    assert data.images.data_ptr() == array.ctypes.data
    assert data.images.is_contiguous(memory_format=__import__("torch").channels_last)


def test_channels_follow_the_pictures() -> None:
    gray = np.repeat(GREY[..., None], 3, axis=-1)
    assert prepare(open_source(gray)).spec.channels == 1
    assert np.array_equal(prepare(open_source(gray)).images[:, 0].numpy(), GREY)
    rgba = np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], -1)
    assert prepare(open_source(rgba)).spec.channels == 3
    rgba[0, 0, 0, 3] = 0
    assert prepare(open_source(rgba)).spec.channels == 4
    flat = prepare(open_source(rgba), channels=3, background="#0000ff")
    assert flat.images[0, :, 0, 0].tolist() == [0, 0, 255] and any("blended with #0000ff" in n for n in flat.notes)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_what_they_say(name: str) -> None:
    source = open_source(name)
    data = prepare(source)
    assert (len(data), str(data.spec)) == {
        "fashion": (10_000, "28x28 gray, 10 classes"), "emoji": (3_786, "64x64 RGBA, 10 classes")
    }[name]
    assert (data.name == name and data.attribution and "license" in data.attribution) or "CC-BY" in data.attribution
    assert len(set(data.names)) == len(data) and not data.bad
    assert sum(f.stat().st_size for f in FOLDER.iterdir() if f.is_file()) < 11_000_000
    assert name in (FOLDER / "NOTICE").read_text()


def test_a_path_goes_before_a_sample_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.with_name("fashion"))
    monkeypatch.chdir(folder.parent)
    source = open_source("fashion")
    assert len(source) == 5 and any("sample:fashion" in note for note in source.notes)
    assert len(open_source("sample:fashion")) == 10_000


@pytest.mark.parametrize("data, words", [
    ("fashon", "did you mean fashion"), ("sample:x", "choose fashion or emoji"), ("", "No data is given"),
    ("nowhere/at/all", "give a folder of pictures, or a sample: fashion or emoji"), ("x" * 5000, "cannot be reached"),
])
def test_wrong_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        open_source(data)


def test_wrong_kinds_of_file(folder: Path) -> None:
    for name, words in (("0.png", "single picture"), ("a.tar.gz", "unpack it"), ("a.xyz", "unknown kind")):
        (folder / name).touch()
        with pytest.raises(ValueError, match=words):
            open_source(folder / name)
    with pytest.raises(ValueError, match=r"did you mean .*pictures"):
        open_source(folder.with_name("picturs"))


def test_labels_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    images = np.zeros((3, 16, 16), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 1])  # too few
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + np.array(images.shape, ">i4").tobytes() + bytes(768))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"damaged")
    for data in (tmp_path / "a.npz", tmp_path / "train-images-idx3-ubyte", (images, np.arange(3)), "fashion"):
        source = open_source(data, labels=False)
        assert len(source) >= 3 and source.labels is None and not (source.classes or source.notes)


def test_a_labels_file_that_cannot_be_used_is_the_one_to_blame(tmp_path: Path) -> None:
    images = np.zeros((3, 16, 16), np.uint8)
    np.save(tmp_path / "pics.npy", images)
    (tmp_path / "labels.csv").write_text("file,label\n0,a\n")
    np.savez(tmp_path / "labels.npz", labels=np.arange(3))
    for name in ("labels.csv", "labels.npz"):
        with pytest.raises(ValueError, match=rf"The labels file .*{name} is not an array"):
            open_source(tmp_path / "pics.npy", tmp_path / name)
    for data, words in (("fashion", "has labels of its own"), ("sample:emoji", "has labels of its own"), (images, "come with it")):
        with pytest.raises(ValueError, match=words):
            open_source(data, tmp_path / "labels.csv")
    np.save(tmp_path / "labels.npy", np.arange(3))
    assert open_source(tmp_path / "pics.npy", tmp_path / "labels.npy").classes == ("0", "1", "2")

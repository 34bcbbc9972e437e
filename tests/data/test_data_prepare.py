"""A Dataset: order as a pure function, the cache, sizes, duplicates, and the report."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from limner.data import Source, default_size, open_source, prepare, report_table, scan, write_sheet
from limner.data import cache as store
from limner.data.decode import decode_all
from limner.data.image import convert_channels
from limner.data.labels import TEXT_NOTE
from limner.data.report import facts
from limner.data.sampler import permutation
from limner.data.scan import crops_note, evenly_spaced, size_range

NUMBERED = np.arange(7, dtype=np.uint8).reshape(7, 1, 1) * np.ones((1, 16, 16), np.uint8)


def counting(source: Source) -> tuple[Source, list[int]]:
    """The same source, and a list that grows with every picture opened."""
    reads: list[int] = []

    def content(index: int):
        reads.append(index)
        return source.content(index)

    return replace(source, content=content), reads


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 40), st.integers(-3, 2**40))
def test_batches_are_slices_of_one_endless_order(first: int, count: int, seed: int) -> None:
    data = prepare(open_source((NUMBERED, np.arange(7) % 2)))
    whole = [int(v) for v in data.batch(0, 105, seed)["image"][:, 0, 0, 0]]
    images, labels = data.batch(first, count, seed).values()
    assert images[:, 0, 0, 0].tolist() == whole[first : first + count] and labels.tolist() == [
        v % 2 for v in whole[first : first + count]
    ]
    for epoch in range(15):
        assert sorted(whole[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_the_order_is_pinned_and_differs_by_epoch_and_seed() -> None:
    assert permutation(8, 0, 0).tolist() == permutation(8, 0, 0).tolist()
    assert len({tuple(permutation(50, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_are_channels_last_and_fast(noise) -> None:
    data = prepare(open_source(np.zeros((2000, 32, 32, 3), np.uint8) + np.arange(3, dtype=np.uint8)))
    batch = data.batch(1990, 64, 1)
    images = batch["image"]
    assert images.shape == (64, 3, 32, 32) and list(batch) == ["image"]
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert data.images.permute(0, 2, 3, 1).is_contiguous()


def test_a_subset_shows_its_rows_and_no_others() -> None:
    data = prepare(open_source((NUMBERED, np.arange(7) % 2)))
    some = data.subset(np.array([5, 2, 6]))
    assert len(some) == 3 and some.names == [data.names[i] for i in (5, 2, 6)]
    assert torch.equal(some.images, data.images[[5, 2, 6]]) and torch.equal(some.labels, data.labels[[5, 2, 6]])
    batch = some.batch(15, 3, 0)
    values = batch["image"][:, 0, 0, 0].tolist()
    assert sorted(values) == sorted(some.images[:, 0, 0, 0].tolist())  # each epoch shows the same ones
    assert batch["label"].tolist() == [value % 2 for value in values]
    assert some.subset(np.array([2, 0])).names == [data.names[i] for i in (6, 5)]


@pytest.mark.parametrize("sizes, expected", [
    ([(28, 28)] * 9 + [(5, 5)], (28, 28)), ([(28, 28)] * 8 + [(5, 5)] * 2, (64, 64)), ([(128, 128)] * 5, (64, 64)),
    ([(8, 8)] * 5, (64, 64)), ([(16, 64)] * 5, (16, 64)), ([], (64, 64)),
])
def test_default_size(sizes: list, expected: tuple) -> None:
    assert default_size(sizes) == expected


def test_options_that_make_no_sense_are_sentences(folder: Path) -> None:
    source = open_source(folder)
    for options, words in (
        ({"size": 8}, "too small"), ({"size": (32, 15)}, "too small"), ({"size": 10**5}, "too large to train on"),
        ({"size": (1, 2, 3)}, "not understood"), ({"fit": "squash"}, "choose crop, pad, stretch"),
        ({"channels": 2}, "choose auto, 1"), ({"background": "blurple"}, "not a color"),
    ):
        with pytest.raises(ValueError, match=words):
            prepare(source, **options)


def test_sizes_not_square_nor_powers_of_two(folder: Path) -> None:
    data = prepare(open_source(folder), size=(20, 36))
    assert data.images.shape == (5, 3, 20, 36) and data.spec.size == (20, 36)
    assert any("5 of 5 pictures are smaller" in note for note in data.notes)


def test_the_cache_decodes_once_and_follows_changes(folder: Path, noise) -> None:
    source, reads = counting(open_source(folder))
    first = prepare(source, size=24)
    assert sorted(reads) == list(range(5))  # each file opened once, though headers come before pixels
    again = prepare(source, size=24)
    assert len(reads) == 5 and torch.equal(first.images, again.images)
    assert (first.fingerprint, first.notes, first.names, first.sizes) == (
        again.fingerprint, again.notes, again.names, again.sizes
    )
    prepare(source, size=25)
    assert len(reads) == 10
    prepare(source, size=(25, 25))
    assert len(reads) == 10
    noise(40, 40, seed=9).save(folder / "0.png")
    changed = prepare(open_source(folder), size=24)
    assert changed.fingerprint != first.fingerprint and not torch.equal(changed.images[0], first.images[0])
    assert torch.equal(changed.images[1:], first.images[1:])


def test_the_cache_keeps_only_reasons_that_decoding_found(folder: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "empty.png").touch()
    assert {name for name, _ in prepare(open_source(folder)).bad} == {"cut.png", "empty.png"}
    (folder / "empty.png").unlink()
    (folder / "phone.heic").write_bytes(b"x")
    source, reads = counting(open_source(folder))
    data = prepare(source)
    assert not reads and {name for name, _ in data.bad} == {"cut.png", "phone.heic"}
    assert any("2 pictures could not be used" in note for note in data.notes)


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "denied"), OSError(errno.EIO, "I/O"), MemoryError()])
def test_a_failing_system_is_not_remembered(folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(folder)
    calls: list[int] = []

    def failing_once(*given):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return convert_channels(*given)

    with monkeypatch.context() as broken:
        broken.setattr("limner.data.image.convert_channels", failing_once)  # within all that reading is wrapped in
        assert len(prepare(source, workers=1).bad) == 1
    data = prepare(source)
    assert len(data) == 5 and not data.bad


@pytest.mark.parametrize("damage", ["cut", "flip", "facts", "gone"])
def test_a_damaged_cache_is_rebuilt(folder: Path, own_cache: Path, damage: str) -> None:
    source, reads = counting(open_source(folder))
    first = prepare(source)
    pictures, = (own_cache / "pictures").glob("*.npy")
    known = pictures.with_suffix(".json")
    content = bytearray(pictures.read_bytes())
    if damage == "cut":
        pictures.write_bytes(content[:-9])
    elif damage == "flip":
        content[-1] ^= 1
        pictures.write_bytes(content)
    elif damage == "facts":
        known.write_text(json.dumps({"shape": [1]}))
    else:
        pictures.unlink()
    assert torch.equal(prepare(source).images, first.images) and len(reads) == 10
    assert torch.equal(prepare(source).images, first.images) and len(reads) == 10


def test_an_unwritable_cache_is_only_a_note(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "file" / "cache"))
    data = prepare(open_source(folder))
    assert len(data) == 5 and any("could not be cached" in note for note in data.notes)


def test_big_sets_are_mapped_and_equal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:300])
    small = prepare(open_source(folder), size=24, cache=False)
    monkeypatch.setattr(store, "MAX_MEMORY_BYTES", 1000)
    for _ in range(2):
        big = prepare(open_source(folder), size=24)
        assert torch.equal(small.images, big.images) and small.fingerprint == big.fingerprint
        assert torch.equal(small.batch(3, 9, 0)["image"], big.batch(3, 9, 0)["image"])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing to reserve with")
def test_a_full_disk_is_known_before_anything_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_MEMORY_BYTES", 1000)
    assert isinstance(store.allocate((5, 16, 16, 3)), np.memmap)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    room = store.allocate((5, 16, 16, 3))
    assert room.shape == (5, 16, 16, 3) and not isinstance(room, np.memmap)


def test_threads_agree_with_one(folder: Path, noise) -> None:
    for i in range(60):
        noise(20 + i, 30, seed=i).save(folder / f"more{i}.jpg")
    calls: list[tuple[int, int]] = []
    one = prepare(open_source(folder), workers=1, cache=False)
    many = prepare(open_source(folder), workers=4, cache=False, progress=lambda done, total: calls.append((done, total)))
    assert torch.equal(one.images, many.images) and one.fingerprint == many.fingerprint
    assert calls[-1][0] == calls[-1][1] and calls == sorted(calls)


def test_auto_channels_look_at_pixels(tmp_path: Path, noise) -> None:
    noise(mode="L").convert("RGB").save(tmp_path / "a.png")
    Image.new("RGBA", (32, 32), (9, 9, 9, 255)).save(tmp_path / "b.png")
    data = prepare(open_source(tmp_path))
    assert data.spec.channels == 1 and data.images[1].unique().tolist() == [9]
    noise().save(tmp_path / "c.png")
    assert prepare(open_source(tmp_path)).spec.channels == 3
    Image.new("RGBA", (32, 32), (9, 9, 9, 100)).save(tmp_path / "d.png")
    data = prepare(open_source(tmp_path))
    assert data.spec.channels == 4 and data.images[0, 3].unique().tolist() == [255]


def test_padding_does_not_count_as_transparency(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 32), (200, 0, 0, 255)).save(tmp_path / "a.png")
    data = prepare(open_source(tmp_path), size=32, fit="pad", background="blue")
    assert data.spec.channels == 3 and data.images[0, :, 0, 0].tolist() == [0, 0, 255]


def test_duplicates_are_told_and_dropped_on_demand(folder: Path, noise) -> None:
    noise(seed=0).save(folder / "copy.bmp")
    data = prepare(open_source(folder))
    assert data.duplicates == [["0.png", "copy.bmp"]] and len(data) == 6
    assert any("1 picture is an exact duplicate" in note or "duplicates" in note for note in data.notes)
    less = prepare(open_source(folder), drop_duplicates=True)
    assert len(less) == 5 and "copy.bmp" not in less.names and less.fingerprint != data.fingerprint


def test_the_fingerprint_is_of_contents(folder: Path, tmp_path: Path) -> None:
    first = prepare(open_source(folder))
    folder.rename(tmp_path / "elsewhere")
    assert prepare(open_source(tmp_path / "elsewhere")).fingerprint == first.fingerprint


def test_the_report(folder: Path, tmp_path: Path, noise) -> None:
    (folder / "[red]bad[red].png").write_bytes(b"junk")
    (folder / "clip.mov").write_bytes(b"junk")
    noise(10, 90).save(folder / "wide.png")
    report = scan(open_source(folder))
    assert report.count == 6 and report.sizes == {(32, 32): 5, (10, 90): 1} and report.others == {".mov": 1}
    assert (report.least, report.median, report.most) == ((10, 32), (32, 32), (32, 90))
    assert report.thumbnails.shape == (6, 3, 64, 64)
    console = Console(width=100, record=True, file=__import__("io").StringIO())
    console.print(report_table(report))
    text = console.export_text()
    assert "[red]bad[red].png" in text and "not a picture" in text and ".mov 1" in text and "32x32 5" in text
    write_sheet(tmp_path / "sheet.png", report)
    assert Image.open(tmp_path / "sheet.png").mode == "RGB"
    assert dict(facts(report))["trained as"] == str(report.spec)


def test_writing_is_recognised() -> None:
    labels = np.arange(7) % 7
    assert TEXT_NOTE in scan(open_source((NUMBERED, labels))).notes
    assert TEXT_NOTE not in scan(open_source(NUMBERED)).notes
    assert not open_source((NUMBERED, labels)).notes  # for what a trained network does, flips are no matter


@pytest.mark.parametrize("name, expected", [
    ("digital camera", False), ("textures", False), ("newsletter", False), ("Digits64", True), ("google fonts", True),
    ("my_text", True), ("EMNIST", True), ("handwriting", True), ("Fashion-MNIST", False),
])
def test_writing_is_told_by_the_name_of_the_set_alone(tmp_path: Path, noise, name: str, expected: bool) -> None:
    place = tmp_path / "fonts" / name
    place.mkdir(parents=True)
    noise().save(place / "a.png")
    assert (TEXT_NOTE in scan(open_source(place)).notes) == expected


def test_large_pictures_are_said_to_fit_recipes_that_are_trained_on_crops(tmp_path: Path, noise) -> None:
    """Ten photographs got the advice of generators only: that they are too few."""
    for i in range(10):
        noise(300 + 20 * i, 400).save(tmp_path / f"{i}.png")
    notes = scan(open_source(tmp_path)).notes
    assert any("too few for a generator" in note for note in notes)
    crops = sum((300 + 20 * i) // 128 * (400 // 128) for i in range(10))
    assert any(f"these hold {crops} separate ones of 128x128" in note and "--recipe denoise" in note for note in notes)
    assert not crops_note({(64, 64): 1000, (128, 128): 10})


def test_thumbnails_are_spread_over_classes() -> None:
    labels = np.array([0] * 90 + [1] * 5 + [2] * 5)
    chosen = evenly_spaced(labels, 100, 12)
    assert np.bincount(labels[chosen]).tolist() == [4, 4, 4] and len(evenly_spaced(None, 5, 64)) == 5
    assert size_range({(1, 2): 3}) == ((1, 2), (1, 2), (1, 2))


def test_nothing_usable_in_memory_either(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match="holds no usable picture"):
        decode_all(open_source(tmp_path), None, "crop", None, "white")


@pytest.mark.parametrize("size", [None, 20])
def test_grey_stays_grey_whatever_is_resized(size: int | None, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 24, 24), dtype=np.uint8)
    assert prepare(open_source(array), size=size).spec.channels == 1
    for i, picture in enumerate(array):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    assert prepare(open_source(tmp_path), size=size).spec.channels == 1
    Image.fromarray(array[0]).convert("LA").save(tmp_path / "opaque.png")  # may be clear, and is not
    assert prepare(open_source(tmp_path), size=size).spec.channels == 1

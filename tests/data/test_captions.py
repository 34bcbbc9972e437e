"""Captions of every source, good and bad, and batches of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.core.hashing import words
from limner.core.tokenizer import Tokenizer
from limner.data import open_source, prepare
from limner.data.captioned import Captioned, with_captions
from limner.data.captions import MAX_SIDECAR_BYTES, caption_of_name, read_captions, read_table
from limner.data.request import DataRequest
from limner.data.split import split
from limner.recipes.config import TextRecipe
from limner.recipes.text2image import load_data


def load(place: Path, captions: str | None = None) -> Captioned:
    return load_data(TextRecipe(), DataRequest(data=str(place), captions=captions))


def write(folder: Path, texts: dict[int, str | bytes]) -> None:
    for i, text in texts.items():
        (folder / f"{i}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_text_files_beside_pictures(folder: Path) -> None:
    write(folder, {0: "a red heart\n", 1: "a dog\n\n  a black dog \n", 2: "\ufeffقلب أحمر", 3: "❤️"})
    data = load(folder)
    assert data.captions == [("a red heart",), ("a dog", "a black dog"), ("قلب أحمر",), ("❤️",)]
    assert data.names == ["0.png", "1.png", "2.png", "3.png"]
    assert ("4.png", "no caption in the .txt files beside the pictures") in data.bad
    assert any("1 of 5 pictures have no caption" in note for note in data.notes)


@pytest.mark.parametrize("bad", ["", "   \n", "...", "\x00\x01", "x" * (MAX_SIDECAR_BYTES + 1)])
def test_empty_and_huge_text_files_are_no_captions(bad: str, folder: Path) -> None:
    write(folder, {0: "one", 1: "two", 2: bad})
    data = load(folder)
    assert data.captions == [("one",), ("two",)] and len(data) == 2


def test_long_and_dangerous_captions_are_cut_and_made_safe(folder: Path) -> None:
    write(
        folder,
        {
            0: "word " * 50_000,
            1: "\x1b[31mred\u202e heart",
            2: b"caf\xe9 in latin-1",
            3: "a\tb\r\n",
            4: "utf sixteen".encode("utf-16"),
        },
    )
    data = load(folder)
    assert len(data.captions[0][0]) <= 10_000
    assert "\x1b" not in data.captions[1][0] and "\u202e" not in data.captions[1][0]
    assert (
        data.captions[2] == ("café in latin-1",)
        and data.captions[3] == ("a b",)
        and data.captions[4] == ("utf sixteen",)
    )
    assert any("more than 24 words" in note for note in data.notes)


def test_tables_of_three_kinds(folder: Path) -> None:
    rows = {f"{i}.png": f"picture number {word}" for i, word in enumerate(("none", "one", "two"))}
    csv = (
        "file,caption\n"
        + "".join(f'{file},"{text}"\n' for file, text in rows.items())
        + "2.png,another\nnobody.png,lost\n"
    )
    lines = "".join(json.dumps({"file_name": file, "text": text}) + "\n" for file, text in rows.items())
    several = json.dumps({**rows, "2.png": [rows["2.png"], "another"]})
    for name, content in (("captions.csv", csv), ("metadata.jsonl", lines), ("captions.json", several)):
        (folder / name).write_text(content)
        data = load(folder)
        assert [texts[0] for texts in data.captions] == list(rows.values()), name
        assert len(data.captions[2]) == (1 if name == "metadata.jsonl" else 2)
        (folder / name).unlink()
    given = folder.parent / "mine.csv"
    given.write_text(csv.replace(",", ";"))
    assert load(folder, str(given)).captions[0] == ("picture number none",)


def test_captions_in_a_zip_and_of_a_validation_split(
    folder: Path, noise: Callable[..., Image.Image], tmp_path: Path
) -> None:
    write(folder, {i: f"picture {word}" for i, word in enumerate("abcde")})
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"wrapper/{path.name}")
    assert load(tmp_path / "all.zip").captions[4] == ("picture e",)
    for part in ("train", "val"):
        (tmp_path / "splits" / part).mkdir(parents=True)
        for i in range(3):
            noise(seed=i + len(part)).save(tmp_path / "splits" / part / f"{i}.png")
            (tmp_path / "splits" / part / f"{i}.txt").write_text(f"{part} {'abc'[i]}")
    training, held_out = split(load(tmp_path / "splits"), 0)
    assert held_out is not None and held_out.captions == [("val a",), ("val b",), ("val c",)]
    assert training.captions[0] == ("train a",)


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("red-heart_01.png", "red heart"), ("cats/aBlackCat (2).jpg", "a Black Cat"), ("IMG_0123.jpg", ""), ("0001.png", ""),
        ("DSC00042.JPG", ""), ("قلب أحمر.png", "قلب أحمر"), ("photo 12.png", ""),
    ],
)  # fmt: skip
def test_names_of_files(name: str, caption: str) -> None:
    assert caption_of_name(name) == caption


def test_names_are_the_last_resort(noise: Callable[..., Image.Image], tmp_path: Path) -> None:
    for i, name in enumerate(("red heart", "blue-heart", "green_heart")):
        noise(seed=i).save(tmp_path / f"{name}.png")
    assert load(tmp_path).captions == [("blue heart",), ("green heart",), ("red heart",)]
    (tmp_path / "red heart.txt").write_text("from the file")
    (tmp_path / "blue-heart.txt").write_text("from another file")
    assert len(load(tmp_path)) == 2
    assert load(tmp_path, "names").captions[0] == ("blue heart",)


@pytest.mark.parametrize(
    ("files", "captions", "said"),
    [
        ({}, None, "have no captions: put x.txt beside x.png"),
        ({"0.txt": "same", "1.txt": "same"}, None, "All pictures have the same caption"),
        ({"0.txt": "one"}, None, "Only 1 of 5 pictures have a caption"),
        ({}, "nowhere.csv", "does not exist, or is not a file"),
        ({"captions.json": "{"}, None, "captions.json is not valid JSON"),
        ({"captions.jsonl": '{"file": "0.png"}\n{'}, None, "captions.jsonl is not valid JSON Lines"),
        ({"captions.csv": "file,caption\nother.png,a dog\n"}, None, "a caption for none of the pictures"),
    ],
)
def test_what_is_missing_is_a_sentence(files: dict[str, str], captions: str | None, said: str, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=r"\.$") as error:
        load(folder, captions)
    assert said in str(error.value)


def test_a_given_table_without_captions(folder: Path, tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", "file,label\n0.png,cat\n"),
        ("b.csv", ""),
        ("c.json", "[1, 2]"),
        ("d.json", '{"0.png": ""}'),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="holds no captions"):
            load(folder, str(tmp_path / name))
    assert read_table(b'"unclosed', "x.csv") == {}


def test_options_without_a_meaning(folder: Path) -> None:
    for more in ({"labels": Path("x.csv")}, {"unconditional": True}, {"halves": True}, {"classes_from": "top"}):
        with pytest.raises(ValueError, match="trained on captions"):
            load_data(TextRecipe(), DataRequest(data=str(folder), **more))


def test_the_emoji_have_names_with_skin_tones() -> None:
    source = open_source("emoji", labels=False)
    captions, origin = read_captions(source, source.names)
    assert origin == "captions.json" and all(captions)
    texts = {of[0] for of in captions}
    assert {"woman firefighter: dark skin tone", "woman firefighter", "hash key"} <= texts
    source = open_source("fashion", labels=False)
    assert {of[0] for of in read_captions(source, source.names)[0]} >= {"Trouser", "Ankle boot"}


@pytest.fixture
def numbered() -> Captioned:
    """Forty pictures, each with its number as gray value, of eight captions in all; one in five has two."""
    array = np.arange(40, dtype=np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)
    colors, things = ("red", "blue"), ("heart", "dog", "cat", "house")
    texts = [f"a {colors[i % 2]} {things[i // 2 % 4]}" for i in range(40)]
    captions = [(text, f"{text} again and again, more words than are read") if i % 5 == 0 else (text,) for i, text in enumerate(texts)]
    return with_captions(prepare(open_source(array), cache=False), captions, "here", Tokenizer(500, 6, 6))


def test_a_batch_is_a_function_of_the_position_and_its_other_texts_differ(numbered: Captioned) -> None:
    whole = numbered.batch(0, 120, 7)
    assert {name: tuple(value.shape) for name, value in whole.items()} == {
        "image": (120, 1, 16, 16),
        "tokens": (120, 36),
        "other_tokens": (120, 36),
    }
    parts = [numbered.batch(first, count, 7) for first, count in ((0, 1), (1, 50), (51, 69))]
    for name, value in whole.items():
        assert np.array_equal(value, np.concatenate([part[name] for part in parts]))
    encoded = {
        tuple(row): text
        for text, row in zip(numbered.texts, numbered.tokenizer.encode(numbered.texts).tolist(), strict=True)
    }
    drawn, shared = set(), 0
    for image, own, other in zip(whole["image"], whole["tokens"].tolist(), whole["other_tokens"].tolist(), strict=True):
        texts = numbered.captions[int(image[0, 0, 0])]
        assert encoded[tuple(own)] in texts and encoded[tuple(other)] not in texts
        drawn.add(encoded[tuple(own)])
        shared += bool(set(words(encoded[tuple(other)])) & set(words(encoded[tuple(own)])) - {"a"})
    assert any("again" in text for text in drawn) and any("again" not in text for text in drawn)
    assert shared > 40  # by chance about a third of the texts share a color or a thing


def test_a_subset_keeps_its_captions_and_the_fingerprint_tells_captions_apart(numbered: Captioned) -> None:
    part = numbered.subset(np.array([3, 7, 8]))
    assert part.captions == [numbered.captions[i] for i in (3, 7, 8)] and len(part) == 3
    assert int(part.batch(0, 3, 0)["image"].amin()) == 3
    other = Captioned(numbered.pictures, [("a cow",), *numbered.captions[1:]], numbered.tokenizer, numbered.whole)
    assert other.fingerprint != numbered.fingerprint


def test_pictures_that_are_held_out_may_have_one_caption(numbered: Captioned) -> None:
    captions = [("cat",) if i % 2 else ("dog",) for i in range(40)]
    data = with_captions(numbered.whole, captions, "here", numbered.tokenizer)
    held_out = [split(data, seed)[1] for seed in range(8)]
    assert {part.has_other for part in held_out if part} == {True, False}
    assert all(("other_tokens" in part.batch(0, 2, 0)) == part.has_other for part in held_out if part)


def test_a_given_table_holds_the_captions_of_the_held_out_split_too(tmp_path: Path) -> None:
    lines = ["file,caption"]
    for i in range(8):
        place = tmp_path / "pictures" / ("val" if i % 4 == 3 else "train") / f"IMG_{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), i).save(place)
        lines.append(f"{place.name},thing {i}")
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(lines))
    training, held_out = split(load(tmp_path / "pictures", str(table)), 0)
    assert len(training) == 6 and held_out is not None and held_out.captions == [("thing 3",), ("thing 7",)]
    table.write_text("\n".join(line for line in lines if line[-1] not in "37"))
    with pytest.raises(ValueError, match=r"In the held-out split: mine\.csv has a caption for none"):
        split(load(tmp_path / "pictures", str(table)), 0)


def test_a_picture_with_all_captions_is_refused(numbered: Captioned) -> None:
    with pytest.raises(ValueError, match="none is of another"):
        with_captions(numbered.whole, [("a", "b")] * 39 + [("a",)], "here", numbered.tokenizer)

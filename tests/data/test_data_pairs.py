"""Pairs by equal names, by halves and by a table; what is wrong with them is listed and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data.pairs import prepare_pairs
from limner.data.sides import matching


def picture(path: Path, value: int, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a", tmp_path / "b"
    for i in range(6):
        picture(a / f"{i}.png", 10 * i)
        picture(b / f"{i}.jpg", 10 * i + 100)
    return a, b


def test_partners_have_equal_names_whatever_their_ending(folders: tuple[Path, Path]) -> None:
    pairs = prepare_pairs(*folders, paired=True)
    assert len(pairs) == 6 and pairs.a.names == pairs.b.names and not pairs.bad
    batch = pairs.batch(3, 9, seed=1)
    assert (batch["b"][:, 0].float().mean((1, 2)) - batch["a"][:, 0].float().mean((1, 2)) - 100).abs().max() < 3
    assert prepare_pairs(*folders, paired=True, swap=True).a.images[0, 0].float().mean() > 90


@pytest.mark.parametrize(
    ("a", "b", "pairs", "alone", "lonely"),
    [
        (["cat.jpg", "cat.png"], ["cat.png"], [(1, 0)], [0], []),
        (["cat.jpg", "cat.png"], ["cat.webp", "cat.png"], [(0, 0), (1, 1)], [], []),
        (["x/v1.5", "cat.jpg", "cat.gif"], ["cat.png", "cat.bmp", "v1.5"], [(1, 0)], [0, 2], [1, 2]),
    ],
)
def test_equal_names_match_before_those_equal_but_for_their_ending(a, b, pairs, alone, lonely) -> None:
    assert matching(a, b) == (pairs, alone, lonely)


def test_partners_of_other_proportions_only_are_a_sentence(tmp_path: Path) -> None:
    picture(tmp_path / "a/x.png", 0, (32, 32)), picture(tmp_path / "b/x.png", 0, (64, 32))
    with pytest.raises(ValueError, match=r"No pair of .* is usable, such as x.png \(another aspect ratio.*\)\.$"):
        prepare_pairs(tmp_path / "a", tmp_path / "b", paired=True)


def test_wrong_partners_are_listed_and_left_out(folders: tuple[Path, Path]) -> None:
    a, b = folders
    picture(a / "alone.png", 0)
    picture(b / "nobody.png", 0)
    picture(a / "shape.png", 0, (20, 20)), picture(b / "shape.png", 0, (40, 20))
    picture(a / "broken.png", 0), (b / "broken.png").write_bytes(b"nothing")
    picture(a / "cut.png", 0), picture(b / "cut.png", 0)
    whole = (b / "cut.png").read_bytes()
    (b / "cut.png").write_bytes(whole[: len(whole) - 30])
    pairs = prepare_pairs(a, b, paired=True)
    assert pairs.a.names == pairs.b.names and len(pairs) == 6
    told = {name.split(".")[0]: why for name, why in pairs.bad}
    assert "no partner" in told["alone"] and "no partner" in told["nobody"] and "aspect ratio" in told["shape"]
    assert {"broken", "cut"} <= told.keys() and "left out" in pairs.notes[0]


def test_what_is_told_of_one_set_is_told_of_two(folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    for i in range(6):
        Image.new("RGBA", (20, 20), (10 * i, 0, 0, 99)).save(a / f"{i}.png")
    (a / "bad.png").write_bytes(b"nothing"), (b / "bad.png").write_bytes(b"nothing")
    pairs = prepare_pairs(a, b, paired=False, size=32, channels="3", background="red")
    enlarged, clear = "6 of 6 pictures are smaller than 32x32 and are enlarged.", "transparency, which is blended with red"
    assert pairs.notes[1] == enlarged and clear in pairs.notes[2] and len(pairs.notes) == 3
    assert [name for name, _ in pairs.bad] == [f"bad.png of the folder {place}" for place in (a.name, b.name)]
    picture(b / "big.png", 0, (40, 40))
    assert f"The folder {b.name}: 6 of 7 pictures" in prepare_pairs(a, b, paired=False, size=32).notes[-1]


def test_a_damaged_picture_of_two_sides_is_listed_once(tmp_path: Path) -> None:
    for name in ("good.png", "cut.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-300])
    (tmp_path / "empty.png").touch()
    pairs = prepare_pairs(tmp_path, paired=True)
    assert sorted(name for name, _ in pairs.bad) == ["cut.png", "empty.png"] and pairs.notes[0].startswith("2 pictures")


def test_unpaired_sets_keep_all_and_go_in_orders_of_their_own(folders: tuple[Path, Path]) -> None:
    a, b = folders
    for i in range(10, 13):
        picture(b / f"{i}.jpg", 0)
    pairs = prepare_pairs(a, b, paired=False)
    assert (len(pairs.a), len(pairs.b), len(pairs)) == (6, 9, 9)
    first, again = pairs.batch(4, 8, 0), pairs.batch(4, 8, 0)
    assert all(np.array_equal(first[k], again[k]) for k in "ab") and first["a"].shape == first["b"].shape


def test_sides_of_one_picture(tmp_path: Path) -> None:
    for i in range(3):
        sheet = Image.new("RGB", (40, 20), (255, 0, 0))
        sheet.paste((0, 0, 255), (20, 0, 40, 20))
        sheet.save(tmp_path / f"{i}.png")
    picture(tmp_path / "odd.png", 0, (41, 20))
    pairs = prepare_pairs(tmp_path, paired=True)
    assert pairs.spec.size == (20, 20) and len(pairs) == 3 and "no two equal halves" in pairs.bad[0][1]
    assert pairs.a.images[0, :, 0, 0].tolist() == [255, 0, 0] and pairs.b.images[0, :, 0, 0].tolist() == [0, 0, 255]


def test_damaged_exif_loses_no_pair(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "odd.png", exif=b"hello")
    pairs = prepare_pairs(tmp_path, paired=True)
    assert len(pairs) == 1 and not pairs.bad


def test_a_table_of_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("photo,drawing\na/0.png,b/3.jpg\na/1.png,b/1.jpg\na/2.png,b/gone.jpg\n")
    pairs = prepare_pairs(table, paired=True)
    assert len(pairs) == 2 and pairs.bad[0][1] == "the file is missing"
    assert abs(pairs.b.images[0, 0].float().mean() - 130) < 3
    table.write_text("one column\n")
    with pytest.raises(ValueError, match="two columns"):
        prepare_pairs(table, paired=True)


def test_the_first_row_of_a_table_is_a_heading_only_where_it_names_no_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    for first, left_out in (("gone.png,lost.heic", ["gone.png, lost.heic"]), ("a,b", []), ("a/5.png,gone", ["a/5.png, gone"])):
        table.write_text(f"{first}\na/0.png,b/3.jpg\n")
        pairs = prepare_pairs(table, paired=True)
        assert len(pairs) == 1 and [name for name, _ in pairs.bad] == left_out
    long = "a" * 5000
    table.write_text(f"{long},{long}\na/0.png,b/3.jpg\na/1.png,{long}\n")
    pairs = prepare_pairs(table, paired=True)
    assert len(pairs) == 1 and pairs.bad == [(f"a/1.png, {long}", "the file is missing")]


def test_both_sides_get_the_channels_that_either_needs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "gray" / f"{i}.png", 9, mode="L")
    pairs = prepare_pairs(tmp_path / "gray", folders[1], paired=True)
    assert pairs.a.spec.channels == pairs.b.spec.channels == pairs.spec.channels == 3


def test_no_common_name_is_a_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    picture(tmp_path / "c" / "other.png", 0)
    with pytest.raises(ValueError, match=r"equal names.*\.$"):
        prepare_pairs(folders[0], tmp_path / "c", paired=True)


def test_ordinary_photographs_are_not_cut_into_halves(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", 0, (60, 40))
    for paired, words in ((True, "two folders of equal names"), (False, "a second set to translate to")):
        with pytest.raises(ValueError, match=f"holds ordinary pictures.*{words}.*--halves"):
            prepare_pairs(tmp_path, paired=paired)
    pairs = prepare_pairs(tmp_path, paired=True, as_halves=True, size=32)
    assert len(pairs) == 4 and "Each picture holds two sides" in " ".join(pairs.notes)


@pytest.mark.parametrize("names", [("trainA", "trainB"), ("A", "B"), ("w/trainA", "w/trainB")])
def test_folders_of_two_sides(names: tuple[str, str], tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / names[0] / f"{i}.png", 10), picture(tmp_path / names[1] / f"{i}.jpg", 200)
    if "train" in names[0]:
        for side in "AB":
            picture(tmp_path / names[0].replace("trainA", f"test{side}") / "0.png", 99)
    for paired in (True, False):
        pairs = prepare_pairs(tmp_path, paired=paired)
        assert len(pairs.a) == len(pairs.b) == 3 and "The two sides are the folders" in pairs.notes[0]
        assert pairs.a.images[:, 0].float().mean() < 15 and pairs.b.images[:, 0].float().mean() > 190
        assert ("testA and testB are held out" in pairs.notes[0]) == ("train" in names[0])

"""`limner restore` on files, folders and zips: the same tree out, masks by name, damaged files, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.apps.pictures_out import LINE
from limner.apps.restore import Restorer
from limner.apps.restore_files import restore
from restorers import DEEP, context, deep_color_png, filler, photo, restorer

PIXELS = photo(40, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """in/ with pictures of three formats, one of them damaged and one in a folder."""
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    PIXELS.save(source / "one.png")
    PIXELS.save(source / "deep/two.jpg")
    DEEP.save(source / "three.tif")
    PIXELS.save(source / "four.gif")
    (source / "broken.png").write_bytes(b"\x89PNG nothing")
    return source


def test_a_folder_and_a_zip_keep_their_tree(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    model = restorer(3, 2)
    told = restore(model, folder, tmp_path / "out", sheet=tmp_path / "sheet.png", say=said.append)
    assert "4 restored pictures are in" in told and "1 was skipped" in told and said == ["Skipped broken.png: not a picture, despite its name."]
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"one.png", "deep/two.jpg", "three.tif", "four.png"}
    with Image.open(tmp_path / "out/one.png") as made:
        assert np.array_equal(np.asarray(made), np.asarray(model.restore(folder / "one.png")))
    with Image.open(tmp_path / "out/three.tif") as made:
        assert made.mode == "I;16" and made.size == (80, 60)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 240 + 3 * 2, 2 * 240 + 2 + LINE)  # each enlarged three times
        line = np.asarray(sheet)[-LINE:].min(2) < 128
    written = [line[:, 242 * i : 242 * i + 240].any() for i in range(4)]
    assert written == [True] * 4  # the name of each picture, below it
    assert not np.array_equal(line[:, :240], line[:, 242:482])
    restore(model, folder, tmp_path / "out.zip", say=said.append)
    assert sorted(zipfile.ZipFile(tmp_path / "out.zip").namelist()) == ["deep/two.jpg", "four.png", "one.png", "three.tif"]
    assert "4 restored" in restore(restorer(3), tmp_path / "out.zip", tmp_path / "again")
    assert (tmp_path / "again/deep/two.jpg").exists()


def test_the_sheet_shows_the_same_middle_of_both(tmp_path: Path) -> None:
    photo(900, 600).save(tmp_path / "large.png")
    restore(restorer(3, 2), tmp_path / "large.png", tmp_path / "out.png", strength=0.0, sheet=tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    above, below = sheet[: 3 * 256], sheet[3 * 256 + 2 : -LINE]  # each enlarged three times
    assert above.shape == below.shape == (768, 768, 3)
    assert np.abs(above - below)[12:-12, 12:-12].max() <= 2 and above.std() > 20


def test_quality_and_formats(tmp_path: Path) -> None:
    photo(200, 200).save(tmp_path / "a.png")
    sizes = {}
    for quality in (30, 95):
        for ending in ("jpg", "webp"):
            restore(restorer(3), tmp_path / "a.png", tmp_path / f"{quality}.{ending}", quality=quality)
            sizes[quality, ending] = (tmp_path / f"{quality}.{ending}").stat().st_size
    assert all(sizes[30, ending] * 2 < sizes[95, ending] for ending in ("jpg", "webp"))
    DEEP.save(tmp_path / "deep.png")
    restore(restorer(3), tmp_path / "deep.png", tmp_path / "deep.jpg")
    with Image.open(tmp_path / "deep.jpg") as made:
        assert made.mode == "L"


def test_masks_by_name_and_one_for_all(folder: Path, tmp_path: Path) -> None:
    hole = np.zeros((30, 40), np.uint8)
    hole[5:15, 5:30] = 255
    masks = tmp_path / "masks"
    (masks / "deep").mkdir(parents=True)
    Image.fromarray(hole).save(masks / "one.png")
    Image.fromarray(hole.T).save(masks / "three.png")
    Image.fromarray(hole[::-1]).save(masks / "deep/two.png")
    said: list[str] = []
    told = restore(filler(), folder, tmp_path / "out", mask=masks, say=said.append)
    assert "2 restored pictures" in told and "3 were skipped" in told
    assert any("Skipped four.gif: no mask of its name is in" in text for text in said)
    assert any("Skipped three.tif: the mask has 30x40 pixels and the picture 40x30" in text for text in said)
    with Image.open(tmp_path / "out/one.png") as made:
        after = np.asarray(made)
    assert np.array_equal(after[hole == 0], np.asarray(PIXELS)[hole == 0]) and (after[hole > 0] != np.asarray(PIXELS)[hole > 0]).any()
    told = restore(filler(), folder, tmp_path / "all", mask=masks / "one.png", say=said.append)
    assert "4 restored pictures" in told


def test_pictures_without_a_hole_are_skipped_with_the_reason(folder: Path, tmp_path: Path) -> None:
    clear = PIXELS.convert("RGBA")
    clear.paste((0, 0, 0, 0), (3, 3, 9, 9))
    clear.save(folder / "clear.png")
    said: list[str] = []
    assert "1 restored picture is" in restore(filler(), folder, tmp_path / "out", say=said.append)
    assert any("Skipped one.png: this model fills holes, and the picture has none" in text for text in said)
    (folder / "clear.png").unlink()
    with pytest.raises(ValueError, match=r"No picture of .* could be restored: 5 cannot be used, such as "):
        restore(filler(), folder, tmp_path / "none.zip", say=said.append)
    assert not (tmp_path / "none.zip").exists()


def test_color_of_16_bits_is_said_to_be_read_at_8(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(deep_color_png())
    told = restore(restorer(3), tmp_path / "a.png", tmp_path / "b.png")
    assert told.endswith("1 has 16 bits per channel in color, which Pillow reads at 8: a.png.")


@pytest.mark.parametrize(
    ("source", "out", "options", "message"),
    [
        ("in", "in", {}, "in is the folder of the originals: choose another place to write to"), ("in/one.png", "in", {}, "overwrite an original"),
        ("in", "many.png", {}, r"folder or a \.zip"), ("in/broken.png", "x.png", {}, "broken.png cannot be used: not a picture"),
        ("in/one.png", "x.png", {"sheet": "x.png"}, "would replace a restored picture"),
        ("in/one.png", "x.png", {"sheet": "x.jpg"}, "written as a .png"),
        ("in/one.png", "x.png", {"quality": 0}, "goes from 1 to 100, and 0 is outside"),
        ("in/one.png", "x.png", {"strength": -1.0}, "strength goes from 0"),
        ("in/one.png", "x.png", {"scale": 4.0}, "enlarges 2 times"),
        ("in/one.png", "x.png", {"mask": "in/one.png"}, "leave it out"),
        ("in/none.png", "x.png", {}, r"in/none.png does not exist: did you mean .*in/one.png\?$"),
        ("nowhere", "x", {}, r"nowhere does not exist: give a picture, a folder or a zip\.$"),
        ("void", "x", {}, r"void is empty: give a folder that holds pictures \(JPEG, PNG, WebP \.\.\.\)\.$"),
        ("in/one.png", "x.gif", {}, r"written as \.png, \.webp, \.tif or \.jpg, not as 'x\.gif'"),
        ("in/one.png", "x.v2", {}, "not as 'x.v2'"), ("in", "in/new", {}, "in/new lies in the folder of the originals"),
    ],
)  # fmt: skip
def test_refusals(source: str, out: str, options: dict, message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    options = {name: tmp_path / value if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        restore(restorer(3, 2, "super-resolution"), tmp_path / source, tmp_path / out, say=lambda text: None, **options)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_single_picture_whose_mask_does_not_fit(tmp_path: Path) -> None:
    PIXELS.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png cannot be used: this model fills holes"):
        restore(filler(), tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(ValueError, match="does not exist"):
        restore(filler(), tmp_path / "a.png", tmp_path / "b.png", mask=tmp_path / "nothing")


def test_a_picture_too_large_for_its_format_is_a_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 3)).save(tmp_path / "a.webp")
    with pytest.raises(ValueError, match=r"18000x6 cannot be written as WEBP .*: choose .png or .tif"):
        restore(restorer(3, 2), tmp_path / "a.webp", tmp_path / "b.webp")


def test_a_file_of_a_format_that_is_not_written_becomes_a_png_in_a_folder(folder: Path, tmp_path: Path) -> None:
    """One picture was written as four.gif.png, and the same one of a folder as four.png."""
    restore(restorer(3), folder / "four.gif", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["four.png"]


def test_a_huge_picture_is_one_sentence(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(ValueError, match=r"huge.png cannot be used: too large to decode safely \(over 178 million pixels\); shrink it or"):
        restore(restorer(3), tmp_path / "huge.png", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("error", "tile", "cure"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."), None, "--tile, such as 128"),
        (MemoryError(), 2048, "--tile, such as 512"),
        (torch.OutOfMemoryError("CUDA out of memory."), 128, "cut the picture into parts"),
    ],
    ids=["cpu", "python", "gpu"],
)
def test_too_little_memory_is_a_sentence(
    error: Exception, tile: int | None, cure: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = restorer(3)
    whole = model._colors

    def compute(x: torch.Tensor, *more: object) -> torch.Tensor:
        if x.numel() > 20_000:
            raise error
        return whole(x, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "_colors", compute)
    photo(300, 200).save(folder / "large.png")
    said: list[str] = []
    assert "4 restored" in restore(model, folder, tmp_path / "out", tile=tile, say=said.append)
    assert any(text.startswith("Skipped large.png: there is not enough memory for 300x200 pixels") and cure in text for text in said)
    with pytest.raises(ValueError, match=f"large.png cannot be used: there is not enough memory .* {cure}"):
        restore(model, folder / "large.png", tmp_path / "x.png", tile=tile)


def test_a_trained_run_is_restored_with_from_the_command_line(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as change:
        change.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        run = limner.train(
            pictures, recipe="super-resolution", size=16, images=16, out=tmp_path / "run", device="cpu", quiet=True,
            changes={"network.width": 8, "network.depth": 1, "scale": 2, "batch": 4},
        )  # fmt: skip
    assert isinstance(limner.load(run.folder, "cpu"), Restorer)
    PIXELS.save(tmp_path / "a.png")

    def limner_restore(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "limner", "restore", str(tmp_path / "run"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = limner_restore(tmp_path / "a.png", tmp_path / "b.png", "--scale", "1.5", "--strength", "0.5", "--device", "cpu")
    assert done.returncode == 0 and "1 restored picture is in" in done.stdout, done.stderr
    assert Image.open(tmp_path / "b.png").size == (60, 45)
    refused = limner_restore(tmp_path / "a.png", tmp_path / "c.png", "--scale", "7", "--device", "cpu")
    assert refused.returncode == 2 and refused.stderr == "This model enlarges 2 times: give a scale from 1 to 2, not 7.\n"
    assert not (tmp_path / "c.png").exists()


def test_a_colorizer_writes_color_for_a_gray_file(tmp_path: Path) -> None:
    PIXELS.convert("L").save(tmp_path / "a.jpg")
    restore(restorer(net=context(3, 1), task="colorize"), tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as made:
        assert made.mode == "RGB"

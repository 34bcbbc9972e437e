"""`limner compress` and `limner decompress` on files, folders, zips and archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_model import codec, picture
from limner.apps import compress_files as app
from limner.coding.container import Group, Header, Item, write

MODEL = codec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures in a tree, with names that collide without their endings, and two that are damaged."""
    root = tmp_path / "in"
    (root / "deep" / "er").mkdir(parents=True)
    for i, name in enumerate(["a.png", "a.jpg", "b.webp", "deep/c.png", "deep/er/d.v2.png", "deep/er/e.bmp"]):
        Image.fromarray(picture(40 + i % 2 * 24, 64, seed=i)).save(root / name)
    clear = Image.fromarray(picture(40, 64))
    clear.putalpha(Image.fromarray(picture(40, 64, 1)[..., 0]))
    clear.save(root / "deep" / "clear.png")
    (root / "broken.png").write_bytes((root / "a.png").read_bytes()[:300])
    (root / "empty.jpg").write_bytes(b"")
    return root


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def run(*arguments: object, **options: object) -> tuple[str, list[str]]:
    said: list[str] = []
    return app.compress(MODEL, *arguments, say=said.append, **options), said  # type: ignore[arg-type]


def back(*arguments: object) -> tuple[str, list[str]]:
    said: list[str] = []
    return app.decompress(MODEL, *arguments, say=said.append), said  # type: ignore[arg-type]


def test_a_file(folder: Path, tmp_path: Path) -> None:
    text, said = run(folder / "a.png", tmp_path / "x.limn")
    size = (tmp_path / "x.limn").stat().st_size
    assert f"{size:,} bytes, {size * 8 / (40 * 64):.3f} bits per pixel" in text and not said
    assert f"before ({(folder / 'a.png').stat().st_size:,} bytes)" in text
    run(folder / "a.png", tmp_path / "new")  # no folder yet, and no ending
    assert (tmp_path / "new" / "a.limn").exists()
    (tmp_path / "into").mkdir()
    run(folder / "a.png", tmp_path / "into")
    assert (tmp_path / "into" / "a.limn").read_bytes() == (tmp_path / "x.limn").read_bytes()
    assert back(tmp_path / "x.limn", tmp_path / "y.webp")[0] == f"The picture is in {tmp_path / 'y.webp'}."
    back(tmp_path / "x.limn", tmp_path / "into")
    assert np.array_equal(Image.open(tmp_path / "y.webp"), Image.open(tmp_path / "into" / "x.png"))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_metadata_is_written_in_every_format(ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    Image.fromarray(picture(40, 64)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300))
    run(tmp_path / "a.jpg", tmp_path / "a.limn")
    back(tmp_path / "a.limn", tmp_path / f"b.{ending}")
    with Image.open(tmp_path / f"b.{ending}") as made:
        assert made.getexif()[0x010F] == "Camera"


def test_what_is_lost_names_the_first_picture(folder: Path, tmp_path: Path) -> None:
    deep = Image.fromarray((picture(40, 64, 1)[..., 0].astype(np.uint16)) * 200)
    deep.save(folder / "deep" / "16.png")
    assert run(folder / "deep" / "16.png", tmp_path / "x.limn")[1] == ["16.png has more than 8 bits a channel and is stored with 8."]
    deep.save(folder / "deep" / "er" / "17.tif")
    for archive in (False, True):
        said = run(folder, tmp_path / ("y.limn" if archive else "y"), archive=archive)[1]
        assert said[-1] == "deep/16.png and 1 other picture: each has more than 8 bits a channel and is stored with 8."


def test_results_do_not_go_among_the_originals(folder: Path, tmp_path: Path) -> None:
    before = tree(folder)
    for options, out in (({}, folder), ({}, folder / "new"), ({"archive": True}, folder)):
        with pytest.raises(ValueError, match=r"(is|lies in) the folder of the originals: choose another place to write to\.$"):
            run(folder, out, **options)
    assert tree(folder) == before
    run(folder, tmp_path / "out")
    before = tree(tmp_path / "out")
    for out in (tmp_path / "out", tmp_path / "out" / "new"):
        with pytest.raises(ValueError, match=r"(is|lies in) the folder of the originals"):
            back(tmp_path / "out", out)
    assert tree(tmp_path / "out") == before


def test_a_suffix_that_cannot_hold_the_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder / "a.png", tmp_path / "x.limn")
    for name in ("q.gif", "q.limn", "q.v2"):
        with pytest.raises(ValueError, match=rf"written as \.png, \.webp, \.tif or \.jpg, not as '{name}'"):
            back(tmp_path / "x.limn", tmp_path / name)
    assert not list(tmp_path.glob("q*"))
    back(tmp_path / "x.limn", tmp_path / "new")  # a folder, as for the other commands
    assert tree(tmp_path / "new") == ["x.png"]


def test_a_folder_keeps_its_tree_and_lists_what_is_damaged(folder: Path, tmp_path: Path) -> None:
    text, said = run(folder, tmp_path / "out")
    assert text.startswith("7 compressed pictures are in") and "skipped" in text
    assert len(said) == 2 and any("broken.png: truncated" in line for line in said) and any("empty" in line for line in said)
    assert tree(tmp_path / "out") == [
        "a.limn", "a.png.limn", "b.limn", "deep/c.limn", "deep/clear.limn", "deep/er/d.v2.limn", "deep/er/e.limn",
    ]  # fmt: skip
    (tmp_path / "out" / "b.limn").write_bytes((tmp_path / "out" / "b.limn").read_bytes()[:-4])
    (tmp_path / "out" / "foreign.limn").write_bytes(b"hello")
    text, said = back(tmp_path / "out", tmp_path / "again")
    assert text.startswith(f"6 pictures are in {tmp_path / 'again'}") and "2" in text
    assert sorted(said)[0] == "Skipped b.limn: its compressed data is damaged."
    assert "Skipped foreign.limn: it is not a picture that `limner compress` wrote." in said
    assert len(tree(tmp_path / "again")) == 6 and "deep/er/d.v2.png" in tree(tmp_path / "again")
    assert Image.open(tmp_path / "again" / "deep" / "clear.png").mode == "RGBA"


@pytest.mark.parametrize("zipped", [False, True])
def test_an_archive_is_smaller_and_gives_the_same_names(folder: Path, tmp_path: Path, zipped: bool) -> None:
    source = folder
    if zipped:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name in tree(folder):
                archive.write(folder / name, name)
    text, said = run(source, tmp_path / "all.limn", archive=True)
    assert text.startswith("7 compressed pictures are in") and len(said) == 2
    run(source, tmp_path / "separate.zip")
    with zipfile.ZipFile(tmp_path / "separate.zip") as archive:
        assert (tmp_path / "all.limn").stat().st_size < sum(info.file_size for info in archive.infolist())
    back(tmp_path / "all.limn", tmp_path / "together")
    back(tmp_path / "separate.zip", tmp_path / "apart")
    assert len(tree(tmp_path / "together")) == 7
    for name in ("b.png", "deep/c.png", "deep/clear.png", "deep/er/d.v2.png", "deep/er/e.png"):
        a, b = (np.asarray(Image.open(tmp_path / place / name)).astype(int) for place in ("together", "apart"))
        assert np.abs(a - b).max() <= 40  # a batch of analysis may round a latent differently
    back(tmp_path / "all.limn", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == tree(tmp_path / "together")


def test_a_damaged_group_of_an_archive_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "all.limn", archive=True)
    content = (tmp_path / "all.limn").read_bytes()
    (tmp_path / "all.limn").write_bytes(content[:-9])
    text, said = back(tmp_path / "all.limn", tmp_path / "out")
    assert text.startswith(f"{len(tree(tmp_path / 'out'))} pictures are") and said
    assert all(line.endswith("its compressed data is damaged.") for line in said) and len(said) + len(tree(tmp_path / "out")) == 7
    (tmp_path / "all.limn").write_bytes(content[:40])
    with pytest.raises(ValueError, match="truncated"):
        back(tmp_path / "all.limn", tmp_path / "none")


def test_names_of_an_archive_never_leave_the_folder(tmp_path: Path) -> None:
    one = MODEL.prepare(Image.fromarray(picture(20, 20)))
    for name in ("../evil.png", "/tmp/evil.png", "C:\\evil.png", "a/../../evil.png"):
        header = Header(MODEL.fingerprint, 50, [Item(**{**vars(one.item), "name": name})], archive=True)
        (tmp_path / "x.limn").write_bytes(write(header, [Group([b"x"])]))
        with pytest.raises(ValueError, match="leads out of the folder"):
            back(tmp_path / "x.limn", tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("*evil*"))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:  # compressing one cleans its names
        buffer = io.BytesIO()
        Image.fromarray(picture(20, 20)).save(buffer, "PNG")
        archive.writestr("../up.png", buffer.getvalue())
        archive.writestr("C:/x/y.png", buffer.getvalue())
    run(tmp_path / "evil.zip", tmp_path / "e.limn", archive=True)
    back(tmp_path / "e.limn", tmp_path / "deep" / "here")
    assert len(tree(tmp_path / "deep" / "here")) == 2
    names = [f"{path}" for path in tmp_path.rglob("up.png")]
    assert all("deep/here" in name for name in names)


def test_names_that_differ_in_case_and_archives_in_a_folder(folder: Path, tmp_path: Path) -> None:
    one = MODEL.prepare(Image.fromarray(picture(20, 20)))
    items = [Item(**{**vars(one.item), "name": name}) for name in ("A.png", "a.png", "a.jpg")]
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "set.limn").write_bytes(MODEL.write(items, lambda i: one, archive=True))
    run(folder / "b.webp", tmp_path / "many" / "b.limn")
    back(tmp_path / "many", tmp_path / "out")
    names = tree(tmp_path / "out")
    assert len(names) == 4 == len({name.casefold() for name in names}) and "b.png" in names
    assert sum(name.startswith("set/") for name in names) == 3


def test_wrong_outputs_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    for arguments, options, match in [
        ((folder / "a.png", tmp_path / "x.jpg"), {}, "written as a .limn"),
        ((folder, tmp_path / "x.jpg"), {}, "go into a folder"),
        ((folder, tmp_path / "x.jpg"), {"archive": True}, "An archive is written as a .limn"),
        ((folder / "broken.png", tmp_path / "x.limn"), {}, "cannot be used: truncated"),
        ((folder / "none.png", tmp_path / "x.limn"), {}, "none.png does not exist: did you mean"),
        ((folder, tmp_path / "x.limn"), {"quality": 400}, "quality"),
    ]:
        with pytest.raises(ValueError, match=match):
            run(*arguments, **options)
    only = tmp_path / "only"
    only.mkdir()
    (only / "broken.png").write_bytes((folder / "broken.png").read_bytes())
    for archive in (False, True):
        with pytest.raises(ValueError, match="all 1 are damaged"):
            run(only, tmp_path / ("x.limn" if archive else "out"), archive=archive)
    with pytest.raises(ValueError, match="holds no"):
        back(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="not a picture that"):
        back(folder / "a.png", tmp_path / "out.png")
    with pytest.raises(ValueError, match=r"nothing.limn does not exist: give a .limn, or a folder or zip of them\."):
        back(tmp_path / "nothing.limn", tmp_path / "out.png")
    run(folder / "a.png", tmp_path / "a.limn")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.limn")
    with pytest.raises(ValueError, match="overwrite an original"):
        back(tmp_path / "a.limn", tmp_path / "link.png")

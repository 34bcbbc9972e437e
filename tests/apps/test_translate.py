"""A translator in the hand: every size, mode and ending; tiles that leave no seam."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.apps.evaluate import translate_data
from limner.apps.pictures_out import output_names
from limner.apps.tiles import in_tiles, starts
from limner.apps.translate import Translator, translate
from limner.core.images import ImageSpec
from limner.data.pairs import prepare_pairs
from limner.networks import patch, resnet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Translator]:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("translator")
    np.savez(folder / "a.npz", images=rng.integers(0, 255, (8, 16, 16, 3), dtype=np.uint8))
    np.savez(folder / "b.npz", images=rng.integers(0, 255, (8, 16, 16, 3), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as change:
        change.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        limner.train(folder / "a.npz", folder / "b.npz", recipe="cyclegan", images=8, out=folder / "run", device="cpu",
                     changes={"network": resnet.TINY, "discriminator": patch.Config(width=8)})  # fmt: skip
    yield limner.load(folder / "run")


PICTURES = {
    "dot": Image.new("RGB", (1, 1), (200, 3, 9)),
    "small": Image.new("RGB", (3, 7)),
    "long": Image.effect_noise((3000, 50), 40).convert("RGB"),
    "clear": Image.merge("RGBA", [Image.effect_noise((40, 30), 60)] * 4),
    "deep": Image.fromarray(np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) * 50),
    "gray": Image.effect_noise((40, 30), 60),
    "palette": Image.effect_noise((40, 30), 60).convert("P"),
}


@pytest.mark.parametrize("kind", list(PICTURES))
def test_every_kind_of_picture_keeps_its_size(kind: str, model: Translator) -> None:
    before = PICTURES[kind]
    after = model.translate(before)
    assert after.size == before.size and after.mode == ("RGBA" if kind == "clear" else "RGB")
    if kind == "clear":
        assert np.array_equal(np.asarray(after)[..., 3], np.asarray(before)[..., 3])


@pytest.mark.parametrize(
    ("channels", "data", "clear", "half"),
    [
        (4, {}, [255, 255, 255, 0], [200, 0, 0, 128]),  # a run from before `background` was told
        (4, {"background": "blue"}, [0, 0, 255, 0], [200, 0, 0, 128]),
        (3, {"background": "black"}, [0, 0, 0, 0], [100, 0, 0, 128]),
    ],
)
def test_what_is_transparent_looks_as_in_training(channels: int, data: dict, clear: list, half: list) -> None:
    class Same(torch.nn.Identity):
        least = 1

    same = Translator(
        torch.nn.ModuleDict({"a2b": Same()}), ImageSpec(channels, 16, 16), {"data": data}, torch.device("cpu"), Path()
    )
    picture = np.full((1, 2, 4), [200, 0, 0, 128], np.uint8)
    picture[0, 0] = 9, 8, 7, 0
    assert np.asarray(same.translate(Image.fromarray(picture))).tolist() == [[clear, half]]


def test_exif_orientation_is_applied(model: Translator, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURES["gray"].convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    assert model.translate(tmp_path / "turned.jpg").size == (30, 40)


def test_a_file_a_folder_and_a_zip(model: Translator, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    PICTURES["gray"].save(source / "one.png")
    PICTURES["clear"].convert("RGB").save(source / "deep/two.jpg")
    PICTURES["palette"].save(source / "three.gif")
    (source / "broken.png").write_bytes(b"\x89PNG nothing")
    said: list[str] = []
    told = translate(model, source, tmp_path / "out", "b2a", tmp_path / "sheet.png", say=said.append)
    assert "3 translated pictures" in told and "1 was skipped" in told and "broken.png" in said[0]
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert found == {"one.png", "deep/two.jpg", "three.png"}
    assert Image.open(tmp_path / "sheet.png").size[0] > 150
    translate(model, source, tmp_path / "out.zip", say=said.append)
    assert sorted(zipfile.ZipFile(tmp_path / "out.zip").namelist()) == ["deep/two.jpg", "one.png", "three.png"]
    translate(model, tmp_path / "out.zip", tmp_path / "again")
    assert (tmp_path / "again/deep/two.jpg").exists()
    for _ in range(2):  # a second time too: what lies beside the pictures and is none may be replaced
        assert "3 translated" in translate(model, source, source / "beside.zip", say=said.append)
    translate(model, source / "one.png", tmp_path / "single.webp")
    assert Image.open(tmp_path / "single.webp").size == PICTURES["gray"].size


def test_damaged_exif_does_not_end_a_folder(model: Translator, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in/a.png", exif=b"hello")
    PICTURES["gray"].save(tmp_path / "in/b.png")
    assert "2 translated" in translate(model, tmp_path / "in", tmp_path / "out", sheet=tmp_path / "sheet.png")
    assert "1 translated" in translate(model, tmp_path / "in/a.png", tmp_path / "one.png", sheet=tmp_path / "sheet.png")


def test_labels_are_nothing_to_a_translator(model: Translator, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        PICTURES["gray"].save(tmp_path / f"in/{i}.png")
    (tmp_path / "in/labels.csv").write_text("file,label\n0.png,cat\n1.png,cat\n")
    assert "3 translated pictures are" in translate(model, tmp_path / "in", tmp_path / "out")
    assert len(prepare_pairs(tmp_path / "in", tmp_path / "out", paired=True)) == 3


def test_names_that_would_meet_stay_apart(model: Translator, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.gif", "a.png", "b.gif", "b.bmp", "v1.5.webp"):
        PICTURES["gray"].save(source / name)
    translate(model, source, tmp_path / "out")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(found) == 5 and {"a.gif.png", "a.png", "b.png", "v1.5.webp"} < found


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["photo", "photo.png"], ["photo-2.png", "photo.png"]),
        (["a.gif", "a.gif.png", "a.png"], ["a-2.png", "a.gif.png", "a.png"]),
        (["../a.png", "a.png", "/a.png", "x/../a.png"], ["a-2.png", "a.png", "a-3.png", "x/a.png"]),
        (["\N{REPLACEMENT CHARACTER}.png"] * 3, [f"\N{REPLACEMENT CHARACTER}{end}.png" for end in ("", "-2", "-3")]),
        (["x", "x.png/1.png", "v1.5"], ["x-2.png", "x.png/1.png", "v1.5.png"]),
        (["C:/Users/me/x.png", "C:x.png", "d:e:..", "12:30.png"], ["C/Users/me/x.png", "Cx.png", "de...png", "12:30.png"]),
        (["IMG.gif", "IMG.PNG", "img.png", "deep", "Deep.PNG/1.png"],
         ["IMG.gif.png", "IMG.PNG", "img-2.png", "deep-2.png", "Deep.PNG/1.png"]),
    ],
)
def test_every_translation_has_a_name_of_its_own_that_leads_nowhere_else(names: list[str], written: list[str]) -> None:
    assert output_names(names) == written


def test_a_very_long_name_does_not_end_a_folder(model: Translator, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    name = "x" * 251 + ".png"  # as long as a file system takes
    PICTURES["dot"].save(tmp_path / "in" / name)
    assert "1 translated" in translate(model, tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_one_picture_into_a_folder_keeps_its_name(model: Translator, tmp_path: Path) -> None:
    PICTURES["gray"].save(tmp_path / "one.jpg")
    assert "out/one.jpg" in translate(model, tmp_path / "one.jpg", tmp_path / "out")
    assert Image.open(tmp_path / "out/one.jpg").size == (40, 30)


@pytest.mark.parametrize(
    ("source", "out", "sheet"),
    [
        ("in", "in", None), ("in", "in/deeper", None), ("in", "in/v.2", None), ("in", "", None), ("in.zip", "in.zip", None),
        ("in/one.png", "in/one.png", None), ("in/one.png", "in", None), ("in", "out", "in/one.png"),
        ("in/one.png", "out.png", "in/one.png"), ("in.zip", "out", "in.zip"),
        ("in/one.png", "out.png", "out.png"), ("in", "out", "out/one.png"), ("in", "out", "out"), ("in", "o.zip", "o.zip"),
    ],
)  # fmt: skip
def test_originals_and_translations_are_never_overwritten(
    source: str, out: str, sheet: str | None, model: Translator, tmp_path: Path
) -> None:
    for name in ("in/one.png", "in/in/one.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PICTURES["gray"].save(tmp_path / name)
    (tmp_path / "in/v.2").mkdir()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(tmp_path / "in/one.png", "one.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(ValueError, match=r"an original: choose another place|the originals: choose another place|replace a translation: choose another name|written as a .png"):
        translate(model, tmp_path / source, tmp_path / out, sheet=sheet and tmp_path / sheet)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_zip_of_hostile_names_and_a_folder_with_a_dot(model: Translator, tmp_path: Path) -> None:
    PICTURES["dot"].save(tmp_path / "one.png")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("../a.png", "a.png"):
            archive.write(tmp_path / "one.png", name)
    (tmp_path / "out.v2").mkdir()
    for out in ("out.zip", "out.v2"):
        assert "2 translated" in translate(model, tmp_path / "in.zip", tmp_path / out)
    assert sorted(zipfile.ZipFile(tmp_path / "out.zip").namelist()) == ["a-2.png", "a.png"]
    assert sorted(path.name for path in (tmp_path / "out.v2").iterdir()) == ["a-2.png", "a.png"]


def test_progress_counts_pictures_and_the_tiles_of_one(model: Translator, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.png", "b.png"):
        PICTURES["gray"].save(source / name)
    (source / "c.png").write_bytes(b"nothing")
    seen: list[tuple[int, int]] = []
    translate(model, source, tmp_path / "out", progress=lambda *at: seen.append(at), say=lambda text: None)
    assert seen[-1][0] == seen[-1][1] and len(seen) >= 2
    seen.clear()
    PICTURES["long"].save(tmp_path / "long.png")
    translate(model, tmp_path / "long.png", tmp_path / "long-out.png", progress=lambda *at: seen.append(at))
    assert seen == [(i + 1, 7) for i in range(7)]


def test_what_cannot_be_done_is_a_sentence(model: Translator, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be used.*\.$"):
        model.translate(tmp_path / "x.png")
    with pytest.raises(ValueError, match="not 'up'"):
        model.translate(PICTURES["gray"], "up")
    for array in (np.zeros((20, 20, 3), np.uint8), np.zeros((3, 20, 20)), np.zeros((20, 20), np.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \[C,H,W\] with 1, 3 or 4 channels, not"):
            model.translate(array)
    with pytest.raises(ValueError, match=r"folder or a \.zip"):
        translate(model, tmp_path, tmp_path / "many.png", say=lambda text: None)


def test_equal_names_are_pairs_where_a_model_learned_from_pairs_or_pairs_are_asked_for(
    model: Translator, tmp_path: Path
) -> None:
    def measured(paired: bool, metrics: list[str] | None = None, second: Path = model.folder.parent / "b.npz"):
        described = model.description | {"network": model.description["network"] | {"paired": paired}}
        apart = Translator(model.networks, model.spec, described, torch.device("cpu"), model.folder)
        return translate_data(apart, [str(model.folder.parent / "a.npz"), str(second)], "a2b", metrics, None, 5, 0, None)

    made, truths, paired = measured(False)
    assert not paired and len(made) == 5 and len(truths) == 8 and "trained without pairs" in made.notes[-1]
    assert measured(False, ["ms-ssim"])[2] and measured(True)[2]
    (tmp_path / "b").mkdir()
    PICTURES["gray"].save(tmp_path / "b/other.png")
    made, truths, paired = measured(True, second=tmp_path / "b")
    assert not paired and len(truths) == 1 and "No file of" in made.notes[-1]
    with pytest.raises(ValueError, match="No file of"):
        measured(True, ["psnr"], tmp_path / "b")


# ---- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 128, 500])
def test_tiles_cover_a_side_and_share_enough(length: int) -> None:
    begins = starts(length, 64, 16)
    assert begins[0] == 0 and begins[-1] + 64 >= length
    assert all(a + 64 - b >= 16 for a, b in zip(begins, begins[1:], strict=False))


@pytest.mark.parametrize("size", [(150, 90), (64, 300), (65, 64)], ids=str)
def test_tiles_equal_the_whole_for_a_known_reach(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(*(torch.nn.Conv2d(2, 2, 3, padding=1) for _ in range(4)))  # sees 4 pixels far
    x = torch.randn(1, 2, *size)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(net, x, 64, 16), net(x), atol=1e-5, rtol=1e-4)


def test_blended_tiles_of_an_unsteady_network_have_no_step() -> None:
    calls = iter(range(1000))
    y = in_tiles(lambda x: torch.full_like(x, float(next(calls) % 2)), torch.zeros(1, 1, 64, 400), 64, 32)
    assert (y[..., 1:] - y[..., :-1]).abs().max() < 0.1 and y.min() == 0 and y.max() == 1


def test_a_normalising_network_treats_all_tiles_as_parts_of_one_picture(model: Translator) -> None:
    """By itself an empty tile would be stretched into noise, and each tile would have a contrast of its own."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.InstanceNorm2d(8, affine=True), torch.nn.Conv2d(8, 3, 1))
    net.least = 2
    ramp = torch.linspace(0, 255, 900).expand(1, 3, 400, 900).to(torch.uint8).clone()
    ramp[..., :300, 500:] = 128  # an empty tile
    whole, tiled = (model.render(ramp, net, tile=tile, overlap=16).int() for tile in (1000, 128))
    assert (whole - tiled).abs().max() <= 3 and whole.float().std() > 10

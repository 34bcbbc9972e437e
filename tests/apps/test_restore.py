"""A restorer in use: every mode, depth and size; masks, alpha, color and metadata."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from limner.apps.pixels import loses_depth, planes, upright_exif
from limner.apps.restore import KEEPS_COLOR, color_shift
from restorers import DEEP, Same, context, deep_color_png, filler, noise, photo, restorer

# ---- modes, depths and sizes -----------------------------------------------------------------------------------------

PICTURES = {
    "dot": (Image.new("RGB", (1, 1), (200, 3, 9)), "RGB"),
    "long": (photo(4000, 30), "RGB"),
    "gray": (Image.fromarray(noise(30, 40)), "L"),
    "bits": (Image.fromarray(noise(30, 40)).convert("1"), "L"),
    "deep": (DEEP, "I;16"),
    "integers": (Image.fromarray(np.asarray(DEEP).astype(np.int32)), "I;16"),
    "clear": (Image.fromarray(noise(30, 40, 4)), "RGBA"),
    "clear gray": (Image.fromarray(noise(30, 40, 2)), "LA"),
    "palette": (photo(40, 30).quantize(32), "RGB"),
    "cmyk": (photo(40, 30).convert("CMYK"), "RGB"),
    "gray colors": (Image.fromarray(noise(30, 40)).convert("RGB"), "RGB"),
}


@pytest.mark.parametrize("kind", list(PICTURES))
@pytest.mark.parametrize(("channels", "scale"), [(3, 1), (1, 1), (3, 2), (1, 2), (4, 2)])
def test_every_kind_of_picture_keeps_its_mode(kind: str, channels: int, scale: int) -> None:
    before, mode = PICTURES[kind]
    model = restorer(channels, scale)
    after = model.restore(before)
    assert after.mode == mode and after.size == (before.width * scale, before.height * scale)
    if kind == "gray colors":
        pixels = np.asarray(after)
        assert (pixels == pixels[..., :1]).all()
    if "clear" in kind and scale == 1:
        assert np.array_equal(np.asarray(after.getchannel("A")), np.asarray(before.getchannel("A")))
    if kind not in ("clear", "clear gray", "bits", "cmyk", "palette"):  # it does something
        assert not np.array_equal(np.asarray(after), np.asarray(model.restore(before, strength=0)))


@pytest.mark.parametrize("kind", list(PICTURES))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_identity_returns_every_picture_exactly(kind: str, channels: int) -> None:
    """Nothing is lost on the way into the network and out: 16 bits neither, and whatever the color of hidden pixels is."""
    before = planes(PICTURES[kind][0]).image()
    after = restorer(channels, task="denoise", net=Same(channels)).restore(PICTURES[kind][0])
    shown = np.asarray(before) if before.mode not in ("LA", "RGBA") else np.where(
        np.asarray(before)[..., -1:] > 0, np.asarray(before), 0
    )  # fmt: skip
    made = np.asarray(after) if after.mode not in ("LA", "RGBA") else np.where(np.asarray(after)[..., -1:] > 0, np.asarray(after), 0)
    assert np.array_equal(made, shown)


def test_a_gray_model_restores_each_color_by_itself() -> None:
    model, picture = restorer(1), photo(60, 50)
    together = model.restore(picture)
    apart = [model.restore(channel) for channel in picture.split()]
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(together.split(), apart, strict=True))


def test_colors_that_nobody_sees_leave_no_fringe() -> None:
    """Transparent pixels are stored black; the visible red is restored as if all were red."""
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:, :20] = 200, 30, 30, 255
    made = np.asarray(restorer(3, 2).restore(Image.fromarray(picture)))
    flat = np.asarray(restorer(3, 2).restore(Image.new("RGB", (40, 40), (200, 30, 30))))
    assert np.abs(made[4:-4, 4:36, :3].astype(int) - flat[4:-4, 4:36]).max() <= 8  # the mean color is rounded


def test_enlarged_alpha_comes_from_the_network_and_flat_alpha_stays_flat() -> None:
    picture = np.concatenate([noise(40, 40, 3), np.full((40, 40, 1), 255, np.uint8)], -1)
    opaque = restorer(3, 2).restore(Image.fromarray(picture))
    assert opaque.mode == "RGBA" and (np.asarray(opaque)[..., 3] == 255).all()
    picture[..., 3] = 77
    assert (np.asarray(restorer(3, 2).restore(Image.fromarray(picture)))[..., 3] == 77).all()
    picture[:, 20:, 3] = 255
    alpha = np.asarray(restorer(3, 2).restore(Image.fromarray(picture)))[..., 3]
    assert (alpha[:, :34] == 77).all() and (alpha[:, 46:] == 255).all() and len(np.unique(alpha)) > 3


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bit_files_stay_16_bit(ending: str, tmp_path: Path) -> None:
    from limner.apps.restore_files import restore

    DEEP.save(tmp_path / f"deep{ending}")
    restore(restorer(net=Same()), tmp_path / f"deep{ending}", tmp_path / f"out{ending}")
    with Image.open(tmp_path / f"out{ending}") as made:
        assert made.mode == "I;16" and np.array_equal(np.asarray(made), np.asarray(DEEP))


def test_a_picture_smaller_than_a_u_net_needs_and_one_of_many_tiles() -> None:
    model = restorer(net=context())
    assert model.restore(photo(3, 2)).size == (3, 2)
    large = photo(500, 300)
    whole, tiled = (np.asarray(model.restore(large, tile=tile)).astype(int) for tile in (600, 256))
    assert np.abs(whole - tiled).max() <= 2


def test_a_colorizer_takes_luma_and_makes_color() -> None:
    model = restorer(net=context(3, 1), task="colorize")
    gray = photo(60, 50).convert("L")
    made = model.restore(gray)
    assert made.mode == "RGB" and np.abs(np.asarray(made.convert("L")).astype(int) - np.asarray(gray)).mean() < 3
    assert planes(made).color.mode == "RGB"
    assert model.restore(DEEP).mode == "RGB" and model.restore(DEEP, strength=0.5).mode == "RGB"
    assert model.restore(Image.merge("LA", (gray, gray))).mode == "RGBA"


# ---- color, strength and scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_color_is_kept(whole: bool, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr("limner.apps.restore.WHOLE_BYTES", 0)
    picture = photo(500, 400)
    before = np.asarray(picture, float).mean((0, 1))
    for task in KEEPS_COLOR:
        made = restorer(channels, task=task, net=Same(channels, 0.05)).restore(picture)
        assert np.abs(np.asarray(made, float).mean((0, 1)) - before).max() < 0.2
    made = restorer(channels, task="low-light", net=Same(channels, 0.05)).restore(picture)
    assert np.abs(np.asarray(made, float).mean((0, 1)) - before).min() > 5


def test_clipped_noise_and_scratches_do_not_shift_the_color() -> None:
    clean = torch.full((1, 1, 64, 64), -1.0)
    clean[..., 32:] = 0
    noisy = (clean + 0.2 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    noisy[..., 10:13, :] = 1
    assert (noisy - clean).mean() > 0.05
    assert color_shift([(noisy, clean)], 1).abs().max() < 0.015


def test_strength_blends_with_the_picture_or_its_bicubic_enlargement() -> None:
    picture = photo(60, 50)
    one, two = restorer(3, 1), restorer(3, 2)
    assert np.array_equal(np.asarray(one.restore(picture, strength=0)), np.asarray(picture))
    bicubic = picture.resize((120, 100), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(two.restore(picture, strength=0)), np.asarray(bicubic))
    small = picture.resize((90, 75), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(two.restore(picture, strength=0, scale=1.5)), np.asarray(small))
    for model, base in ((one, picture), (two, bicubic)):
        full, half = np.asarray(model.restore(picture), float), np.asarray(model.restore(picture, strength=0.5), float)
        assert np.abs(half - (full + np.asarray(base, float)) / 2).max() <= 0.5 and np.abs(full - half).max() > 5
    clear = Image.merge("RGBA", (*Image.new("RGB", (20, 20), "white").split(), Image.new("L", (20, 20))))
    clear.paste((200, 40, 40, 255), (5, 5, 15, 15))  # visible red among invisible white
    seen = np.asarray(two.restore(clear, strength=0))
    assert (np.abs(seen[seen[..., 3] > 0][:, :3] - np.array([200.0, 40, 40])) <= 2).all()
    for kind in PICTURES:
        before = planes(PICTURES[kind][0]).image()
        assert np.array_equal(np.asarray(one.restore(PICTURES[kind][0], strength=0)), np.asarray(before))


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
def test_a_picture_is_not_copied_where_its_planes_are_itself(mode: str) -> None:
    picture = {"L": photo(40, 30).convert("L"), "I;16": DEEP, "RGB": photo(40, 30)}[mode]
    assert planes(picture).color is picture and np.array_equal(np.asarray(restorer(3).restore(picture, strength=0)), np.asarray(picture))


def test_a_smaller_scale_is_the_output_made_smaller() -> None:
    model, picture = restorer(3, 2), photo(61, 50)
    made = model.restore(picture, scale=1.5)
    assert made.size == (92, 75)
    full = model.restore(picture)
    assert np.array_equal(np.asarray(made), np.asarray(full.resize((92, 75), Image.Resampling.LANCZOS)))
    assert model.restore(picture, scale=2).size == full.size and model.restore(Image.new("L", (1, 1)), scale=1.2).size == (1, 1)
    assert model.restore(PICTURES["clear"][0], scale=1.5).size == (60, 45)


# ---- holes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["color", "gray", "deep", "clear"])
def test_a_mask_is_filled_and_all_else_stays(channels: int, kind: str) -> None:
    picture = {"color": photo(40, 30), "gray": photo(40, 30).convert("L"), "deep": DEEP, "clear": PICTURES["clear"][0]}[kind]
    hole = np.zeros((30, 40), bool)
    hole[10:20, 5:25] = True
    mask = Image.fromarray(hole)  # mode 1
    made = filler(channels).restore(picture, mask=mask)
    before, after = np.asarray(planes(picture).image()), np.asarray(made)
    assert made.mode == planes(picture).mode or kind == "clear"
    assert np.array_equal(after[~hole], before[~hole]) or (
        kind == "clear" and np.array_equal(after[~hole & (before[..., 3] > 0)], before[~hole & (before[..., 3] > 0)])
    )
    assert (after[hole] != before[hole]).mean() > 0.5
    changed = np.array(picture)
    changed[hole] = 0
    if kind != "clear":
        again = filler(channels).restore(Image.fromarray(changed), mask=mask)
        assert np.array_equal(np.asarray(again), after)  # what was in the hole does not matter


def test_transparent_pixels_are_the_hole_and_are_filled() -> None:
    picture = np.concatenate([np.asarray(photo(40, 30)), np.full((30, 40, 1), 255, np.uint8)], -1)
    picture[10:20, 5:25] = 0
    made = filler().restore(Image.fromarray(picture))
    assert made.mode == "RGB" and np.array_equal(np.asarray(made)[:10], picture[:10, :, :3])
    assert filler().restore(Image.fromarray(picture), strength=0).mode == "RGBA"
    mask = Image.fromarray(picture[..., 3] == 0)
    assert np.array_equal(np.asarray(filler().restore(Image.fromarray(picture[..., :3]), mask=mask)), np.asarray(made))


def test_a_mask_drawn_on_transparency_is_a_hole_only_where_it_is_drawn() -> None:
    hole = np.zeros((30, 40), np.uint8)
    hole[10:20, 5:25] = 255
    drawn = np.full((30, 40, 4), 255, np.uint8)  # white everywhere, though visible in the hole alone
    drawn[..., 3] = hole
    made = [filler().restore(photo(40, 30), mask=Image.fromarray(mask)) for mask in (hole, drawn)]
    assert np.array_equal(np.asarray(made[0]), np.asarray(made[1]))


def test_large_pictures_are_filled_in_tiles_and_only_where_there_are_holes() -> None:
    net = Same(4)
    net.radius, net.forward = None, lambda x: (setattr(net, "calls", net.calls + 1), x[:, :3] + 1)[1]  # type: ignore[assignment]
    model = restorer(task="inpaint", net=net)
    hole = np.zeros((400, 600), np.uint8)
    hole[20:30, 20:30] = 255
    made = model.restore(photo(600, 400), mask=Image.fromarray(hole), tile=256)
    assert net.calls == 1
    assert np.array_equal(np.asarray(made)[hole == 0], np.asarray(photo(600, 400))[hole == 0])
    assert (np.asarray(made)[hole > 0] == 255).all()  # gray of 128 plus half of the range, clipped


# ---- metadata --------------------------------------------------------------------------------------------------------


def _exif(**more: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return exif


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_and_the_color_profile_are_kept(ending: str, tmp_path: Path) -> None:
    from limner.apps.restore_files import restore

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo(40, 30).save(tmp_path / f"a.{ending}", exif=_exif(), icc_profile=profile, dpi=(300, 300))
    for out in ("jpg", "png", "webp", "tif"):
        restore(restorer(3, 2), tmp_path / f"a.{ending}", tmp_path / f"out.{out}")
        with Image.open(tmp_path / f"out.{out}") as made:
            made.load()
            assert made.size == (60, 80) and made.info["icc_profile"] == profile
            exif = made.getexif()
            assert exif.get(0x0112, 1) == 1 and exif[0x010F] == "Maker"
            if out != "tif":
                assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"


def test_only_the_orientation_of_exif_changes() -> None:
    before = _exif().tobytes()
    after = upright_exif(before)
    assert len(after) == len(before) and sum(a != b for a, b in zip(before, after, strict=True)) == 1
    with Image.open(io.BytesIO(_saved(Image.new("RGB", (30, 20)), exif=before))) as picture:
        turned = restorer().restore(picture)
    assert turned.size == (20, 30) and turned.info["exif"] == after


def _saved(image: Image.Image, form: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def test_damaged_exif_and_a_foreign_profile_are_left_out() -> None:
    for exif in (b"hello", b"Exif\0\0II*\0\xff\xff\0\0", b"Exif\0\0MM"):
        with Image.open(io.BytesIO(_saved(photo(20, 20), exif=exif))) as picture:
            assert "exif" not in restorer().restore(picture).info
    cmyk = b"\0" * 16 + b"CMYK" + b"\0" * 108
    with Image.open(io.BytesIO(_saved(photo(20, 20).convert("CMYK"), "JPEG", icc_profile=cmyk))) as picture:
        assert "icc_profile" not in restorer().restore(picture).info
    gray = b"\0" * 16 + b"GRAY" + b"\0" * 108
    with Image.open(io.BytesIO(_saved(photo(20, 20).convert("L"), icc_profile=gray))) as picture:
        assert restorer().restore(picture).info["icc_profile"] == gray
        assert "icc_profile" not in restorer(net=context(3, 1), task="colorize").restore(picture).info


def test_color_of_16_bits_is_recognized() -> None:
    assert loses_depth(Image.open(io.BytesIO(deep_color_png())))
    assert not loses_depth(Image.open(io.BytesIO(_saved(DEEP)))) and not loses_depth(Image.open(io.BytesIO(_saved(photo(9, 9)))))


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength goes from 0 .* to 1, and 1.5 is outside"),
        ({"strength": float("nan")}, "strength goes from 0"),
        ({"scale": 3}, "enlarges 2 times: give a scale from 1 to 2, not 3"),
        ({"scale": 0.5}, "give a scale from 1 to 2, not 0.5"),
        ({"tile": 3}, "16 to 8,192 pixels a side, not 3"),
        ({"ensemble": 3}, "1, 2, 4 or 8 copies of the picture, not of 3"),
        ({"mask": Image.new("L", (20, 20))}, "this one does super-resolution: leave it out"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restorer(3, 2, "super-resolution").restore(photo(20, 20), **options)


def test_what_cannot_be_done_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x.png cannot be used: not a picture"):
        restorer().restore(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(_saved(photo(90, 90))[:3000])
    with pytest.raises(ValueError, match=r"y.png cannot be used: truncated"):
        restorer().restore(tmp_path / "y.png")
    with pytest.raises(ValueError, match=r"uint8 \[C,H,W\]"):
        restorer().restore(np.zeros((20, 20, 3)))
    with pytest.raises(ValueError, match="keeps the size of a picture: leave the scale out"):
        restorer().restore(photo(20, 20), scale=2)
    with pytest.raises(ValueError, match="the picture has none: give a mask that is white"):
        filler().restore(photo(20, 20))
    with pytest.raises(ValueError, match="The mask has 9x8 pixels and the picture 20x20"):
        filler().restore(photo(20, 20), mask=Image.new("L", (9, 8)))

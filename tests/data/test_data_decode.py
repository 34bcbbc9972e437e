"""Every kind of picture becomes the right pixels: modes, depth, orientation, transparency and geometry."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from limner.data.image import Damaged, decode_image, gray_to_uint8, header, open_image, reason, resized, upright

WHITE = (255, 255, 255)


def stored(image: Image.Image, kind: str = "PNG", **options) -> Image.Image:
    """An image as it comes back from a file, not yet decoded."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return open_image(buffer)


def pixels(image: Image.Image, channels: int, size: tuple[int, int] = (16, 16), fit: str = "crop") -> np.ndarray:
    return decode_image(image, size, channels, fit, WHITE)[0]


@pytest.mark.parametrize("value, expected", [(0, 0), (0x8000, 128), (0xFFFF, 255), (0x0100, 1), (0x00FF, 1)])
def test_sixteen_bits_are_scaled_and_not_clipped(value: int, expected: int) -> None:
    for kind in ("PNG", "TIFF"):
        image = stored(Image.fromarray(np.full((16, 16), value, np.uint16)), kind)
        assert abs(int(pixels(image, 1)[0, 0, 0]) - expected) <= 1


def test_sixteen_bits_big_endian_and_mode_i() -> None:
    big = Image.frombytes("I;16B", (16, 16), np.full((16, 16), 0x8000, ">u2").tobytes())
    assert abs(int(pixels(big, 1)[0, 0, 0]) - 128) <= 1
    assert abs(int(pixels(Image.fromarray(np.full((16, 16), 0x8000, np.int32)), 1)[0, 0, 0]) - 128) <= 1


def test_floats_take_their_usual_ranges() -> None:
    assert gray_to_uint8(np.array([[0.0, 0.5, 1.0]], np.float32)).tolist() == [[0, 128, 255]]
    assert gray_to_uint8(np.array([[0.0, 100, 255]], np.float32)).tolist() == [[0, 100, 255]]
    assert gray_to_uint8(np.array([[-5.0, 0, 5]], np.float32)).tolist() == [[0, 128, 255]]


def test_exif_orientation_six_turns_the_picture() -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))  # left half red: upright (turned clockwise) it is the top half
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP"):
        file = stored(image, kind, exif=exif)
        if kind != "PNG" or "exif" in file.info:
            assert (header(file).height, header(file).width) == (40, 20)
        array = pixels(file, 3, (40, 20))
        assert array[5, 10, 0] > 200 and array[5, 10, 2] < 60
        assert array[35, 10, 2] > 200 and array[35, 10, 0] < 60


@pytest.mark.parametrize("value", range(1, 9))
def test_upright_is_pillows_turn_once(value: int, noise) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    for kind in ("PNG", "WEBP", "TIFF"):
        turned = upright(stored(noise(20, 30), kind, exif=exif))
        expected = ImageOps.exif_transpose(stored(noise(20, 30), kind, exif=exif))
        assert np.array_equal(np.asarray(turned), np.asarray(expected))
        assert np.array_equal(np.asarray(upright(turned)), np.asarray(turned))


def test_damaged_exif_is_no_reason_to_lose_a_picture_and_damaged_pixels_are(noise) -> None:
    assert upright(stored(noise(20, 30), exif=b"hello")).size == (30, 20)
    whole = io.BytesIO()
    noise(20, 30).save(whole, "PNG")
    with pytest.raises(Damaged, match="truncated"):
        upright(open_image(io.BytesIO(whole.getvalue()[:-300])))


def test_jpeg_draft_of_a_turned_picture_is_large_enough(noise) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    image = stored(noise(128, 512), "JPEG", exif=exif)
    decode_image(image, (128, 32), 3, "crop", WHITE)
    assert image.size == (256, 64)  # as stored, half of it: twice what is needed


def test_palette_with_transparency_keeps_it() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    file = stored(image, transparency=1)
    assert header(file).alpha
    array = pixels(file, 4)
    assert array[0, 0].tolist() == [255, 0, 0, 255]
    assert array[0, 15].tolist() == [*WHITE, 0]  # clear pixels take the background's color
    assert pixels(stored(image, transparency=1), 3)[0, 15].tolist() == [*WHITE]


def test_grey_with_alpha_and_one_bit() -> None:
    image = Image.merge("LA", (Image.new("L", (16, 16), 100), Image.new("L", (16, 16), 128)))
    assert pixels(stored(image), 4)[3, 3].tolist() == [100, 100, 100, 128]
    assert abs(int(pixels(stored(image), 1)[3, 3, 0]) - round(100 * 128 / 255 + 127)) <= 1
    assert pixels(stored(Image.new("1", (16, 16), 1)), 1)[0, 0].tolist() == [255]


def test_cmyk_red_is_reddish() -> None:
    for kind in ("JPEG", "TIFF"):
        red, green, blue = pixels(stored(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind), 3)[8, 8]
        assert red > 200 and green < 60 and blue < 60


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        array = pixels(stored(frames[0], kind, save_all=True, append_images=frames[1:]), 3)
        assert array[8, 8, 0] > 240 and array[8, 8, 2] < 15


def test_no_dark_fringe_where_transparency_ends() -> None:
    array = np.zeros((64, 64, 4), np.uint8)  # clear black around
    array[16:48, 16:48] = (255, 200, 100, 255)
    small, real = decode_image(stored(Image.fromarray(array)), (24, 24), 4, "crop", WHITE)
    seen = small[small[..., 3] > 8].astype(int)
    assert real and np.abs(seen[:, :3] - (255, 200, 100)).max() <= 16  # rounding at faint alpha, not a dark fringe
    assert (small[small[..., 3] == 0][:, :3] == 255).all()


def test_geometry_of_crop_pad_and_stretch() -> None:
    image = Image.new("RGB", (50, 30), "red")
    image.paste("lime", (10, 0, 40, 30))
    assert resized(image, (20, 36), "pad").size == (33, 20)
    assert resized(image, (20, 36), "crop").size == resized(image, (20, 36), "stretch").size == (36, 20)
    square = pixels(stored(image), 3, (30, 30))
    assert (square[:, 2:-2] == (0, 255, 0)).all()  # the central 30 columns and no red
    padded = decode_image(stored(image), (20, 36), 3, "pad", (0, 0, 255))[0]
    assert (padded[:, 0] == (0, 0, 255)).all() and (padded[:, -1] == (0, 0, 255)).all()
    assert padded[10, 18].tolist() == [0, 255, 0]
    clear = decode_image(stored(image), (20, 36), 4, "pad", (0, 0, 255))[0]
    assert (clear[:, 0] == (0, 0, 255, 0)).all() and clear[10, 18].tolist() == [0, 255, 0, 255]
    stretched = pixels(stored(image), 3, (20, 36), "stretch")
    assert stretched[10, 1].tolist() == [255, 0, 0] and stretched[10, 34].tolist() == [255, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(16, 70), st.integers(16, 70)),
    st.sampled_from(["crop", "pad", "stretch"]), st.sampled_from([1, 3, 4]), st.sampled_from(["L", "RGB", "RGBA"]),
)
def test_any_size_to_any_size(source: tuple, target: tuple, fit: str, channels: int, mode: str) -> None:
    array, _ = decode_image(Image.new(mode, (source[1], source[0])), target, channels, fit, WHITE)
    assert array.shape == (*target, channels) and array.dtype == np.uint8


def test_a_picture_of_the_right_size_is_untouched(noise) -> None:
    for mode, channels in (("L", 1), ("RGB", 3)):
        image = noise(20, 36, mode)
        assert np.array_equal(pixels(stored(image), channels, (20, 36)).squeeze(), np.asarray(image))


def bomb() -> bytes:
    """A PNG of a few bytes that announces 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ihdr = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("content, words", [
    (b"", "empty"), (b"this is text, not a picture", "not a picture"), (bomb(), "too large"),
    (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC needs conversion"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
])
def test_unusable_files_have_a_reason(content: bytes, words: str) -> None:
    with pytest.raises(Damaged, match=words):
        open_image(io.BytesIO(content))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_files_cut_anywhere_are_damaged_and_never_crash(kind: str, noise) -> None:
    buffer = io.BytesIO()
    noise(64, 64).save(buffer, kind)
    content = buffer.getvalue()
    for part in (0.01, 0.1, 0.5, 0.8):
        with pytest.raises(Damaged) as caught:
            decode_image(open_image(io.BytesIO(content[: int(len(content) * part)])), (64, 64), 3, "crop", WHITE)
        assert 0 < len(str(caught.value)) < 80


def test_reasons_are_plain_words() -> None:
    assert reason(PermissionError(13, "x")) == "no permission to read it"
    assert reason(OSError("image file is truncated (5 bytes not processed)")) == "truncated: the file ends too early"
    assert reason(OSError(5, "Input/output error")) == "cannot be read (Input/output error)"

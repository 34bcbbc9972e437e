"""One picture: from a file's bytes to uint8 [H,W,C] of a stated size, upright, with every mode understood.

Color profiles are not applied; CMYK is converted without one. Only the first frame of an animation is used.
"""

from __future__ import annotations

import errno
import functools
import math
from dataclasses import dataclass
from typing import BinaryIO, TypeGuard

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError

FITS = ("crop", "pad", "stretch")
# An explicit list: Pillow's others run Ghostscript (EPS), are video, or are no pictures of pixels. MPO comes with JPEG.
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "DIB", "ICO", "PCX",
           "SGI", "QOI", "DDS", "PSD", "ICNS", "XBM", "XPM"]
ENDINGS = frozenset(
    [".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx", ".sgi", ".qoi", ".dds", ".psd", ".icns", ".xbm", ".xpm"]
)
HEIC = "HEIC needs conversion to JPEG or PNG first"
UNREADABLE = {  # pictures that we cannot read -> what to do about it
    **dict.fromkeys((".heic", ".heif", ".hif"), HEIC),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"),
                    "camera raw needs conversion to JPEG or PNG first"),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ai"), "a vector drawing needs conversion to PNG first"),
    ".jxl": "JPEG XL needs conversion to PNG first",
}
MAX_PIXELS = 178_000_000  # about where Pillow itself refuses; a decoded RGBA picture is then 0.7 GB
ORIENTATION = 0x0112      # the EXIF tag
TURNS = {                 # its value -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Damaged(ValueError):
    """A picture that cannot be used; its text is the reason in a few plain words."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are decoded; height and width are those of the upright picture."""

    height: int
    width: int
    mode: str     # Pillow's
    alpha: bool   # it may have transparency
    color: bool  # it may have color


def reason(error: BaseException, head: bytes = b"") -> str:
    """Why a picture cannot be read, in a few plain words. head: the first bytes of the file, where known."""
    if isinstance(error, Damaged):
        return str(error)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc"):
        return HEIC
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, whatever its name says" if head else "not a picture"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large to decode safely (over {MAX_PIXELS // 1_000_000} million pixels)"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "it is gone"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    text = str(error).lower()
    if "truncated" in text or isinstance(error, EOFError) or "unexpected end" in text:
        return "cut short: the file ends too early"
    if _of_system(error):
        return f"cannot be read ({error.strerror or error})"
    return "damaged: its contents cannot be decoded"


def passing(error: BaseException) -> bool:
    """Whether the system and not the picture is at fault, so that the next try may go well."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, MemoryError) and not _of_system(cause):
        cause = cause.__cause__
    return cause is not None


def _of_system(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)  # decoders raise OSError by themselves


@functools.cache
def formats() -> list[str]:
    """Those of FORMATS that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def opened(file: BinaryIO) -> Image.Image:
    """An open file -> a Pillow image with its header read and its size checked; no pixel is decoded. Raises Damaged."""
    head = b""
    try:
        head = file.read(16)
        if not head:
            raise Damaged("empty file")
        file.seek(0)
        image = Image.open(file, formats=formats())
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise Damaged(reason(error, head)) from error
    if image.width * image.height == 0:
        raise Damaged("it has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise Damaged(f"too large to decode safely ({image.width}x{image.height} pixels)")
    return image


def orientation(image: Image.Image) -> int:
    """The EXIF orientation 1 to 8. Reads no pixels; asking a PNG without EXIF would decode it whole."""
    if "exif" not in image.info or image.format == "TIFF":  # Pillow turns TIFF itself
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to lose the picture
        return 1
    return value if value in range(1, 9) else 1


def header(image: Image.Image) -> Header:
    """An opened image -> its Header, without decoding."""
    width, height = image.size if orientation(image) < 5 else image.size[::-1]
    alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    color = image.mode not in ("1", "L", "LA", "La", "I", "F") and not image.mode.startswith("I;16")
    return Header(height, width, image.mode, alpha, color)


def as_color(background: str) -> tuple[int, int, int]:
    """A color name, #rrggbb or rgb(...) -> (red, green, blue). Raises ValueError in one sentence."""
    try:
        return ImageColor.getrgb(background)[:3]
    except ValueError:
        raise ValueError(
            f"{background!r} is not a color: give a name such as white, or #rrggbb, as background."
        ) from None


def scales(source: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[float, float]:
    """Enlargement (vertical, horizontal) that `fit` applies to a picture of (H,W) `source` for `target`."""
    tall, wide = target[0] / source[0], target[1] / source[1]
    if fit == "stretch":
        return tall, wide
    both = max(tall, wide) if fit == "crop" else min(tall, wide)
    return both, both


def wide_gray(values: np.ndarray) -> np.ndarray:
    """Gray of more than 8 bits [H,W] -> uint8, scaled and not clipped.

    uint16 keeps its full range. int32 and float carry no range of their own: what fits 16 (8, or 0 to 1 for floats)
    bits is taken as that, anything else runs from its least to its greatest value.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if values.dtype.kind == "u":
        low, high = 0, 65535
    elif low >= 0 and high <= (1 if values.dtype.kind == "f" else 255):
        low, high = 0, 1 if values.dtype.kind == "f" else 255
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    elif low >= 0 and high <= 65535:
        low, high = 0, 65535
    scaled = (np.nan_to_num(values).astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def eight_bit(image: Image.Image) -> Image.Image:
    """A decoded image of any Pillow mode -> mode L, RGB, or RGBA where some pixel is not fully opaque."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        gray = Image.fromarray(wide_gray(values))
        clear = image.info.get("transparency")
        if isinstance(clear, int) and (values == clear).any():
            image = Image.merge("LA", (gray, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))
        else:
            image = gray
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        return image.convert("RGB") if opaque(image) else image
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """An opened image of any Pillow mode -> decoded as `eight_bit` gives it, turned as its EXIF says. Raises Damaged.

    Damaged EXIF leaves a picture as it lies. Twice is as good as once.
    """
    try:
        turn = orientation(image)
        image.load()
        if turn > 1:
            image = image.transpose(TURNS[turn])
            image.info.pop("exif", None)  # else it would be turned again
        return eight_bit(image)
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise Damaged(reason(error)) from error


def resized(image: Image.Image, target: tuple[int, int], fit: str) -> Image.Image:
    """Mode L, RGB or RGBA -> at (H,W) `target`, antialiased; with fit "pad" the largest that fits within it.

    RGBA is resized premultiplied, so that the color of clear pixels never bleeds into visible ones.
    """
    source, size, box = (image.height, image.width), (target[1], target[0]), None
    tall, wide = scales(source, target, fit)
    if fit == "crop":  # cut and resize in one, so a center between two pixels is hit exactly
        across, down = min(target[1] / wide, source[1]), min(target[0] / tall, source[0])
        left, top = (source[1] - across) / 2, (source[0] - down) / 2
        box = (left, top, left + across, top + down)
    elif fit == "pad":
        size = (max(1, round(source[1] * wide)), max(1, round(source[0] * tall)))
    if image.size == size:
        return image
    method = Image.Resampling.LANCZOS if min(tall, wide) < 1 else Image.Resampling.BICUBIC
    if image.mode != "RGBA":
        return image.resize(size, method, box, reducing_gap=3.0)
    return image.convert("RGBa").resize(size, method, box, reducing_gap=3.0).convert("RGBA")


def in_channels(image: Image.Image, channels: int, ground: tuple[int, int, int]) -> Image.Image:
    """Mode L, RGB or RGBA -> the mode of 1, 3 or 4 channels, flattened on `ground` where 4 become fewer."""
    if image.mode == "RGBA" and channels < 4:
        flat = Image.new("RGB", image.size, ground)
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return image if image.mode == wanted else image.convert(wanted)


def clean(picture: np.ndarray, ground: tuple[int, int, int]) -> None:
    """Give the fully transparent pixels of uint8 [H,W,4] the color `ground`, in place: what lay there is noise."""
    whole = picture.view(np.uint32)[..., 0]  # a pixel as one number: four times faster than by channel
    np.putmask(whole, picture[..., 3] == 0, np.array((*ground, 0), np.uint8).view(np.uint32)[0])


def opaque(image: Image.Image) -> bool:
    """Whether an RGBA image has no transparency at all."""
    return image.getchannel("A").getextrema()[0] == 255


def decoded(
    image: Image.Image, target: tuple[int, int], channels: int, fit: str, ground: tuple[int, int, int]
) -> tuple[np.ndarray, bool]:
    """An opened image -> (uint8 [H,W,C] of (H,W) `target`, whether it has real transparency). Raises Damaged.

    fit: "crop" covers the target and cuts centrally, "pad" fits within it on `ground` (clear where C is 4),
    "stretch" disregards the proportions.
    """
    try:
        turn = orientation(image)
        source = (image.height, image.width) if turn < 5 else (image.width, image.height)
        tall, wide = scales(source, target, fit)
        # a JPEG decoder can deliver 1/2, 1/4 or 1/8 for little; twice what is needed keeps the antialiasing honest
        needed = math.ceil(2 * wide * source[1] - 1e-6), math.ceil(2 * tall * source[0] - 1e-6)
        image.draft(None, needed if turn < 5 else needed[::-1])
        whole = upright(image)
        image = resized(whole, target, fit)
        real = image.mode == "RGBA" and (image is whole or not opaque(image))  # the cut may hold no clear pixel
        image = in_channels(image, channels, ground)
        if (image.height, image.width) != target:
            sheet = Image.new(image.mode, (target[1], target[0]), _plain(ground, channels))
            sheet.paste(image, ((target[1] - image.width) // 2, (target[0] - image.height) // 2))
            image = sheet
        array = np.array(image).reshape(*target, channels)
        if real and channels == 4:
            clean(array, ground)
        return array, real
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise Damaged(reason(error)) from error


def _plain(ground: tuple[int, int, int], channels: int) -> int | tuple[int, ...]:
    if channels == 1:
        return Image.new("RGB", (1, 1), ground).convert("L").getpixel((0, 0))  # type: ignore[return-value]
    return ground if channels == 3 else (*ground, 0)

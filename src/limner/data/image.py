"""Decoding of one picture: from a file's bytes to uint8 [H,W,C] of a given size, upright, for every Pillow mode.

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
# An explicit list: Pillow's other formats run Ghostscript (EPS) or are videos or vector graphics. MPO comes with JPEG.
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "DIB", "ICO", "PCX",
           "SGI", "QOI", "DDS", "PSD", "ICNS", "XBM", "XPM"]
SUFFIXES = frozenset(
    [".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx", ".sgi", ".qoi", ".dds", ".psd", ".icns", ".xbm", ".xpm"]
)
HEIC = "HEIC needs conversion to JPEG or PNG first"
UNREADABLE = {  # suffix of an unsupported format -> what to do
    **dict.fromkeys((".heic", ".heif", ".hif"), HEIC),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"),
                    "camera raw needs conversion to JPEG or PNG first"),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ai"), "a vector drawing needs conversion to PNG first"),
    ".jxl": "JPEG XL needs conversion to PNG first",
}
MAX_PIXELS = 178_000_000  # about Pillow's own limit; a decoded RGBA picture then has 0.7 GB
TOO_LARGE = f"too large to decode safely (over {MAX_PIXELS // 1_000_000} million pixels); shrink it or cut it into parts first"
DESPITE_NAME = ", despite its name"
ORIENTATION = 0x0112      # the EXIF tag
TRANSPOSITIONS = {        # EXIF orientation -> operation that turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Damaged(ValueError):
    """Raised for a picture that cannot be used; the message is the reason in a few plain words."""


@dataclass(frozen=True)
class Header:
    """Facts about a picture before its pixels are decoded; height and width are those of the upright picture."""

    height: int
    width: int
    mode: str     # Pillow's
    alpha: bool   # whether it may have transparency
    color: bool   # whether it may have color


def reason(error: BaseException, head: bytes = b"") -> str:
    """Return why a picture cannot be read, in a few plain words. head: the first bytes of the file, if known."""
    if isinstance(error, Damaged):
        return str(error)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc"):
        return HEIC
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture{DESPITE_NAME}" if head else "not a picture"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return TOO_LARGE
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "the file no longer exists"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    text = str(error).lower()
    if "truncated" in text or isinstance(error, EOFError) or "unexpected end" in text:
        return "truncated: the file ends too early"
    if _is_system_error(error):
        return f"cannot be read ({error.strerror or error})"
    return "damaged: its contents cannot be decoded"


def is_transient(error: BaseException) -> bool:
    """Return whether the system caused the error rather than the picture, so that the next attempt may succeed."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, MemoryError) and not _is_system_error(cause):
        cause = cause.__cause__
    return cause is not None


def _is_system_error(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)  # decoders raise OSError without errno


@functools.cache
def available_formats() -> list[str]:
    """Return the entries of FORMATS that this build of Pillow supports."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def open_image(file: BinaryIO) -> Image.Image:
    """Open a file as a Pillow image: reads the header and checks the size, decodes no pixels. Raises Damaged."""
    head = b""
    try:
        head = file.read(16)
        if not head:
            raise Damaged("empty file")
        file.seek(0)
        image = Image.open(file, formats=available_formats())
    except Exception as error:  # decoders may raise anything for damaged files
        raise Damaged(reason(error, head)) from error
    if image.width * image.height == 0:
        raise Damaged("it has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise Damaged(f"{image.width}x{image.height} pixels are {TOO_LARGE}")
    return image


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. Decodes no pixels (`getexif` of a PNG without EXIF would decode it)."""
    if "exif" not in image.info or image.format == "TIFF":  # Pillow turns TIFF itself
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data does not make the picture unusable
        return 1
    return value if value in range(1, 9) else 1


def header(image: Image.Image) -> Header:
    """Return the Header of an opened image, without decoding."""
    width, height = image.size if orientation(image) < 5 else image.size[::-1]
    alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    color = image.mode not in ("1", "L", "LA", "La", "I", "F") and not image.mode.startswith("I;16")
    return Header(height, width, image.mode, alpha, color)


def parse_color(background: str) -> tuple[int, int, int]:
    """Parse a color name, #rrggbb or rgb(...) to (red, green, blue). Raises ValueError for an invalid color."""
    try:
        return ImageColor.getrgb(background)[:3]
    except ValueError:
        raise ValueError(
            f"{background!r} is not a color: give a name such as white, or #rrggbb, as background."
        ) from None


def scales(source: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[float, float]:
    """Return the scale factors (vertical, horizontal) that `fit` applies to a picture of (H,W) `source` for `target`."""
    tall, wide = target[0] / source[0], target[1] / source[1]
    if fit == "stretch":
        return tall, wide
    both = max(tall, wide) if fit == "crop" else min(tall, wide)
    return both, both


def gray_to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert gray of more than 8 bits [H,W] to uint8, scaled and not clipped.

    uint16 uses its full range. For int32 and float the range is inferred: 0 to 255 or 65535 if all values lie within it (0 to
    1 for floats), otherwise the minimum to the maximum value.
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
    """Convert a decoded image of any Pillow mode to mode L, RGB, or RGBA if some pixel is not fully opaque."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        gray = Image.fromarray(gray_to_uint8(values))
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
        return image.convert("RGB") if is_opaque(image) else image
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Return an opened image of any Pillow mode decoded by `eight_bit` and rotated by its EXIF orientation. Raises Damaged.

    Damaged EXIF data leaves the picture unrotated. Idempotent.
    """
    try:
        turn = orientation(image)
        image.load()
        if turn > 1:
            image = image.transpose(TRANSPOSITIONS[turn])
            image.info.pop("exif", None)  # otherwise it would be rotated again
        return eight_bit(image)
    except Exception as error:  # decoders may raise anything for damaged files
        raise Damaged(reason(error)) from error


def resized(image: Image.Image, target: tuple[int, int], fit: str) -> Image.Image:
    """Resize an image of mode L, RGB or RGBA to (H,W) `target`, antialiased; with fit "pad" to the largest size within it.

    RGBA is resized with premultiplied alpha, so that the color of transparent pixels does not bleed into visible ones.
    """
    source, size, box = (image.height, image.width), (target[1], target[0]), None
    tall, wide = scales(source, target, fit)
    if fit == "crop":  # crop and resize in one step, with subpixel accuracy
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


def convert_channels(image: Image.Image, channels: int, fill: tuple[int, int, int]) -> Image.Image:
    """Convert an image of mode L, RGB or RGBA to 1, 3 or 4 channels; transparency that is lost is blended with `fill`."""
    if image.mode == "RGBA" and channels < 4:
        flat = Image.new("RGB", image.size, fill)
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return image if image.mode == wanted else image.convert(wanted)


def fill_transparent(picture: np.ndarray, fill: tuple[int, int, int]) -> None:
    """Set the color of fully transparent pixels of uint8 [H,W,4] to `fill`, in place: their stored color is arbitrary."""
    pixels = picture.view(np.uint32)[..., 0]  # one number per pixel: four times faster than by channel
    np.putmask(pixels, picture[..., 3] == 0, np.array((*fill, 0), np.uint8).view(np.uint32)[0])


def is_opaque(image: Image.Image) -> bool:
    """Return whether an RGBA image has no transparency."""
    return image.getchannel("A").getextrema()[0] == 255


def decode_image(
    image: Image.Image, target: tuple[int, int], channels: int, fit: str, fill: tuple[int, int, int]
) -> tuple[np.ndarray, bool]:
    """Decode an opened image to (uint8 [H,W,C] of (H,W) `target`, whether it has transparent pixels). Raises Damaged.

    fit: "crop" covers the target and crops the center, "pad" fits within it on `fill` (transparent if C is 4),
    "stretch" ignores the aspect ratio.
    """
    try:
        turn = orientation(image)
        source = (image.height, image.width) if turn < 5 else (image.width, image.height)
        tall, wide = scales(source, target, fit)
        # a JPEG decoder can decode at 1/2, 1/4 or 1/8 cheaply; twice the needed size keeps the antialiasing exact enough
        needed = math.ceil(2 * wide * source[1] - 1e-6), math.ceil(2 * tall * source[0] - 1e-6)
        image.draft(None, needed if turn < 5 else needed[::-1])
        whole = upright(image)
        image = resized(whole, target, fit)
        real = image.mode == "RGBA" and (image is whole or not is_opaque(image))  # the crop may hold no transparent pixel
        image = convert_channels(image, channels, fill)
        if (image.height, image.width) != target:
            sheet = Image.new(image.mode, (target[1], target[0]), _fill_value(fill, channels))
            sheet.paste(image, ((target[1] - image.width) // 2, (target[0] - image.height) // 2))
            image = sheet
        array = np.array(image).reshape(*target, channels)
        if real and channels == 4:
            fill_transparent(array, fill)
        return array, real
    except Exception as error:  # decoders may raise anything for damaged files
        raise Damaged(reason(error)) from error


def _fill_value(fill: tuple[int, int, int], channels: int) -> int | tuple[int, ...]:
    if channels == 1:
        return Image.new("RGB", (1, 1), fill).convert("L").getpixel((0, 0))  # type: ignore[return-value]
    return fill if channels == 3 else (*fill, 0)

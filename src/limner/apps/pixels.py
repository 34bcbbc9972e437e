"""Pictures of any Pillow mode as planes for a network, at full depth, and back: color, alpha, metadata."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.apps.tiles import Box
from limner.core.images import to_float, to_uint8
from limner.data.image import ORIENTATION, TRANSPOSITIONS, Damaged, eight_bit, orientation, reason

BAND = 1 << 22  # pixels that are converted at a time
DEEP = "I;16"  # Pillow's mode of 16-bit gray
LUMA = (0.299, 0.587, 0.114)  # BT.601, as Pillow's mode L
HALF = 1 / 32767.5
COLOR_SPACES = {b"RGB ": ("RGB", "RGBA"), b"GRAY": ("L", "LA", DEEP)}  # of ICC profiles -> modes they describe
TIFF_TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description, make, model, software, date, artist, copyright


@dataclass(frozen=True)
class Picture:
    """An upright picture in planes.

    color: mode L, RGB or I;16; straight, not premultiplied. alpha: mode L, if the picture has one. mode: that of the picture
    as a whole: a gray picture in mode RGB has color of mode L.
    """

    color: Image.Image
    alpha: Image.Image | None
    mode: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.color.size

    def image(self) -> Image.Image:
        """Return the planes as one image."""
        color = self.color
        if self.mode == "RGB" and color.mode == "L":
            color = color.convert("RGB")
        if self.alpha is None:
            return color
        return Image.merge("LA" if color.mode == "L" else "RGBA", (*color.split(), self.alpha))


def planes(image: Image.Image) -> Picture:
    """Return a Pillow image of any mode, turned upright, as planes. Raises Damaged.

    16-bit gray stays 16-bit. An alpha channel is kept even if it is opaque; a transparent color becomes one only where some
    pixel has it. CMYK and other color spaces become RGB.
    """
    try:
        turn = orientation(image)
        image.load()
        if turn > 1:
            image = image.transpose(TRANSPOSITIONS[turn])
        deep = _deep_gray(image)
        if deep is not None:
            return Picture(deep, None, DEEP)
        if image.mode in ("LA", "La", "RGBA", "RGBa"):
            both = image.convert("LA" if image.mode.startswith("L") else "RGBA")
            alpha: Image.Image | None = both.getchannel("A")
        else:
            both = eight_bit(image)
            alpha = both.getchannel("A") if both.mode == "RGBA" else None
            gray = "LA" if alpha else "L"
            if image.mode == "L" and both.mode != gray:
                both = both.convert(gray)
    except Exception as error:  # decoders may raise anything for damaged files
        raise Damaged(reason(error)) from error
    color = both.getchannel("L") if both.mode == "LA" else both.convert("RGB") if both.mode == "RGBA" else both
    mode = color.mode
    if mode == "RGB" and not has_color(color):
        color = color.getchannel("R")
    return Picture(color, alpha, mode)


def _deep_gray(image: Image.Image) -> Image.Image | None:
    """Return 16-bit gray in mode I;16; None for other modes, and where a gray value means transparent."""
    if not (image.mode.startswith(DEEP) or image.mode == "I") or "transparency" in image.info:
        return None
    if image.mode == DEEP:
        return image
    values = np.asarray(image)
    if image.mode == "I" and not (values.min() >= 0 and 255 < values.max() <= 65535):
        return None
    return Image.fromarray(values.astype(np.uint16))


def has_color(image: Image.Image) -> bool:
    """Return whether some pixel of an RGB image is not gray."""
    return any((band[..., :1] != band[..., 1:]).any() for _, band in bands(image))


def loses_depth(image: Image.Image) -> bool:
    """Return whether an opened image, before it is loaded, has 16 bits per channel that Pillow decodes to 8."""
    tiles = getattr(image, "tile", None) or []
    return not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in tiles)


def bands(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (top, pixels [h,W] or [h,W,C]) of an image from top to bottom, some rows at a time."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def read_box(image: Image.Image, box: Box) -> Tensor:
    """Return a part of an image of mode L, RGB or I;16 as float [1,C,h,w] in [-1,1]."""
    array = np.array(image.crop(box))
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype == np.uint16:
        return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None].mul_(HALF).sub_(1)
    return to_float(torch.from_numpy(array).permute(2, 0, 1)[None])


def as_image(x: Tensor, deep: bool) -> Image.Image:
    """Return float [1,C,h,w] in [-1,1] as an image of mode L or RGB, or I;16 if `deep`; rounded to nearest."""
    if deep:
        values = x[0, 0].float().add(1).mul_(1 / HALF).round_().clamp_(0, 65535)
        return Image.fromarray(values.cpu().numpy().astype(np.uint16))
    array = to_uint8(x)[0].permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of mode L, RGB or I;16 in mode RGB."""
    return (eight_bit(image) if image.mode == DEEP else image).convert("RGB")


def luma(x: Tensor) -> Tensor:
    """[N,3,H,W] -> [N,1,H,W], BT.601."""
    return LUMA[0] * x[:, :1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]


def blended(base: Image.Image, made: Image.Image, strength: float) -> Image.Image:
    """Return (1 - strength) * base + strength * made, rounded to nearest; both of one size and mode. `made` is changed."""
    for top, ours in bands(made):
        below = np.asarray(base.crop((0, top, base.width, top + len(ours)))).astype(np.float32)
        made.paste(Image.fromarray(np.rint(below + np.float32(strength) * (ours - below)).astype(ours.dtype)), (0, top))
    return made


def fill_hidden(color: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return color (mode L or RGB) in which fully transparent pixels have the mean color of visible ones near them.

    Their stored color is arbitrary, often black, and would leave a fringe at the border of what is visible.
    """
    clear = alpha.histogram()[0]
    if clear in (0, alpha.width * alpha.height):
        return color
    seen = Image.merge("RGBA", (*color.convert("RGB").split(), alpha)).convert("RGBa")
    filled = Image.new("RGB", color.size, seen.resize((1, 1), Image.Resampling.BOX).convert("RGBA").convert("RGB").getpixel((0, 0)))
    for factor in (64, 8):
        near = seen.reduce(factor).convert("RGBA").resize(color.size, Image.Resampling.NEAREST)
        filled.paste(near.convert("RGB"), mask=near.getchannel("A").point([0] + 255 * [255]))
    filled = filled.convert(color.mode)
    filled.paste(color, mask=alpha.point([0] + 255 * [255]))
    return filled


# ---- metadata ----------------------------------------------------------------------------------------------------------


def metadata(image: Image.Image) -> dict[str, Any]:
    """Return the ICC profile, EXIF and resolution of an opened image, as `Image.info` has them, for its upright copy.

    EXIF is kept byte for byte but for the orientation, which becomes 1; that of a TIFF is reduced to its texts. Damaged EXIF is
    left out.
    """
    found: dict[str, Any] = {name: image.info[name] for name in ("icc_profile", "dpi") if image.info.get(name)}
    try:
        exif = _tiff_exif(image) if image.format == "TIFF" else upright_exif(image.info.get("exif") or b"")
    except (struct.error, KeyError, ValueError, SyntaxError):
        exif = b""
    return {**found, **({"exif": exif} if exif else {})}


def _tiff_exif(image: Image.Image) -> bytes:
    kept, tags = Image.Exif(), image.getexif()
    for tag in TIFF_TEXTS:
        if tag in tags:
            kept[tag] = tags[tag]
    return kept.tobytes() if len(kept) else b""


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF data with the orientation 1, all else unchanged, starting with `Exif`. Raises struct.error when damaged."""
    body = bytearray(exif.removeprefix(b"Exif\0\0"))
    if not body:
        return b""
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(body[:4])]
    (start,) = struct.unpack_from(order + "I", body, 4)
    (count,) = struct.unpack_from(order + "H", body, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", body, at)
        if tag == ORIENTATION:
            struct.pack_into(order + ("H" if kind == 3 else "I"), body, at + 8, 1)
    return b"Exif\0\0" + bytes(body)


def fitting(info: dict[str, Any], mode: str) -> dict[str, Any]:
    """Return the metadata that is true of a picture of `mode`: an ICC profile of another color space is left out."""
    profile = info.get("icc_profile", b"")
    known = mode in COLOR_SPACES.get(profile[16:20], (mode,) if profile[16:20] not in (b"CMYK", b"Lab ") else ())
    return info if known else {name: value for name, value in info.items() if name != "icc_profile"}

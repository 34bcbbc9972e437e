"""Text in pictures: a font that needs no file, and names that fit a width.

Pillow's own font holds ASCII only; where matplotlib is installed (extra `plots`), its DejaVu Sans is used, which holds Latin,
Greek, Cyrillic and more. What the font cannot show is written by `fallback`, such as the number of a class.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """Return the font at a size in pixels."""
    found = find_spec("matplotlib")
    if found is not None and found.origin:
        path = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.is_file():
            try:
                return ImageFont.truetype(str(path), size)
            except OSError:  # a damaged installation costs letters, not the picture
                pass
    return ImageFont.load_default(size)


def drawable(text: str, fallback: str, size: int) -> str:
    """Return `text` as the font can show it: without accents if it must; `fallback` if letters are missing even then."""
    face = font(size)
    for candidate in (text, "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))):
        missing = bytes(face.getmask("\uffff"))  # the box drawn for a letter that the font lacks
        if all(c.isspace() or (c.isascii() and c.isprintable()) or bytes(face.getmask(c)) != missing for c in candidate):
            return candidate
    return fallback


def fitted(text: str, width: float, size: int) -> str:
    """Return `text`, shortened with dots at its end where it is wider than `width` pixels."""
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str = "la", fill: str = "black") -> None:
    """Draw `text` at a point; anchor as in Pillow: "la" starts at the upper left, "mm" is centered, "rm" ends there."""
    draw.text(at, text, fill=fill, font=font(size), anchor=anchor)

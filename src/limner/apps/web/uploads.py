"""A picture from the bytes of a request: its header is read and its size checked before a pixel is decoded."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from limner.apps.web.errors import Refusal
from limner.data.image import Damaged, open_image, reason

MAX_PIXELS = 16_000_000
# Not all that Limner opens: the pixels of an icon may be an embedded picture of any size, whatever its header says.
FORMATS = frozenset({"PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF"})


def picture(content: bytes, max_pixels: int = MAX_PIXELS, what: str = "The picture") -> Image.Image:
    """Return the decoded picture of a file's bytes; of an animation, the first frame.

    Orientation and mode are as in the file: every model applies them itself. what: how messages name it. Raises Refusal: 413 for
    more pixels than `max_pixels`, otherwise 400.
    """
    try:
        image = open_image(io.BytesIO(content))
    except Damaged as error:
        raise Refusal(f"{what} cannot be used: {error}.", 413 if "too large" in str(error) else 400) from error
    if image.format not in FORMATS:
        raise Refusal(f"{what} is a {image.format}, which is not accepted here: send a PNG, JPEG or WebP.")
    size = image.size
    if size[0] * size[1] > max_pixels:
        raise Refusal(f"{what} has {size[0]}x{size[1]} pixels, and at most {max_pixels:,} in all are accepted: make it smaller.", 413)
    try:
        image.load()
    except Exception as error:  # decoders may raise anything for damaged files
        raise Refusal(f"{what} cannot be used: {reason(error)}.") from error
    if image.width * image.height > max_pixels:
        raise Refusal(f"{what} is larger than its header says.")
    return image


def picture_from_base64(text: str, max_pixels: int = MAX_PIXELS, what: str = "The picture") -> Image.Image:
    """Return the decoded picture of base64, which may be a `data:` address. Raises Refusal as `picture` does."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"{what} is not valid base64.") from error
    return picture(content, max_pixels, what)

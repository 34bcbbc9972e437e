"""Pictures in answers: files as bytes, or in base64. These functions are called in a thread, off the event loop."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from limner.apps.pictures_out import encoded
from limner.apps.web.errors import Refusal
from limner.core.images import to_pil

MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def check_format(name: str | None) -> str:
    """Return the format, png for None. Raises Refusal for an unknown one."""
    form = (name or "png").lower()
    if form not in MEDIA:
        raise Refusal(f"Pictures are written as {', '.join(MEDIA)}: choose one of these formats.")
    return form


def as_file(picture: np.ndarray | Image.Image, form: str = "png") -> bytes:
    """Return one picture, uint8 [C,H,W] or a Pillow image, as the bytes of a file."""
    image = to_pil(picture) if isinstance(picture, np.ndarray) else picture
    if form == "png" and not image.info:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=4)  # half the time of the default for a few percent of the bytes
        return buffer.getvalue()
    return encoded(image, f".{form}")


def as_base64(pictures: Sequence[np.ndarray | Image.Image] | np.ndarray, form: str = "png") -> list[str]:
    """Return pictures as files in base64."""
    return [base64.b64encode(as_file(picture, form)).decode("ascii") for picture in pictures]

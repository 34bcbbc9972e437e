"""Pictures in answers: files as bytes, or in base64."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from limner.apps.pictures_out import encoded
from limner.apps.web.errors import Refusal
from limner.core.images import to_pil

MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


SMALL = 64 << 10  # bytes of pixels that are encoded on the event loop: a change of threads would take longer
T = TypeVar("T")


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return what `work` makes of pictures of `size` bytes: in a thread, unless they are small."""
    return work() if size <= SMALL else await asyncio.to_thread(work)


def pixel_bytes(pictures: Sequence[np.ndarray | Image.Image] | np.ndarray) -> int:
    """Return the bytes of pictures, about."""
    return sum(one.nbytes if isinstance(one, np.ndarray) else 4 * one.width * one.height for one in pictures)


def check_format(name: str | None) -> str:
    """Return the format, png for None. Raises Refusal for an unknown one."""
    form = (name or "png").lower()
    if form not in MEDIA:
        raise Refusal(f"Pictures are written as {', '.join(MEDIA)}: choose one of these formats.")
    return form


async def files_of(pictures: Sequence[np.ndarray | Image.Image] | np.ndarray, form: str) -> list[bytes]:
    """Return pictures as the bytes of files."""
    return await off_loop(pixel_bytes(pictures), lambda: [as_file(picture, form) for picture in pictures])


async def base64_of(pictures: Sequence[np.ndarray | Image.Image] | np.ndarray, form: str) -> list[str]:
    """Return pictures as files in base64."""
    return [base64.b64encode(content).decode("ascii") for content in await files_of(pictures, form)]


def as_file(picture: np.ndarray | Image.Image, form: str = "png") -> bytes:
    """Return one picture, uint8 [C,H,W] or a Pillow image, as the bytes of a file."""
    image = to_pil(picture) if isinstance(picture, np.ndarray) else picture
    if form == "png" and not image.info:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=4)  # half the time of the default for a few percent of the bytes
        return buffer.getvalue()
    return encoded(image, f".{form}")


"""Multipart forms with pictures, held in memory."""

from __future__ import annotations

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.requests import Request

from limner.apps.serve.settings import Settings
from limner.apps.web.errors import Refusal
from limner.apps.web.uploads import picture

MAX_FIELDS = 30
IMAGES = ("image", "image[]")  # OpenAI's clients name a list of one picture in this way


async def read(request: Request, settings: Settings) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the fields of a form by name, and its files. Raises Refusal for a body that is no form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal("Send the picture as a form, multipart/form-data, in a field named image.")
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async with request.form(max_files=4, max_fields=MAX_FIELDS, max_part_size=1 << 16) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name in files or (name in IMAGES and files.keys() & set(IMAGES)):
                    raise Refusal("A request is for one picture: send one image.")
                files[name] = await value.read()
            else:
                fields[name] = value
    return fields, files


def decoded(files: dict[str, bytes], max_pixels: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture and the mask, if any, of a form's files. Called in a thread. Raises Refusal."""
    content = next((files[name] for name in IMAGES if name in files), None)
    if content is None:
        raise Refusal("The form holds no picture: send it as a file in the field image.")
    mask = picture(files["mask"], max_pixels, "The mask") if "mask" in files else None
    return picture(content, max_pixels), mask

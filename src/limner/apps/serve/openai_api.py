"""The images API of OpenAI, as its clients use it: models, generations, edits and variations.

The prompt of a text-to-image generator is a text. That of another generator is the name of a class, or `any`; anything else is
refused with what is accepted. Either may set `seed=7`. Fields that mean nothing here (`quality`, `style`, `user`, ...) are
ignored, as OpenAI's own models do.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import numpy as np
from fastapi import APIRouter
from PIL import Image
from pydantic import BaseModel, Field
from starlette.requests import Request

from limner.apps.serve import forms
from limner.apps.serve.pictures import base64_of, check_format
from limner.apps.serve.prompt import number, parse_prompt, parse_settings, split_settings, whole
from limner.apps.serve.served import Served, check_n
from limner.apps.serve.shared import Service
from limner.apps.serve.waiting import result_of
from limner.apps.translate import Translator
from limner.apps.web.errors import Refusal
from limner.data.image import upright

MAX_PROMPT = 1000  # characters
FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["image"], "properties": {
        "image": {"type": "string", "format": "binary"}, "mask": {"type": "string", "format": "binary"},
        "prompt": {"type": "string"}, "model": {"type": "string"}, "n": {"type": "integer"}, "size": {"type": "string"},
        "response_format": {"type": "string", "enum": ["b64_json"]}, "output_format": {"type": "string"}, "seed": {"type": "integer"},
    },
}}}}}  # fmt: skip


class Generation(BaseModel):
    """A request for pictures. prompt: a class by name, `any` or `all`, optionally with `seed=7` and `truncation=0.7`; of a
    text-to-image generator a text, optionally with `seed=7`."""

    prompt: str = Field("", max_length=MAX_PROMPT)
    model: str | None = Field(None, max_length=200)
    n: int | None = None
    size: str | None = Field(None, max_length=40)
    response_format: str | None = Field(None, max_length=40)
    output_format: str | None = Field(None, max_length=40)
    stream: bool | None = None


def check_answer(response_format: str | None, stream: bool | None = None) -> None:
    """Raise Refusal for answers that are not offered."""
    if response_format not in (None, "b64_json"):
        raise Refusal("Pictures come as b64_json, never as addresses: leave response_format out.")
    if stream:
        raise Refusal("Pictures come whole, not as a stream: leave stream out.")


def check_size(size: str | None, served: Served) -> None:
    """Raise Refusal for a size other than the model's."""
    own = f"{served.model.spec.width}x{served.model.spec.height}"
    if size not in (None, "", "auto", own):
        raise Refusal(f"{served.id} makes pictures of {own} pixels: leave the size out, or give {own}.")


def answer(pictures: list[str], form: str, prompts: list[str], size: str) -> dict[str, Any]:
    """Return the JSON of pictures in base64. prompts: what makes each again."""
    data = [{"b64_json": picture, "revised_prompt": prompt} for picture, prompt in zip(pictures, prompts, strict=True)]
    return {"created": int(time.time()), "data": data, "output_format": form, "size": size}


def described(name: str, served: Served, created: int) -> dict[str, Any]:
    """Return a model as OpenAI's list has it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "limner"}


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/v1", tags=["OpenAI"])
    created = int(time.time())

    @api.get("/models", summary="List the models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [described(name, served, created) for name, served in service.models.items()]}

    @api.get("/models/{model}", summary="One model")
    async def model(model: str) -> dict[str, Any]:
        return described(model, service.models.get(model), created)

    @api.post("/images/generations", summary="Generate pictures of a class")
    async def generations(body: Generation, request: Request) -> dict[str, Any]:
        served = service.choose(body.model, lambda one: one.generates or one.illustrates)
        form = check_format(body.output_format)
        check_answer(body.response_format, body.stream)
        check_size(body.size, served)
        n = 1 if body.n is None else body.n
        check_n(n)
        if served.illustrates:
            return await illustrations(served, body.prompt, n, form, request)
        generator = served.generator()
        label, settings = parse_prompt(body.prompt, served.classes, ("seed", "truncation"))
        seed = whole("seed", settings["seed"]) if "seed" in settings else secrets.randbelow(2**32)
        truncation = number("truncation", settings["truncation"]) if "truncation" in settings else None
        job = served.generate(n, seed, label, truncation)
        pictures = await result_of(request, job, service.settings.timeout)
        prompt = " ".join([*([label] if label else []), f"seed={seed}", *([f"truncation={truncation:g}"] if truncation is not None else [])])
        size = f"{generator.spec.width}x{generator.spec.height}"
        return answer(await base64_of(pictures, form), form, [prompt] * n, size)

    async def illustrations(served: Served, prompt: str, n: int, form: str, request: Request) -> dict[str, Any]:
        """Return the answer of a text-to-image generator: the prompt is a text, which may end with `seed=7`."""
        settings, text = split_settings(prompt, ("seed",))
        seed = whole("seed", settings["seed"]) if "seed" in settings else secrets.randbelow(2**32)
        pictures = await result_of(request, served.illustrate(n, seed, text), service.settings.timeout)
        size = f"{served.model.spec.width}x{served.model.spec.height}"
        return answer(await base64_of(pictures, form), form, [f"{text} seed={seed}"] * n, size)

    @api.post("/images/edits", summary="Translate, restore or reconstruct a picture", openapi_extra=FORM)
    async def edits(request: Request) -> dict[str, Any]:
        fields, files = await forms.read(request, service.settings)
        served = service.choose(fields.get("model"), lambda one: one.applies)
        form = check_format(fields.get("output_format"))
        check_answer(fields.get("response_format"))
        n = whole("n", fields.get("n") or "1")
        if n != 1:
            raise Refusal("An edit makes one picture of a picture: leave n out.")
        image, mask = await asyncio.to_thread(forms.decoded, files, service.settings.max_pixels)
        made = await result_of(request, edit_job(served, image, mask, fields.get("prompt", "")), service.settings.timeout)
        size = f"{made.width}x{made.height}" if isinstance(made, Image.Image) else f"{made.shape[2]}x{made.shape[1]}"
        return answer(await base64_of([made], form), form, [fields.get("prompt", "")], size)

    @api.post("/images/variations", summary="Pictures near a given one in the latent space", openapi_extra=FORM)
    async def variations(request: Request) -> dict[str, Any]:
        fields, files = await forms.read(request, service.settings)
        served = service.choose(fields.get("model"), lambda one: one.varies)
        form = check_format(fields.get("output_format"))
        check_answer(fields.get("response_format"))
        check_size(fields.get("size"), served)
        n = whole("n", fields.get("n") or "1")
        seed = whole("seed", fields["seed"]) if fields.get("seed") else secrets.randbelow(2**32)
        image, _ = await asyncio.to_thread(forms.decoded, files, service.settings.max_pixels)
        pictures = await result_of(request, served.vary(image, n, seed), service.settings.timeout)
        size = f"{served.model.spec.width}x{served.model.spec.height}"
        return answer(await base64_of(pictures, form), form, [f"seed={seed}"] * n, size)

    return api


def edit_job(served: Served, image: Image.Image, mask: Image.Image | None, prompt: str) -> Any:
    """Queue an edit. prompt: settings of the model such as `direction=b2a` or `strength=0.5`, or names of directions `smile=2`."""
    if len(prompt) > MAX_PROMPT:
        raise Refusal(f"The prompt has at most {MAX_PROMPT:,} characters.")
    if isinstance(served.model, Translator):
        if prompt.strip() in served.model.directions:
            return served.apply(image, direction=prompt.strip())
        settings = parse_settings(prompt, ("direction",))
        return served.apply(image, direction=settings.get("direction"))
    if served.editor is not None:
        settings = parse_settings(prompt, served.editor.directions)
        return served.apply(image, directions={name: number(name, text) for name, text in settings.items()})
    settings = parse_settings(prompt, ("strength", "scale")) if served.applies else {}
    options = {name: number(name, text) for name, text in settings.items()}
    return served.apply(image, hole_of(mask) if mask is not None else None, **options)  # type: ignore[arg-type]


def hole_of(mask: Image.Image) -> Image.Image:
    """Return a mask that is white in the hole. OpenAI's masks are transparent there; one without transparency is ours already."""
    seen = upright(mask)
    if seen.mode != "RGBA":
        return seen
    alpha = np.asarray(seen.getchannel("A"))
    return Image.fromarray(np.where(alpha < 128, 255, 0).astype(np.uint8))

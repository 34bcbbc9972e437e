"""Limner's own API: runs with all that they can do, by seeds, latents, labels, truncation and directions."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from limner.apps.model import GeneratorModel
from limner.apps.restore import Restorer
from limner.apps.serve import forms
from limner.apps.serve.pictures import MEDIA, base64_of, check_format, files_of
from limner.apps.serve.prompt import number, whole
from limner.apps.serve.served import Served, check_n
from limner.apps.serve.settings import MAX_N
from limner.apps.serve.shared import Service
from limner.apps.serve.waiting import result_of
from limner.apps.translate import Translator
from limner.apps.web.errors import Refusal

MAX_SEED = 2**64 - 1
PICTURE = {"content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA.values()}}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["image"], "properties": {
        "image": {"type": "string", "format": "binary"}, "mask": {"type": "string", "format": "binary"},
        "direction": {"type": "string"}, "quality": {"type": "integer"}, "metadata": {"type": "boolean"}, "strength": {"type": "number"}, "scale": {"type": "number"},
        "format": {"type": "string", "enum": list(MEDIA)},
    },
}}}}}  # fmt: skip


PACKED = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["file"], "properties": {
        "file": {"type": "string", "format": "binary"}, "format": {"type": "string", "enum": list(MEDIA)},
    },
}}}}}  # fmt: skip
LIMN = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class Samples(BaseModel):
    """A request for pictures: of one seed (the first n of it, as `limner sample`), of several seeds (the first picture of each), or
    of latents."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    n: int | None = Field(None, description=f"Pictures of the seed, 1 to {MAX_N}.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    seeds: list[int] | None = Field(None, max_length=MAX_N)
    latents: list[list[float]] | None = Field(None, max_length=MAX_N, description="Standard normal numbers, a list per picture.")
    label: str | None = Field(None, max_length=1000, description="A class by name or number, or all.")
    labels: list[int] | None = Field(None, max_length=MAX_N, description="A class number per picture.")
    truncation: float | None = None
    directions: dict[str, float] = Field({}, max_length=100, description="Amounts by the name of a direction.")
    format: str | None = Field(None, max_length=40, description=", ".join(MEDIA))


def described(name: str, served: Served) -> dict[str, Any]:
    """Return what a model is and does."""
    model = served.model
    spec = model.spec
    found: dict[str, Any] = {
        "id": name, "kind": served.kind, "channels": spec.channels, "height": spec.height, "width": spec.width,
        "recipe": str(model.description["recipe"]["name"]), "classes": served.classes,
        "generates": served.generates, "illustrates": served.illustrates, "applies": served.applies, "classifies": served.classifies, "varies": served.varies, "compresses": served.compresses,
        "directions": list(served.editor.directions) if served.editor else [],
    }  # fmt: skip
    if served.generates:
        assert isinstance(model, GeneratorModel)
        found |= {"latent_size": model.z_size, "max_n": MAX_N}
        found["truncation"] = "styles" if model.has_styles else "typical" if served.settings.truncation else None
    if isinstance(model, Translator):
        found["translates"] = model.directions
    if isinstance(model, Restorer):
        found |= {"task": model.task, "scale": model.scale, "fills_holes": model.fills_holes}
    return found


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/v1/runs", tags=["Limner"])
    timeout = service.settings.timeout

    @api.get("", summary="List the runs")
    async def runs() -> dict[str, Any]:
        return {"runs": [described(name, served) for name, served in service.models.items()]}

    @api.get("/{run}", summary="What a run is and does")
    async def one(run: str) -> dict[str, Any]:
        return described(run, service.models.get(run))

    @api.post("/{run}/generate", summary="Pictures of seeds or latents")
    async def generate(run: str, body: Samples, request: Request) -> dict[str, Any]:
        served, form = service.models.get(run), check_format(body.format)
        seeds, pictures = await draw(served, body, request, timeout)
        files = await base64_of(pictures, form)
        images = [{"b64": file, **({"seed": seed[0], "index": seed[1]} if seed else {})} for file, seed in zip(files, seeds, strict=True)]
        return {"run": run, "format": form, "images": images}

    @api.get("/{run}/picture", summary="One picture of a seed, as a file", response_class=Response, responses={200: PICTURE})
    async def picture(
        run: str, request: Request, seed: int = 0, index: int = 0, label: str | None = None, truncation: float | None = None,
        format: str | None = None,
    ) -> Response:  # fmt: skip
        served, form = service.models.get(run), check_format(format)
        if not 0 <= index < MAX_N:
            raise Refusal(f"The index of a picture goes from 0 to {MAX_N - 1}.")
        made = await result_of(request, served.generate(index + 1, seed, label, truncation), timeout)
        return await file_of(made[index], form)

    @api.post("/{run}/apply", summary="Translate, restore or reconstruct a picture", openapi_extra=UPLOAD, response_class=Response,
              responses={200: PICTURE})  # fmt: skip
    async def apply(run: str, request: Request) -> Response:
        served = service.models.get(run)
        fields, files = await forms.read(request, service.settings)
        form = check_format(fields.get("format"))
        image, mask = await asyncio.to_thread(forms.decoded, files, service.settings.max_pixels)
        options = {name: number(name, fields[name]) for name in ("strength", "scale") if fields.get(name)}
        job = served.apply(image, mask, fields.get("direction") or None, **options)  # type: ignore[arg-type]
        return await file_of(await result_of(request, job, timeout), form)

    @api.post("/{run}/classify", summary="Probabilities of the classes of a picture", openapi_extra=UPLOAD)
    async def classify(run: str, request: Request) -> dict[str, Any]:
        served = service.models.get(run)
        _, files = await forms.read(request, service.settings)
        image, _ = await asyncio.to_thread(forms.decoded, files, service.settings.max_pixels)
        probabilities = (await result_of(request, served.classify([image]), timeout))[0]
        order = np.argsort(-probabilities, kind="stable")
        names = served.classes or [str(i) for i in range(len(probabilities))]
        return {"run": run, "classes": [{"label": names[i], "probability": float(probabilities[i])} for i in order.tolist()]}

    @api.post("/{run}/compress", summary="Compress a picture by a codec", openapi_extra=UPLOAD, response_class=Response, responses={200: LIMN})
    async def compress(run: str, request: Request) -> Response:
        served = service.models.get(run)
        fields, files = await forms.read(request, service.settings)
        quality = whole("quality", fields["quality"]) if fields.get("quality") else None
        image, _ = await asyncio.to_thread(forms.decoded, files, service.settings.max_pixels)
        job = served.compress(image, quality, fields.get("metadata", "true").lower() not in ("false", "0", "no"))
        return Response(await result_of(request, job, timeout), media_type="application/octet-stream")

    @api.post("/{run}/decompress", summary="Decompress a picture", openapi_extra=PACKED, response_class=Response, responses={200: PICTURE})
    async def decompress(run: str, request: Request) -> Response:
        served = service.models.get(run)
        fields, files = await forms.read(request, service.settings)
        form = check_format(fields.get("format"))
        if "file" not in files:
            raise Refusal("The form holds no file: send the compressed picture in the field file.")
        opened = await asyncio.to_thread(served.opened, files["file"])
        return await file_of(await result_of(request, served.decompress(opened), timeout), form)

    return api


async def draw(served: Served, body: Samples, request: Request, timeout: float) -> tuple[list[tuple[int, int] | None], list[Any]]:
    """Return (seed, index) of each picture, or None for latents, and the pictures uint8 [C,H,W]."""
    if sum(given is not None for given in (body.seed, body.seeds, body.latents)) > 1:
        raise Refusal("Give a seed, seeds or latents: one of the three.")
    if body.latents is not None:
        check_n(len(body.latents))
        if body.n is not None and body.n != len(body.latents):
            raise Refusal("There is one picture for each latent: leave n out.")
        size = served.generator().z_size
        if any(len(row) != size for row in body.latents):
            raise Refusal(f"Each of the latents is a list of {size} numbers.")
        labels = labels_of(served, body, len(body.latents))
        z = np.asarray(body.latents, np.float64)
        made = await result_of(request, served.render(z, labels, body.truncation, body.directions), timeout)
        return [None] * len(made), list(made)
    seeds = [secrets.randbelow(2**32) if body.seed is None else body.seed] if body.seeds is None else body.seeds
    if body.seeds is not None and body.n is not None and body.n != len(body.seeds):
        raise Refusal("There is one picture for each of the seeds: leave n out.")
    n = 1 if body.n is None or body.seeds is not None else body.n
    check_n(n * len(seeds))
    labels = labels_of(served, body, n * len(seeds)) if body.labels is not None else None
    jobs = []
    try:
        for i, seed in enumerate(seeds):
            label: Any = body.label if labels is None else labels[i * n : (i + 1) * n]
            jobs.append(served.generate(n, seed, label, body.truncation, body.directions))
        results = [await result_of(request, job, timeout) for job in jobs]
    finally:
        for job in jobs:
            job.close()  # where an earlier one failed
    return [(seed, i) for seed in seeds for i in range(n)], [picture for made in results for picture in made]


def labels_of(served: Served, body: Samples, n: int) -> list[int] | None:
    """Return the class number of each of n pictures, or None without labels. Raises Refusal."""
    if body.labels is not None:
        if body.label is not None:
            raise Refusal("Give a label or labels, not both.")
        if len(body.labels) != n:
            raise Refusal(f"Give one label for each picture: {n}, not {len(body.labels)}.")
        if any(not 0 <= label < max(1, len(served.classes)) for label in body.labels):
            raise Refusal(f"Labels go from 0 to {len(served.classes) - 1}." if served.classes else "This model has no classes.")
        return body.labels
    if body.label is None:
        return None
    labels = served.generator().labels(n, body.label, np.random.default_rng(0))
    return None if labels is None else [int(label) for label in labels]


async def file_of(picture: Any, form: str) -> Response:
    """Return a picture as the answer itself."""
    return Response((await files_of([picture], form))[0], media_type=MEDIA[form])

"""The Open Inference Protocol, version 2, as a thin layer: tensors in, tensors out.

Generators take `latents` FP32 [n,Z] and, with classes, `labels` INT64 [n]; they return `images` UINT8 [n,C,H,W]. Translators,
restorers and classifiers take `images` UINT8 [n,C,H,W] of any size; classifiers return `probabilities` FP64 [n,K].
Source: https://github.com/kserve/open-inference-protocol, "Inference Protocol (v2) REST".
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

import limner
from limner.apps.serve.pictures import off_loop
from limner.apps.serve.served import Served
from limner.apps.serve.settings import MAX_N
from limner.apps.serve.shared import Service
from limner.apps.serve.waiting import result_of
from limner.apps.web.errors import Refusal
from limner.core.images import MODES, to_pil

NUMBERS = {"FP32": np.float64, "FP64": np.float64, "INT64": np.int64, "INT32": np.int64, "UINT8": np.int64}


class InputTensor(BaseModel):
    """A named array; its data is flat or nested, in row-major order."""

    name: str = Field(max_length=100)
    shape: list[int] = Field(max_length=4)
    datatype: str = Field(max_length=10)
    data: list[Any]


class RequestedOutput(BaseModel):
    """An output by name."""

    name: str = Field(max_length=100)


class InferenceRequest(BaseModel):
    """A request for one forward pass."""

    id: str | None = Field(None, max_length=200)
    inputs: list[InputTensor] = Field(max_length=4)
    outputs: list[RequestedOutput] | None = Field(None, max_length=4)


def signature(served: Served) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the inputs and outputs of a model; -1 is any number."""
    spec = served.model.spec
    images = {"name": "images", "datatype": "UINT8", "shape": [-1, spec.channels, spec.height, spec.width]}
    some = {"name": "images", "datatype": "UINT8", "shape": [-1, spec.channels, -1, -1]}
    if served.generates:
        labels = [{"name": "labels", "datatype": "INT64", "shape": [-1]}] if spec.classes else []
        return [{"name": "latents", "datatype": "FP32", "shape": [-1, served.generator().z_size]}, *labels], [images]
    if served.classifies:
        return [some], [{"name": "probabilities", "datatype": "FP64", "shape": [-1, len(served.classes) or -1]}]
    return ([some], [some]) if served.applies else ([], [])


def array_of(tensor: InputTensor, datatype: str, sizes: tuple[int | None, ...], limit: int) -> np.ndarray:
    """Return an input as an array. sizes: of each axis, None for any. limit: of its number of elements. Raises Refusal."""
    wanted = ",".join("any" if size is None else str(size) for size in sizes)
    fits = len(tensor.shape) == len(sizes) and all(
        side > 0 and size in (None, side) for side, size in zip(tensor.shape, sizes, strict=True)
    )
    if tensor.datatype != datatype or not fits:
        raise Refusal(f"{tensor.name} is {datatype} [{wanted}], not {tensor.datatype} {tensor.shape}.")
    count = math.prod(tensor.shape)
    if count > limit:
        raise Refusal(f"{tensor.name} has {count:,} numbers, and at most {limit:,} are accepted: send fewer or smaller ones.", 413)
    try:
        array = np.asarray(tensor.data)
        if array.dtype.kind not in "fiu" or array.size != count or (datatype != "FP32" and array.dtype.kind == "f"):
            raise ValueError
        return array.astype(NUMBERS[datatype]).reshape(tensor.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refusal(f"The data of {tensor.name} are not the {count:,} numbers of its shape.") from error


async def infer(service: Service, served: Served, body: InferenceRequest, request: Request) -> tuple[str, str, np.ndarray]:
    """Return name, datatype and array of the output. Raises Refusal."""
    spec, timeout = served.model.spec, service.settings.timeout
    inputs = {tensor.name: tensor for tensor in body.inputs}
    expected = [tensor["name"] for tensor in signature(served)[0]]
    if not expected:
        raise Refusal(f"{served.id} is a {served.kind}, which this server cannot apply to a picture.")
    if len(inputs) != len(body.inputs) or not inputs.keys() <= set(expected) or expected[0] not in inputs:
        raise Refusal(f"{served.id} takes the inputs {' and '.join(expected)}.")
    if served.generates:
        size = served.generator().z_size
        z = await asyncio.to_thread(array_of, inputs["latents"], "FP32", (None, size), MAX_N * size)
        labels = array_of(inputs["labels"], "INT64", (len(z),), MAX_N).tolist() if "labels" in inputs else None
        return "images", "UINT8", await result_of(request, served.render(z, labels), timeout)
    channels = None if served.classifies else spec.channels
    limit = service.settings.max_pixels * spec.channels
    pixels = await asyncio.to_thread(array_of, inputs["images"], "UINT8", (None, channels, None, None), limit)
    if len(pixels) > MAX_N or pixels.shape[1] not in MODES or pixels.min() < 0 or pixels.max() > 255:
        raise Refusal(f"images are 1 to {MAX_N} pictures of 1, 3 or 4 channels with values from 0 to 255.")
    pictures = pixels.astype(np.uint8)
    if served.classifies:
        return "probabilities", "FP64", await result_of(request, served.classify(list(pictures)), timeout)
    jobs = []
    try:
        for picture in pictures:
            jobs.append(served.apply(to_pil(picture)))
        made = [as_array(await result_of(request, job, timeout)) for job in jobs]
    finally:
        for job in jobs:
            job.close()
    return "images", "UINT8", np.stack(made)


def as_array(picture: Any) -> np.ndarray:
    """Return a picture as uint8 [C,H,W]."""
    if isinstance(picture, np.ndarray):
        return picture
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @api.get("", summary="The server")
    async def server() -> dict[str, Any]:
        return {"name": "limner", "version": limner.__version__, "extensions": []}

    @api.get("/health/live", summary="Whether the server runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @api.get("/health/ready", summary="Whether all models take requests")
    async def ready() -> dict[str, bool]:
        if not service.ready():
            raise Refusal("The server is not ready.", 503)
        return {"ready": True}

    @api.get("/models/{model}", summary="Inputs and outputs of a model")
    async def metadata(model: str) -> dict[str, Any]:
        inputs, outputs = signature(service.models.get(model))
        return {"name": model, "versions": ["1"], "platform": "limner_pytorch", "inputs": inputs, "outputs": outputs}

    @api.get("/models/{model}/ready", summary="Whether a model takes requests")
    async def model_ready(model: str) -> dict[str, Any]:
        if not service.models.get(model).worker.alive:
            raise Refusal("The model is not ready.", 503)
        return {"name": model, "ready": True}

    @api.post("/models/{model}/infer", summary="One forward pass")
    async def run(model: str, body: InferenceRequest, request: Request) -> dict[str, Any]:
        name, datatype, array = await infer(service, service.models.get(model), body, request)
        if body.outputs is not None and any(output.name != name for output in body.outputs):
            raise Refusal(f"The output of {model} is {name}.")
        data = await off_loop(array.nbytes, lambda: array.reshape(-1).tolist())
        output = {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}
        return {"model_name": model, "model_version": "1", **({"id": body.id} if body.id is not None else {}), "outputs": [output]}

    return api

"""Requests that use a trained model."""

from __future__ import annotations

import io
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter
from PIL import Image
from starlette.responses import Response

from limner.apps.studio import hooks, latent_map
from limner.apps.studio.latent_map import CELLS
from limner.apps.studio.launch import FOLDER
from limner.apps.studio.newest import Superseded
from limner.apps.studio.pictures import use
from limner.apps.studio.routes_runs import FOREVER, Content, Fields
from limner.apps.studio.state import State, command, from_json, png, texts_of
from limner.apps.studio.studio import Studio
from limner.apps.web.registry import slug
from limner.apps.web.uploads import picture as decode
from limner.core.files import lies_in
from limner.core.images import encode_png

MAX_STRIP = 16  # pictures
NOTHING = Response(status_code=204)  # a newer request has come
COMMAND = "x-limner-command"  # header of a picture: percent-encoded UTF-8


def router(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api/runs/{run}")

    @routes.get("/model")
    def model(run: str) -> dict[str, Any]:
        return facts(studio, run)

    @routes.post("/picture")
    def picture(run: str, fields: Fields) -> Response:
        state = state_of(studio, fields.get("state"))
        try:
            with studio.newest.turn(str(fields.get("view", run))[:100], int(fields.get("number", 0))):
                made = studio.model(run).require().draw(state)
        except Superseded:
            return NOTHING
        texts = texts_of(studio.folder(run), state)
        return Response(png(made, texts), media_type="image/png", headers={COMMAND: quote(texts["Comment"])})

    @routes.post("/strip")
    def strip(run: str, fields: Fields) -> Response:
        """Pictures of several states in a row, without gaps."""
        states = [state_of(studio, one) for one in list(fields.get("states") or [])[:MAX_STRIP]]
        try:
            drawing = studio.model(run).require()
            made = []
            for state in states:  # each takes a turn of its own: a slider need not wait for all
                with studio.newest.turn(str(fields.get("view", run))[:100], int(fields.get("number", 0))):
                    made.append(drawing.draw(state))
        except Superseded:
            return NOTHING
        if not made:
            raise ValueError("Give at least one state.")
        return Response(png(np.concatenate(made, 2), {}), media_type="image/png")

    @routes.post("/map")
    def make_map(run: str, fields: Fields) -> dict[str, Any]:
        state = state_of(studio, fields.get("state"))
        drawing = studio.model(run).require()
        label = drawing.model.labels(1, state.label, np.random.default_rng(state.seed).spawn(2)[0])
        chosen = None if label is None or state.label is None else int(label[0])
        made = latent_map.make(drawing, state, lambda: latent_map.real_pictures(drawing.model, chosen))
        marks = [{"at": mark.place, "distance": round(mark.distance, 3)} for mark in made.landmarks]
        return {"id": studio.maps.add(made), "cells": CELLS, "reach": made.reach, "landmarks": marks, "note": made.note}

    @routes.get("/map/{name}/pictures.png")
    def map_pictures(name: str) -> Response:
        made = studio.maps.get(name).pictures
        rows = [np.concatenate(list(row), 2) for row in np.split(made, CELLS)]
        return Response(encode_png(np.concatenate(rows, 1)), media_type="image/png", headers=FOREVER)

    @routes.get("/map/{name}/landmarks.png")
    def map_landmarks(name: str) -> Response:
        made = studio.maps.get(name)
        if not len(made.real):
            raise ValueError(made.note or "This map has no landmarks.")
        return Response(encode_png(np.concatenate(list(made.real), 2)), media_type="image/png", headers=FOREVER)

    @routes.post("/use")
    def use_picture(run: str, name: str, content: Content, direction: str = "", strength: float = 1.0, quality: int = 50) -> dict[str, Any]:
        folder, loaded = studio.folder(run), studio.model(run)
        image = decode(content)
        made = use(loaded.model, folder, image, name[:200], len(content), {"direction": direction, "strength": strength, "quality": quality})
        return {
            "before": studio.blobs.add((made.before, "image/png")), "after": studio.blobs.add((made.after, "image/png")),
            "file": studio.blobs.add((made.file, "application/octet-stream")) if made.file else None, "command": made.command,
            "facts": made.facts, "classes": made.classes,
        }  # fmt: skip

    @routes.post("/draw")
    def draw(run: str, content: Content, view: str = "", number: int = 0, direction: str = "") -> Response:
        """The translation of a drawing, newest wins."""
        try:
            with studio.newest.turn(view[:100], number):
                made = use(studio.model(run).model, studio.folder(run), decode(content), "drawing.png", len(content), {"direction": direction})
        except Superseded:
            return NOTHING
        return Response(made.after, media_type="image/png", headers={COMMAND: quote(made.command)})

    @routes.get("/example")
    def example(run: str, number: int = 0) -> Response:
        """A training picture, to begin with: of a translator one of its first kind."""
        return Response(example_of(studio, run, number), media_type="image/png")

    # ---- where editing and export are installed ----

    @routes.post("/directions")
    def find_directions(run: str) -> dict[str, str]:
        model = studio.model(run).require().model
        line = command("limner", "directions", studio.folder(run))
        return {"job": studio.jobs.start(lambda progress: {"message": hooks.find_directions(model, progress)}), "command": line}

    @routes.post("/invert")
    def invert(run: str, name: str, content: Content) -> dict[str, str]:
        model, image = studio.model(run).require().model, decode(content)
        out = studio.home / FOLDER / "latents" / f"{slug(run)}-{secrets.token_hex(4)}.latent.npz"

        def work(progress: Any) -> dict[str, Any]:
            before, after, message = hooks.invert(model, image, out, progress)
            return {"latent": str(out), "message": message, **{key: studio.blobs.add((blob, "image/png")) for key, blob in (("before", before), ("after", after))}}

        return {"job": studio.jobs.start(work), "command": command("limner", "invert", studio.folder(run), name[:200], "--out", out)}

    @routes.post("/export")
    def export(run: str, fields: Fields) -> dict[str, str]:
        kind, folder, model = str(fields.get("format")), studio.folder(run), studio.model(run, newest=True).model
        if kind not in ("onnx", "html") or not hooks.features()[kind]:
            raise ValueError("This Limner does not export to that format.")
        out = folder.parent / f"{folder.name}.{kind}"

        def work(progress: Any) -> dict[str, Any]:
            message = hooks.export(model, out, progress)
            return {"message": message, "name": out.name, "blob": studio.blobs.add((out.read_bytes(), "application/octet-stream"))}

        return {"job": studio.jobs.start(work), "command": command("limner", "export", folder, out)}

    return routes


def blobs(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api/blobs")

    @routes.get("/{name}")
    def blob(name: str) -> Response:
        content, kind = studio.blobs.get(name)
        return Response(content, media_type=kind, headers=FOREVER)

    return routes


def state_of(studio: Studio, document: Any) -> State:
    """Return the state in a request. Raises ValueError, also for a latent other than those that the studio has inverted."""
    if document is not None and not isinstance(document, dict):
        raise ValueError("The description of the picture is damaged.")
    state = from_json({key: value for key, value in (document or {}).items() if value is not None})
    if state.latent is not None and not lies_in(Path(state.latent), studio.home / FOLDER / "latents"):
        raise ValueError("That latent was not made here: invert the picture on the page.")
    return state


def facts(studio: Studio, run: str) -> dict[str, Any]:
    """Return what the page needs to know about a trained model."""
    loaded = studio.model(run, newest=True)
    model, described = loaded.model, loaded.model.description
    found: dict[str, Any] = {
        "kind": described["kind"], "channels": model.spec.channels, "height": model.spec.height, "width": model.spec.width,
        "classes": list(described["data"].get("classes") or []) if model.spec.classes else [], "architecture": described["network"]["architecture"],
        "parameters": _parameters(model), "draws": loaded.drawing is not None, "images": described["training"]["images"],
        "seconds": described["training"]["seconds"], "directions": list(getattr(model, "directions", [])),
        "task": getattr(model, "task", None), "scale": getattr(model, "scale", None), "fills_holes": bool(getattr(model, "fills_holes", False)),
    }  # fmt: skip
    if loaded.drawing is not None:
        loaded.drawing.prepare()
        found |= {
            "axes": loaded.drawing.axis_count, "styles": model.has_styles, "z_size": model.z_size,
            "layers": int(model.network.layers) if model.has_styles else 0, "least_truncation": 0.0 if model.has_styles else 0.05,
            "named_directions": hooks.named_directions(model),
        }  # fmt: skip
    return found


def example_of(studio: Studio, run: str, number: int) -> bytes:
    """Return a picture that the run was trained on, as a PNG. Raises ValueError when they cannot be read."""
    from limner.data import open_source

    request = latent_map.request_of(studio.folder(run))
    source = open_source(request.data, labels=False)
    image: Image.Image = source.open(number % max(1, len(source.names)))
    buffer = io.BytesIO()
    image.convert("RGBA" if "A" in image.getbands() else "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _parameters(model: Any) -> int:
    network = getattr(model, "network", None)
    network = getattr(model, "networks", None) if network is None or not hasattr(network, "parameters") else network
    return sum(p.numel() for p in network.parameters()) if network is not None else 0

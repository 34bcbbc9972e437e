"""Requests about data sets and trainings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from starlette.responses import FileResponse, Response

import limner
from limner.apps.studio import hooks
from limner.apps.studio.dataset import complete, inspect
from limner.apps.studio.runs import sheet_path, sheets
from limner.apps.studio.state import command
from limner.apps.studio.studio import Studio
from limner.apps.web.errors import Refusal
from limner.core.files import lies_in
from limner.data.edges import make_pairs
from limner.data.open import expand_path
from limner.data.samples import SAMPLES

MAX_ENTRIES = 5000  # of a log in one answer
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # the address names the version
Fields = Annotated[dict[str, Any], Body()]


async def raw(request: Request) -> bytes:
    return await request.body()


Content = Annotated[bytes, Depends(raw)]


def router(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/home")
    def home() -> dict[str, Any]:
        described = [studio.runs.describe(path) for path in studio.runs.found().values()]
        return {
            "version": limner.__version__, "home": str(studio.home), "samples": list(SAMPLES), "features": hooks.features(),
            "recipes": [vars(recipe) for recipe in studio.recipes], "runs": sorted(described, key=lambda run: -run["updated"]),
        }  # fmt: skip

    @routes.get("/complete")
    def completions(text: str = "") -> list[str]:
        return complete(text[:4096])

    # ---- data ----

    @routes.post("/data")
    def begin_inspection(fields: Fields) -> dict[str, str]:
        source, size = str(fields.get("source") or ""), fields.get("size")
        return {"id": studio.inspections.add(inspect(source, True, None if size in (None, "") else int(str(size))))}

    @routes.get("/data/{name}")
    def inspection(name: str) -> dict[str, Any]:
        found = studio.inspections.get(name)
        found.finished.wait(0.5)  # the page asks again: fewer requests, and an answer as soon as there is one
        return found.describe()

    @routes.get("/data/{name}/sheet.png")
    def thumbnails(name: str) -> Response:
        found = studio.inspections.get(name)
        if found.report is None:
            raise Refusal("The pictures have not been read yet.", 404)
        return Response(found.sheet(), media_type="image/png", headers=FOREVER)

    @routes.post("/drops")
    def begin_drop(fields: Fields) -> dict[str, str]:
        path = studio.drops.begin(str(fields.get("name") or "pictures"))
        return {"id": path.name, "path": str(path)}

    @routes.post("/drops/{drop}/files")
    def keep_file(drop: str, name: str, content: Content) -> dict[str, bool]:
        try:
            studio.drops.add(drop, name, content)
        except KeyError:
            raise Refusal("There is no such drop.", 404) from None
        return {"kept": True}

    @routes.post("/edges")
    def edges(fields: Fields) -> dict[str, str]:
        source, size = str(fields.get("source") or ""), fields.get("size")
        out = studio.drops.begin(f"{studio.free_name(source, 'auto')}-pairs")
        if lies_in(out, expand_path(source)):
            raise ValueError("The pairs would lie among the pictures they are made of: choose a folder that does not hold the runs.")
        side = None if size in (None, "") else int(str(size))

        def work(progress: Any) -> dict[str, Any]:
            sentence = make_pairs(source, out, side, progress)
            return {"first": str(out / "edges"), "second": str(out / "pictures"), "message": sentence}

        line = command("limner", "edges", source, out, *(["--size", str(side)] if side else []))
        return {"job": studio.jobs.start(work), "command": line}

    @routes.get("/jobs/{job}")
    def job(job: str) -> dict[str, Any]:
        found = studio.jobs.registry.get(job)
        found.ended.wait(0.5)
        return found.describe()

    # ---- training ----

    @routes.post("/train/command")
    def train_command(fields: Fields) -> dict[str, str]:
        parts, folder, _, kind = studio.train_command(fields)
        studio.launches.prepare()  # the form is open: a training may begin
        return {"command": command(*parts), "name": folder.name, "kind": kind}

    @routes.post("/train")
    def train(fields: Fields) -> dict[str, Any]:
        parts, folder, recipe, kind = studio.train_command(fields)
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder.name} exists already: choose another name.")
        studio.launches.start(folder, parts, str(fields.get("source")), recipe, kind)
        return studio.runs.describe(folder)

    @routes.get("/runs/{run}")
    def state(run: str, since: int = 0, generation: int = -1) -> dict[str, Any]:
        folder = studio.folder(run)
        described = studio.runs.describe(folder)
        log = studio.runs.log(folder)
        first = since if generation == log.generation and 0 <= since <= len(log.entries) else 0
        return {"run": described, "log": {"generation": log.generation, "first": first, "entries": log.entries[first : first + MAX_ENTRIES], "total": len(log.entries)}}

    @routes.get("/runs/{run}/output")
    def output(run: str) -> dict[str, str]:
        return {"text": studio.launches.output(studio.folder(run))}

    @routes.get("/runs/{run}/sheets/{images}.png")
    def sheet(run: str, images: int) -> Response:
        folder = studio.folder(run)
        if images not in [one["images"] for one in sheets(folder)]:
            raise Refusal("There is no sheet at this number of images.", 404)
        return FileResponse(sheet_path(folder, images), media_type="image/png", headers=FOREVER)

    @routes.post("/runs/{run}/pause")
    def pause(run: str) -> dict[str, bool]:
        studio.launches.pause(studio.folder(run))
        return {"requested": True}

    @routes.post("/runs/{run}/resume")
    def resume(run: str, fields: Fields) -> dict[str, Any]:
        folder = studio.folder(run)
        described = studio.runs.describe(folder)
        if not described["resumable"]:
            before = studio.launches.of(folder)
            if before is None or described["usable"]:
                raise ValueError("This run does not say what it was started with: repeat its command in a terminal.")
            parts = before.command  # it ended before its first checkpoint: the same command again
        else:
            more = fields.get("more")
            parts = ["limner", "train", "--resume", str(folder), *(["--more", str(more)[:40]] if more else [])]
        studio.launches.start(folder, parts, described["data"], described["recipe"], described["kind"])
        return studio.runs.describe(folder)

    return routes

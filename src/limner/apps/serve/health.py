"""/healthz, /readyz and /metrics, and the middleware that counts requests and bounds how many are open."""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from limner.apps.serve.metrics import CONTENT_TYPE, write
from limner.apps.serve.shared import Service
from limner.apps.serve.waiting import JOBS
from limner.apps.web.errors import ErrorBody, Refusal

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PUBLIC = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # need no key: they say nothing else


def router(service: Service, stopping: Any) -> APIRouter:
    api = APIRouter(tags=["Health"])

    @api.get("/healthz", summary="Whether the server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Whether all models take requests")
    async def readyz() -> dict[str, str]:
        if stopping.is_set() or not service.ready():
            raise Refusal("The server is not ready.", 503)
        return {"status": "ready"}

    @api.get("/metrics", summary="Metrics in the text format of Prometheus", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(write(service.metrics), media_type=CONTENT_TYPE)

    return api


class Measured:
    """ASGI middleware that counts and times requests, and refuses them with 429 while too many are open.

    Their bodies and answers are in memory, so their number bounds the memory.
    """

    def __init__(self, app: Any, service: Service, error_body: ErrorBody) -> None:
        self.app, self.service, self.error_body = app, service, error_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def send_and_note(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        service = self.service
        service.open_requests += 1
        try:
            if service.open_requests > service.settings.max_open and scope["path"] not in PUBLIC:
                await self._refuse(scope["path"], send_and_note)
            else:
                await self.app(scope, receive, send_and_note)
        finally:
            service.open_requests -= 1
            for job in scope.get(JOBS, ()):
                job.close()
            route = str(getattr(scope.get("route"), "path", "other"))  # the template, so that paths do not become labels
            method = scope["method"] if scope["method"] in METHODS else "other"
            service.requests.add(route, method, str(status))
            service.seconds.observe(time.perf_counter() - started, route)

    async def _refuse(self, path: str, send: Any) -> None:
        content = json.dumps(self.error_body(path, 429, "The server is busy: try again in a moment.")).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), "retry-after": "1", "connection": "close"}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 429, "headers": pairs})
        await send({"type": "http.response.body", "body": content})

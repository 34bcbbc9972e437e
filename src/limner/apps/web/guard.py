"""ASGI middleware of every application: access, security headers, the size and duration of bodies, unexpected errors.

It is plain ASGI: Starlette's BaseHTTPMiddleware would run each request in a task of its own and hide disconnections.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from limner.apps.web.access import COOKIE, Access, values
from limner.apps.web.errors import ErrorBody, Refusal, openai_error, short

log = logging.getLogger("limner.web")
CONTENT_SECURITY_POLICY = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:", "media-src 'self' blob:",
    "font-src 'self'", "connect-src 'self'", "manifest-src 'self'", "form-action 'self'", "base-uri 'none'",
    "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
])  # fmt: skip
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
MAX_HEADERS = 32 << 10  # bytes of a request's headers and path
LARGE = ("multipart/", "image/", "application/octet-stream", "application/zip")  # contents that hold pictures
DEFAULT_HEADERS = {"cache-control": "no-store"}  # unless the answer says otherwise


class Guard:
    """The outermost middleware.

    max_body: bytes of a body that are read. max_json: the same of a body that is neither a form nor a picture. body_seconds: until
    the whole body has arrived.
    """

    def __init__(
        self, app: Any, access: Access, max_body: int, max_json: int, body_seconds: float = 30.0, error_body: ErrorBody = openai_error
    ) -> None:
        self.app, self.access, self.max_body, self.max_json = app, access, max_body, max_json
        self.body_seconds, self.error_body = body_seconds, error_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": with_security(message.get("headers", []))}
            await send(message)

        async def refuse(refusal: Refusal) -> None:
            await self._answer(scope["path"], send_with_headers, refusal.status, short(refusal), refusal.headers)

        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope.get("raw_path") or b"") > MAX_HEADERS:
                raise Refusal("The headers are too long.", 431)
            if self.access.sign_in(scope["path"], scope["method"], scope["query_string"]):
                self.access.check_host(scope["headers"])
                await redirect_with_cookie(send_with_headers, self.access.session)
                return
            self.access.check("http", scope["method"], scope["path"], scope["headers"], scope["query_string"])
            kind = "".join(values(scope["headers"], "content-type")).lower()
            most = self.max_body if kind.startswith(LARGE) else min(self.max_json, self.max_body)
            body = Body(receive, scope["headers"], most, self.body_seconds)
            await body.run(self.app, scope, send_with_headers)
        except Refusal as refusal:
            if not started:
                await refuse(refusal)
        except Exception:
            log.exception("%s %s failed", scope["method"], ascii(scope["path"])[:200])
            if started:
                raise  # the connection is closed: the answer cannot be completed
            await self._answer(scope["path"], send_with_headers, 500, "The server failed at this request; its log says why.", {})

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self.access.check("websocket", "GET", scope["path"], scope["headers"], scope["query_string"])
        except Refusal:
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the answer is 403
            return
        await self.app(scope, receive, send)

    async def _answer(self, path: str, send: Any, status: int, message: str, headers: Mapping[str, str]) -> None:
        content = json.dumps(self.error_body(path, status, message)).encode()
        pairs = {"content-type": "application/json", "content-length": str(len(content)), **headers}
        if status in (401, 403, 408, 413, 421, 431):
            pairs["connection"] = "close"  # the body may not have been read
        listed = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs.items()]
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": content})


class Body:
    """The body of a request, counted as it arrives: its Content-Length may be absent, and a stream has none."""

    def __init__(self, receive: Any, headers: Any, most: int, seconds: float) -> None:
        self.receive, self.most, self.seconds = receive, most, seconds
        self.length = values(headers, "content-length")
        self.seen, self.done = 0, False
        self.refusal: Refusal | None = None
        self.deadline = 0.0

    async def run(self, app: Any, scope: Any, send: Any) -> None:
        """Run the application. Raises Refusal for a body that is too large or too slow, whatever the application answers."""
        if self.length and (not self.length[0].isdigit() or len(self.length[0]) > 18 or int(self.length[0]) > self.most):
            raise self.too_large()
        self.deadline = asyncio.get_running_loop().time() + self.seconds
        started = False

        async def send_unless_refused(message: Any) -> None:
            nonlocal started
            started = started or self.refusal is None
            if started:
                await send(message)

        try:
            await app(scope, self._receive, send_unless_refused)
        except Exception:
            if self.refusal is None:
                raise
        if self.refusal is not None and not started:
            raise self.refusal

    async def _receive(self) -> Any:
        if self.refusal is not None:
            raise self.refusal
        if self.done:  # what comes now is a disconnection, for which any time is right
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.receive()
        except TimeoutError:
            self.refusal = Refusal(f"The request did not arrive within {self.seconds:g} seconds.", 408)
            raise self.refusal from None
        if message["type"] == "http.request":
            self.seen += len(message.get("body", b""))
            self.done = not message.get("more_body", False)
            if self.seen > self.most:
                self.refusal = self.too_large()
                raise self.refusal
        return message

    def too_large(self) -> Refusal:
        return Refusal(f"The request is too large: at most {self.most:,} bytes are read.", 413)


def with_security(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with the security headers, which replace those of the same names."""
    kept = [(name, value) for name, value in headers if name.decode("latin-1").lower() not in SECURITY_HEADERS]
    names = {name.lower() for name, _ in kept}
    kept += [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    return kept + [(name.encode(), value.encode()) for name, value in DEFAULT_HEADERS.items() if name.encode() not in names]


async def redirect_with_cookie(send: Any, session: str) -> None:
    """Answer with the session's cookie, which scripts cannot read and other sites do not send, and a redirect without the key."""
    cookie = f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict"
    headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})

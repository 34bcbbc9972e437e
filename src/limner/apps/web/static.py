"""The files of a page: a fixed list, read into memory at the start. A request names an entry of the list, never a path."""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from limner.apps.web.access import Access
from limner.apps.web.errors import Refusal

TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".ico": "image/x-icon", ".woff2": "font/woff2",
    ".json": "application/json",
}  # fmt: skip


@dataclass(frozen=True)
class StaticFile:
    """One file. tag: its hash, for the browser's cache."""

    content: bytes
    type: str
    tag: str


class StaticFiles:
    """Files by name."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.files = {name: _file(name, content) for name, content in sorted(contents.items())}

    @classmethod
    def of_package(cls, package: str, folder: str) -> StaticFiles:
        """Return the files of a folder of an installed package (not those of its subfolders) whose suffixes are known."""
        found = (entry for entry in files(package).joinpath(folder).iterdir() if entry.is_file())
        return cls({entry.name: entry.read_bytes() for entry in found if _suffix(entry.name) in TYPES})

    def get(self, name: str) -> StaticFile:
        """Return a file. Raises Refusal for a name that is not in the list."""
        if name not in self.files:
            raise Refusal("There is nothing at this address.", 404)
        return self.files[name]


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()


def _file(name: str, content: bytes) -> StaticFile:
    return StaticFile(content, TYPES[_suffix(name)], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def fill(text: str, values: dict[str, str]) -> str:
    """Return HTML with each {{name}} replaced by its value as text: markup in values is escaped."""
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", html.escape(value))
    return text


def add_page(app: Any, static: StaticFiles, access: Access, index: str = "index.html") -> None:
    """Add `GET /`, the page with its token filled in, and `GET /static/{name}` to a FastAPI application."""
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response

    page = fill(static.get(index).content.decode(), {"token": access.token or ""})

    def show_page() -> Response:
        return HTMLResponse(page)

    def show_file(name: str, request: Request) -> Response:
        file = static.get(name)
        headers = {"etag": file.tag, "cache-control": "no-cache"}  # asked for again, and sent again only if changed
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.type, headers=headers)

    show_file.__annotations__ = {"name": str, "request": Request, "return": Response}  # names that are imported above
    app.add_api_route("/", show_page, include_in_schema=False, response_model=None)
    app.add_api_route("/static/{name}", show_file, include_in_schema=False, response_model=None)

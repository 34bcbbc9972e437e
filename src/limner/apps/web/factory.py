"""`create_app`: a FastAPI application with access rules, limits, security headers and errors as JSON."""

from __future__ import annotations

import logging
import threading
from typing import Any

import limner
from limner.apps.web.access import Access
from limner.apps.web.errors import ErrorBody, install_handlers, openai_error
from limner.apps.web.guard import Guard

MAX_BODY = 32 << 20  # bytes
MAX_JSON = 4 << 20  # bytes; as Python objects they take many times as much memory


def create_app(
    title: str, access: Access, max_body: int = MAX_BODY, body_seconds: float = 30.0, lifespan: Any = None,
    description: str = "", error_body: ErrorBody = openai_error, max_json: int = MAX_JSON,
) -> Any:  # fmt: skip
    """Return a FastAPI application without routes of its own except `/openapi.json`.

    Parameters
    ----------
    title, description
        Of the OpenAPI document.
    access
        Who may use it.
    max_body, max_json, body_seconds
        Limits of a request's body: its bytes, the fewer ones of a body that is neither a form nor a picture, and the seconds
        until it has arrived. Beyond them the answer is 413 or 408. Uploaded files stay in memory.
    lifespan
        As FastAPI takes it.
    error_body
        (path, status, sentence) -> the JSON of an error.

    Returns
    -------
    fastapi.FastAPI
        `state.stopping` is a `threading.Event` that is set when the server shuts down; streams of events end then. There is no
        `/docs`: its page loads scripts from another site.
    """
    from fastapi import FastAPI
    from starlette.formparsers import MultiPartParser

    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, max_body)  # no upload is written to a temporary file
    app = FastAPI(
        title=title, version=limner.__version__, description=description, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # damaged forms are answered, not logged
    app.state.stopping = threading.Event()
    app.state.access = access
    install_handlers(app, error_body)
    app.add_middleware(Guard, access=access, max_body=max_body, max_json=max_json, body_seconds=body_seconds, error_body=error_body)
    return app

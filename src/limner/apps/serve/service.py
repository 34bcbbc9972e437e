"""The application of `limner serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from limner.apps.model import GeneratorModel
from limner.apps.serve import health, inference, native, openai_api
from limner.apps.serve.served import Editor
from limner.apps.serve.settings import Settings
from limner.apps.serve.shared import Service
from limner.apps.web.access import Access
from limner.apps.web.errors import openai_error
from limner.apps.web.factory import create_app

ABOUT = (
    "Trained Limner models. `/v1/models` and `/v1/images` follow OpenAI's images API, `/v2` the Open Inference Protocol; "
    "`/v1/runs` offers all that a model can do."
)


def serve_app(
    models: Sequence[tuple[str, Any]], access: Access, settings: Settings | None = None,
    editor_of: Callable[[Any], Editor | None] = lambda model: None,
) -> Any:  # fmt: skip
    """Return the FastAPI application that serves models.

    Parameters
    ----------
    models
        (name, what `limner.load` returned); ids are made of the names.
    access
        Who may use it; health checks are public (`health.PUBLIC`).
    settings
        Limits.
    editor_of
        Returns what edits pictures of a model, or None where nothing does.

    Returns
    -------
    fastapi.FastAPI
        `state.service` is the `Service`, whose workers end with the application.
    """
    settings = settings or Settings()
    service = Service(settings, editor_of)
    for name, model in models:
        service.add(model, name)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        service.close()

    app = create_app(
        "Limner", access, settings.max_body, settings.body_seconds, lifespan=lifespan, description=ABOUT, error_body=error_body, max_json=settings.max_json
    )
    app.state.service = service
    for router in (
        openai_api.router(service), native.router(service), inference.router(service), health.router(service, app.state.stopping)
    ):  # fmt: skip
        app.include_router(router)

    app.add_api_route("/", index, include_in_schema=False)
    app.add_middleware(health.Measured, service=service, error_body=error_body)  # outermost: it counts refusals too
    return app


async def index() -> dict[str, Any]:
    """Return where to begin."""
    return {"name": "limner", "openapi": "/openapi.json", "models": "/v1/models", "runs": "/v1/runs", "metrics": "/metrics"}


def error_body(path: str, status: int, message: str) -> Any:
    """Return the JSON of an error: a plain text for the Open Inference Protocol, otherwise OpenAI's form."""
    return {"error": message} if path == "/v2" or path.startswith("/v2/") else openai_error(path, status, message)


def calibrate(model: Any, progress: Any = None) -> None:
    """Prepare the truncation of every class of a generator, so that no request waits for it."""
    if isinstance(model, GeneratorModel):
        import numpy as np

        classes = model.spec.classes
        model.calibrate(np.arange(classes) if classes else None, progress)

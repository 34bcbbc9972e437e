"""The studio as a web application."""

from __future__ import annotations

from typing import Any

from limner.apps.studio.studio import Studio
from limner.apps.web.access import Access
from limner.apps.web.factory import create_app
from limner.apps.web.static import StaticFiles, add_page

MAX_BODY = 256 << 20  # bytes of a dropped file
BODY_SECONDS = 600.0


def application(studio: Studio, access: Access) -> Any:
    """Return the FastAPI application of a studio."""
    from limner.apps.studio import routes_models, routes_runs

    app = create_app("Limner studio", access, MAX_BODY, BODY_SECONDS)
    add_page(app, StaticFiles.of_package("limner.apps.studio", "page"), access)
    app.include_router(routes_runs.router(studio))
    app.include_router(routes_models.router(studio))
    app.include_router(routes_models.blobs(studio))
    return app

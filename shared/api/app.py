"""Puts the HTTP API together. It runs behind the Functions host's catch-all route, or any other ASGI server."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from shared.api import audit, connections, destinations, docs, exports, health, me, oauth, schedule, segments
from shared.api.errors import ErrorDocument, add_error_handlers
from shared.api.gate import Gate
from shared.api.services import Services

VERSION: Final = "1"
OPENAPI_PATH: Final = "/api/openapi.json"

_DESCRIPTION: Final = """Exports segments of customer profiles from Azure Blob Storage to Mailchimp audiences.

Set-up: create a destination (with consent), sign in with an API key, pick an audience, match the fields, choose
segments. Then export on demand, or set a schedule. Each export accounts for every profile it read.

Every error is `{"error": {"code", "message", "target", "details"}}`. Roles: Viewer reads; Contributor also runs
exports and edits data matching and segments; Administrator does everything."""

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorDocument, "description": "The request cannot be fulfilled; the body says why."},
    "5XX": {"model": ErrorDocument, "description": "Something the app needs does not answer; see Retry-After."},
}


def create_app(services: Services) -> FastAPI:
    """The API over ``services``."""
    app = FastAPI(
        title="Segments to Mailchimp",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be built from the Host header
        responses=_ERRORS,
        generate_unique_id_function=lambda route: route.name,
    )
    for area in (health, segments, destinations, connections, oauth, exports, schedule, audit):
        app.include_router(area.routes(services))
    app.include_router(me.routes())
    app.include_router(docs.routes(OPENAPI_PATH))
    add_error_handlers(app, services.settings.public_url)
    app.add_middleware(Gate, settings=services.settings, new_id=services.new_request_id)
    return app

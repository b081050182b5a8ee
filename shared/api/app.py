"""Puts the HTTP API together. It runs behind the Functions host's catch-all route, or any other ASGI server."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from pydantic.alias_generators import to_camel

from shared.api import (
    audit,
    connections,
    destinations,
    docs,
    exports,
    health,
    me,
    oauth,
    schedule,
    segments,
    suppressed,
)
from shared.api.errors import ErrorDocument, add_error_handlers
from shared.api.gate import Gate
from shared.api.openapi import TAGS, DocumentedApi
from shared.api.services import Services

VERSION: Final = "1"
OPENAPI_PATH: Final = "/api/openapi.json"

_DESCRIPTION: Final = """Exports segments of customer profiles from Azure Blob Storage to Mailchimp audiences.

Set-up: create a destination (with consent), sign in to Mailchimp, pick an audience, match the fields, choose segments,
add yourself as export user. Then export on demand, or set a schedule. Each export accounts for every profile it read.

Every error is `{"error": {"code", "message", "target", "details"}}`. Roles: Viewer reads; Contributor also configures
and runs the destinations that were given to them; Administrator does everything. Times are in UTC."""


def create_app(services: Services) -> FastAPI:
    """The API over ``services``."""
    app = DocumentedApi(
        title="Segments to Mailchimp",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be built from the Host header
        responses={500: {"model": ErrorDocument}},
        openapi_tags=[{"name": name, "description": description} for name, description in TAGS.items()],
        servers=[{"url": services.settings.public_url, "description": "This installation"}],
        generate_unique_id_function=lambda route: to_camel(route.name),
    )
    for area in (health, segments, destinations, connections, oauth, exports, suppressed, schedule, audit):
        app.include_router(area.routes(services))
    app.include_router(me.routes())
    app.include_router(docs.routes(OPENAPI_PATH))
    add_error_handlers(app, services.settings.public_url)
    app.add_middleware(Gate, settings=services.settings, new_id=services.new_request_id)
    return app

"""The API's documentation page: shows the OpenAPI document and loads nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

_PAGE = Path(__file__).with_name("docs.html")
_POLICY = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes(openapi_path: str) -> APIRouter:
    """``/api/docs``."""
    router = APIRouter(prefix="/api", include_in_schema=False)

    @router.get("/docs")
    def get_docs() -> HTMLResponse:
        page = _PAGE.read_text(encoding="utf-8").replace("{{openapi}}", openapi_path)
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    return router

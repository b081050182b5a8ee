"""Routes that say whether the app is alive, and whether what it needs answers."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from shared.api.services import Services
from shared.storage.json_documents import JsonDocument


class Health(JsonDocument):
    """The process answers."""

    status: Literal["ok"] = "ok"
    """Always `ok`."""


class AppReadiness(JsonDocument):
    """What the app needs, by name, and whether it answers."""

    status: Literal["ready", "notReady"]
    """`ready` when all checks hold."""
    checks: dict[str, bool]
    """By name, whether it answers."""


def routes(services: Services) -> APIRouter:
    """``/api/health`` and ``/api/ready``."""
    router = APIRouter(prefix="/api", tags=["health"])

    @router.get("/health", openapi_extra={"security": []})
    async def get_health() -> Health:
        """Whether the process is alive. Open to everybody, and asks nothing else."""
        return Health()

    @router.get("/ready", responses={503: {"model": AppReadiness, "description": "Something does not answer."}})
    def get_readiness(response: Response) -> AppReadiness:
        """Whether storage and the secret store answer. For everybody who is signed in."""
        checks = {name: check() for name, check in services.readiness.items()}
        ready = all(checks.values())
        if not ready:
            response.status_code = 503
            response.headers["Retry-After"] = "5"
        return AppReadiness(status="ready" if ready else "notReady", checks=checks)

    return router

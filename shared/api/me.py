"""Who the caller is: a portal shows it, and administrators give destinations to people by this ID."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from shared.api.auth import Principal
from shared.storage.json_documents import JsonDocument


class Me(JsonDocument):
    """The caller as the sign-in tells."""

    id: str
    """The object ID in Entra ID; empty where the sign-in names none."""
    name: str
    """How the caller signs in."""
    role: Literal["Viewer", "Contributor", "Administrator"] | None
    """The highest one; null for somebody who has none."""


def routes() -> APIRouter:
    """``/api/me``."""
    router = APIRouter(prefix="/api", tags=["me"])

    @router.get("/me")
    async def get_me(request: Request) -> Me:
        """Your own ID, name and role. For everybody who is signed in."""
        principal: Principal = request.state.principal
        role = principal.role.title if principal.role is not None else None
        return Me.model_validate({"id": principal.person.id, "name": principal.person.name, "role": role})

    return router

"""Who asks, and what they may do.

Identity comes from the platform's sign-in (App Service authentication with Entra ID), which puts it into the header
``X-MS-CLIENT-PRINCIPAL`` and takes away whatever a client sent under that name ("Work with user identities in Azure
App Service authentication"). Where the platform's sign-in is off, the header proves nothing and is not looked at.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict

from shared.api.errors import ApiError
from shared.destinations.model import Destination
from shared.destinations.service import DestinationService
from shared.people import Person

PRINCIPAL_HEADER: Final = "x-ms-client-principal"
_MAX_HEADER_CHARACTERS: Final = 64 * 1024
_ROLE_CLAIMS: Final = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})
_ANY_ROLE_CLAIM: Final = re.compile(r"(.*[/:#])?roles?", re.IGNORECASE)
"""What a principal may name as its claim of roles beside those. Not just any claim: people choose their display name
themselves, and somebody may choose "Administrator"."""
_ID_CLAIMS: Final = frozenset({"oid", "http://schemas.microsoft.com/identity/claims/objectidentifier"})
_NAME_CLAIMS: Final = (
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "name",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "appid",
    "azp",
    "http://schemas.microsoft.com/identity/claims/objectidentifier",
    "oid",
)


class _Claim(BaseModel):
    model_config = ConfigDict(strict=True)

    typ: str
    val: str


class _Payload(BaseModel):
    """The JSON in the header."""

    model_config = ConfigDict(strict=True)

    claims: list[_Claim]
    role_typ: str | None = None
    name_typ: str | None = None


class Role(IntEnum):
    """The app roles of docs/api.md; each may do what the ones before it may."""

    VIEWER = 1
    CONTRIBUTOR = 2
    ADMINISTRATOR = 3

    @property
    def title(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. ``role`` is the highest one, None for somebody who is signed in but has no role."""

    person: Person
    role: Role | None


LOCAL_USER: Final = Principal(Person(id="local", name="local user"), Role.ADMINISTRATOR)


def read_principal(header: str) -> Principal | None:
    """The caller that the platform names; None where the header is not what the platform writes."""
    if len(header) > _MAX_HEADER_CHARACTERS:
        return None
    try:
        payload = _Payload.model_validate_json(base64.b64decode(header, validate=True))
    except ValueError:
        return None
    return Principal(Person(id=_object_id(payload.claims), name=_name(payload)), _role(payload))


def _role(payload: _Payload) -> Role | None:
    """The highest role; None where there is none, or none that this app knows by exactly this name."""
    kinds = _ROLE_CLAIMS
    if payload.role_typ is not None and _ANY_ROLE_CLAIM.fullmatch(payload.role_typ):
        kinds = kinds | {payload.role_typ}
    values = {claim.val for claim in payload.claims if claim.typ in kinds}
    return max((role for role in Role if role.title in values), default=None)


def _object_id(claims: Sequence[_Claim]) -> str:
    """What tells callers apart: the object ID in Entra ID; empty where the platform names none, or more than one."""
    found = {claim.val for claim in claims if claim.typ in _ID_CLAIMS and claim.val.strip()}
    return found.pop()[:64] if len(found) == 1 else ""


def _name(payload: _Payload) -> str:
    """The name under which the caller's doings are recorded: how they sign in, or an application's ID."""
    values = {claim.typ: claim.val for claim in reversed(payload.claims)}
    for kind in (*_NAME_CLAIMS, payload.name_typ or ""):
        if values.get(kind, "").strip():
            printable = "".join(char for char in values[kind] if char.isprintable())
            return printable[:200]
    return "signed-in user"


def may(principal: Principal, role: Role) -> bool:
    return principal.role is not None and principal.role >= role


class RequiredRole(SecurityBase):
    """A dependency that lets in only callers who have ``role`` or a higher one; the OpenAPI document shows it."""

    scheme_name = "entraId"
    model = HTTPBearer(
        bearerFormat="JWT",
        description=(
            "A token of Microsoft Entra ID for this app, with one of its app roles (Viewer, Contributor, "
            "Administrator). The platform checks it before the app is asked. On the developer's own machine no sign-in "
            "is needed."
        ),
    )

    def __init__(self, role: Role) -> None:
        self._role = role

    async def __call__(self, request: Request) -> Principal:
        principal: Principal = request.state.principal
        require_role(principal, self._role, "This")
        return principal


def require_role(principal: Principal, role: Role, what: str) -> None:
    """Raise a 403 that names the role that is missing."""
    if not may(principal, role):
        raise ApiError(
            403,
            "roleMissing",
            f"{what} needs the role {role.title}. Ask an administrator of the app to assign it to you in Entra ID.",
        )


def is_open(destination: Destination, principal: Principal) -> bool:
    """Whether an administrator asks, or somebody to whom the destination was given."""
    return may(principal, Role.ADMINISTRATOR) or destination.is_open_to(principal.person)


def require_open(destination: Destination, principal: Principal) -> None:
    """Raise a 403 unless ``is_open``."""
    if is_open(destination, principal):
        return
    raise ApiError(
        403,
        "notShared",
        f"The destination '{destination.display_name}' was not given to you. Ask an administrator of the app to add "
        "you to its contributors.",
    )


def open_destination(destinations: DestinationService, destination_id: str, principal: Principal) -> Destination:
    """The destination, for whom it is open. Raises DestinationNotFound, and what ``require_open`` raises."""
    destination = destinations.get(destination_id).destination
    require_open(destination, principal)
    return destination


Viewer = Annotated[Principal, Security(RequiredRole(Role.VIEWER), scopes=[Role.VIEWER.title])]
Contributor = Annotated[Principal, Security(RequiredRole(Role.CONTRIBUTOR), scopes=[Role.CONTRIBUTOR.title])]
Administrator = Annotated[Principal, Security(RequiredRole(Role.ADMINISTRATOR), scopes=[Role.ADMINISTRATOR.title])]

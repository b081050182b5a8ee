"""Routes of the sign-in to Mailchimp with OAuth 2: where it begins, and where the browser comes back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from azure.core.exceptions import AzureError
from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse

from shared.api.answers import LOCATION, error_pages, errors, sends
from shared.api.auth import Administrator, Principal, Role, require_role
from shared.api.errors import KNOWN_ERRORS, ApiError, status_of
from shared.api.pages import page, sign_in_first
from shared.api.parameters import DestinationId
from shared.api.services import Services
from shared.destinations import errors as destinations
from shared.destinations.authorization import CALLBACK_PATH, LIFETIME, PASSING, Authorization
from shared.mailchimp import errors as mailchimp
from shared.requests import PRINTABLE
from shared.requests import Request as RequestBody
from shared.secrets.store import SecretStoreError
from shared.storage.json_documents import JsonDocument

_PARAMETERS: Final = {
    # No comma: the Functions host joins the values of a name that comes more than once with one.
    "state": re.compile(r"[A-Za-z0-9_-]{1,128}"),
    "code": re.compile(r"[!-+\--~]{1,512}"),
    "error": re.compile(r"[ -+\--~]{1,100}"),
}
_LONGEST_QUERY: Final = 8192
_OURS: Final = frozenset({"mailchimp", "destinationId", "code"})
_RETRY_SECONDS: Final = 10

_STATUS: Final[dict[type[Exception], int]] = {
    # where the page is about a sign-in that came back, and not about a request's own address or body
    destinations.DestinationNotFound: 409,
    destinations.SignInRefused: 409,
    mailchimp.SignInRefused: 400,
}


class AuthorizeRequest(RequestBody):
    """Where the browser is sent after the sign-in."""

    return_to: Annotated[str, Field(min_length=1, max_length=2048), PRINTABLE] | None = None
    """A page of a portal, whose origin is in the setting PORTAL_ORIGINS; left out, a plain page is shown."""


class AuthorizeView(JsonDocument):
    """A sign-in that was started."""

    authorize_url: str
    """The page of Mailchimp to open in the browser of whoever asked."""
    expires_at: datetime
    """By when that person has to be back."""


@dataclass(frozen=True, slots=True)
class _Returned:
    """What Mailchimp gave the browser to bring back: a code, or an error."""

    state: str
    code: str | None
    error: str | None


_HTML: Final[dict[str, Any]] = {"text/html": {"schema": {"type": "string"}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "A page: connected.", "content": _HTML},
    303: {
        "description": "To `returnTo`, with `mailchimp` (`connected` or `failed`), `destinationId`, `code` (why).",
        **sends(LOCATION),
    },
}
_DOCUMENTED: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": name == "state",
            "schema": {"type": "string"},
            "description": description,
        }
        for name, description in (
            ("state", "The state of the sign-in that was started."),
            ("code", "Exchanged for a token; absent where the sign-in failed."),
            ("error", "Why it failed, e.g. access_denied; absent where it did not."),
            ("error_description", "Ignored."),
        )
    ]
}


def routes(services: Services) -> APIRouter:
    """``…/authorize`` and the callback."""
    router = APIRouter(tags=["connection"])
    authorizations = services.authorizations

    @router.post(
        "/api/destinations/{destinationId}/authorize",
        responses=errors(
            "destinationNotFound",
            "destinationBeingRemoved",
            "oauthNotConfigured",
            "personUnknown",
            "returnToNotAllowed",
        ),
    )
    def authorize(
        destination_id: DestinationId, user: Administrator, body: AuthorizeRequest | None = None
    ) -> AuthorizeView:
        """Start a sign-in to Mailchimp with OAuth 2. Open `authorizeUrl` in your browser: you come back to this app as
        the same person within ten minutes, once, and are shown a page, or sent to `returnTo`.

        Needs the app to be registered at Mailchimp: 409 `oauthNotConfigured` if it is not.
        """
        begun = authorizations.begin(destination_id, user.person, body.return_to if body else None)
        return AuthorizeView(authorize_url=begun.authorize_url, expires_at=begun.expires_at)

    @router.get(
        CALLBACK_PATH,
        response_class=HTMLResponse,
        responses=_RESPONSES | error_pages(_example_pages()),
        openapi_extra=_DOCUMENTED,
    )
    def complete_sign_in(request: Request) -> Response:
        """Where Mailchimp sends the browser back to; not for programs. Needs the person who began the sign-in, who has
        to be an administrator still. Answers a page, or goes on to `returnTo`."""
        user: Principal = request.state.principal
        try:
            returned = _read(request)
            found = authorizations.find(returned.state, user.person)
        except KNOWN_ERRORS as error:
            return _failed(error, None)
        try:
            require_role(user, Role.ADMINISTRATOR, "Connecting a destination")
            if returned.code is None:
                authorizations.refuse(found, returned.error or "")
            stored = authorizations.complete(found, returned.code or "")
        except KNOWN_ERRORS as error:
            return _failed(error, found.authorization)
        account = stored.destination.sign_in.account_name
        if found.authorization.return_to is not None:
            return _go_back(found.authorization.return_to, mailchimp="connected", destinationId=stored.destination.id)
        return page("Connected to Mailchimp", f"Connected to Mailchimp as {account}, you can close this window.")

    return router


def _read(request: Request) -> _Returned:
    """The parameters of the callback, each there at most once. Raises AuthorizationMalformed.

    Mailchimp's own words about an error are left unread: anybody can put words into an address.
    """
    if len(request.url.query) > _LONGEST_QUERY:
        raise destinations.AuthorizationMalformed
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    found: dict[str, str] = {}
    for name, pattern in _PARAMETERS.items():
        values = given.get(name, [])
        if len(values) > 1 or not all(pattern.fullmatch(value) for value in values):
            raise destinations.AuthorizationMalformed
        if values:
            found[name] = values[0]
    if "state" not in found or ("code" in found) == ("error" in found):
        raise destinations.AuthorizationMalformed
    return _Returned(found["state"], found.get("code"), found.get("error"))


def _failed(error: Exception, authorization: Authorization | None) -> Response:
    """The page for an error, or the way to the portal where the caller has proved to be the one who asked for it."""
    if authorization is not None and authorization.return_to is not None:
        code = str(getattr(error, "code", "") or "storageUnavailable")
        return _go_back(
            authorization.return_to, mailchimp="failed", destinationId=authorization.destination_id, code=code
        )
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), status_of(error))
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else {}
    return page("Not connected to Mailchimp", _sentence(error), status, headers=headers)


def _example_pages() -> dict[str, Response]:
    """A page for each code with which a sign-in may fail."""
    return {
        "signInRequired": sign_in_first({"query_string": b""}),
        **{
            str(getattr(error, "code", "")): _failed(error, None)
            for error in (
                destinations.AuthorizationMalformed(),
                destinations.AuthorizationUnknown(),
                destinations.AuthorizationExpired(),
                destinations.AuthorizationDenied(),
                destinations.AuthorizationOfAnother(),
                ApiError(403, "roleMissing", "Connecting a destination needs the role Administrator."),
                destinations.AuthorizationUsed(),
                destinations.AuthorizationInProgress(),
                destinations.DestinationBeingRemoved("5f0c2a9be1d47836"),
                destinations.DestinationChanged("5f0c2a9be1d47836"),
                destinations.AuthorizationFailed(),
                mailchimp.SignInNotConfigured("Mailchimp does not know this app.", action="Correct its settings."),
                mailchimp.ApiRootRefused("Mailchimp named an address that is not its own.", action="Begin again."),
                SecretStoreError("The secret store does not answer."),
                mailchimp.Unavailable("Mailchimp does not answer (503).", reason="serverError", outcome_unknown=False),
            )
        },
    }


def _sentence(error: Exception) -> str:
    """What happened and what to do, for the person in front of the page."""
    reload = f"Reload this page in a moment: that works for {_minutes()} minutes from the start of the sign-in."
    match error:
        case destinations.DestinationNotFound() | destinations.DestinationBeingRemoved():
            return "The destination was removed in the meantime, so nothing was connected. Create another destination."
        case mailchimp.Unavailable():
            return f"{error.message} Nothing was connected yet. {reload}"
        case mailchimp.MailchimpError():
            return f"{error.message} {error.action}"
        case SecretStoreError():
            return f"{error} Nothing was connected yet. Then reload this page, or start the sign-in again."
        case AzureError():
            return f"The app's storage or secret store did not answer as it should. Nothing was connected yet. {reload}"
        case _ if isinstance(error, PASSING):
            return f"{error} Nothing was connected yet. {reload}"
        case _:
            return str(error)


def _minutes() -> int:
    return int(LIFETIME.total_seconds() // 60)


def _go_back(return_to: str, **parameters: str) -> RedirectResponse:
    """To the portal, with our parameters instead of those that an earlier sign-in left in the address."""
    address, hash_sign, fragment = return_to.partition("#")
    path, _, query = address.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] not in _OURS]
    return RedirectResponse(f"{path}?{'&'.join([*kept, urlencode(parameters)])}{hash_sign}{fragment}", 303)

"""The gate that every request passes before FastAPI sees it: place, identity, origin, size and kind of the body.

Also what every answer gets on the way out: a request ID, headers for browsers, and a plain sentence where something
unexpected happened. Plain ASGI, because the Functions adapter buffers and because no route may be left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import log, trace
from shared.api.auth import LOCAL_USER, PRINCIPAL_HEADER, Principal, read_principal
from shared.api.body import SAFE_METHODS, CallerGone, read_body, refuse_body, replay
from shared.api.cors import Cors
from shared.api.errors import error_response, unreadable_request
from shared.api.pages import sign_in_first
from shared.destinations.authorization import CALLBACK_PATH
from shared.failures import frames_of, types_of
from shared.settings import Settings

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-original-host", "x-real-ip", "via")
_OPEN_PATH: Final = "/api/health"
_OPEN_METHODS: Final = frozenset({"GET", "HEAD"})

_RESPONSE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, settings: Settings, new_id: Callable[[], str]) -> None:
        self._app = app
        self._settings = settings
        self._new_id = new_id
        self._cors = Cors(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(scope.get("azure_functions.invocation_id") or self._new_id())
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        answer = _Answer(send, request_id, lambda headers: self._cors.add_to(headers, origin))
        platform = getattr(scope.get("azure_functions.trace_context"), "trace_parent", None)
        with trace.going_on(headers.get("traceparent"), platform):
            await self._answer(scope, receive, answer, request_id)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer, request_id: str) -> None:
        try:
            await self._pass(scope, receive, answer)
        except CallerGone:
            log.event("api.callerGone", requestId=request_id)
        except Exception as error:
            log.error(
                "api.unexpectedError",
                requestId=request_id,
                errorType=types_of(error),
                frames=frames_of(error),
            )
            if answer.started:
                raise
            response = error_response(
                500,
                "unexpectedError",
                f"Something unexpected happened. If it happens again, look for '{request_id}' in the app's log.",
            )
            await response(scope, receive, answer)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] == _OPEN_PATH and scope["method"] in _OPEN_METHODS:
            await self._app(scope, receive, send)
            return
        found = self._identify(scope, headers)
        if self._settings.auth_enabled or isinstance(found, Principal):
            found = self._cors.preflight(scope["method"], headers) or found
        if isinstance(found, Principal) and scope["method"] not in SAFE_METHODS:
            found = self._refuse_foreign_origin(headers) or found
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        body = await read_body(receive)
        refusal = refuse_body(scope["method"], headers, body)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        state = {**(scope.get("state") or {}), "principal": found}
        await self._app({**scope, "state": state}, replay(body or b"", receive), send)

    def _identify(self, scope: Scope, headers: Headers) -> Principal | Response:
        if self._settings.auth_enabled:
            if "host" in headers and _host_name(headers["host"]) is None:
                # The adapter puts our path together from it: it would not be the one that the platform let through.
                return unreadable_request()
            principal = read_principal(headers.get(PRINCIPAL_HEADER, ""))
            if principal is None and scope["path"] == CALLBACK_PATH:
                return sign_in_first(scope)  # a person's browser, and not a program
            if principal is None:
                return error_response(
                    401,
                    "signInRequired",
                    "You are not signed in. Sign in with Entra ID first.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return principal
        if self._settings.site_name is not None:
            return error_response(
                503,
                "authenticationOff",
                "This app answers nothing while App Service authentication is off. Turn it on (Authentication, add "
                "the Microsoft identity provider, require authentication).",
            )
        if not _is_local(scope, headers):
            return error_response(
                403,
                "notLocal",
                "Without App Service authentication the app answers only on this machine: use http://127.0.0.1 or "
                "http://localhost, without a proxy.",
            )
        return LOCAL_USER

    def _refuse_foreign_origin(self, headers: Headers) -> Response | None:
        """Keep other sites' pages from acting with the visitor's cookies or reach.

        A request that carries its own bearer token needs no such care: no browser adds that by itself.
        """
        origin = headers.get("origin")
        if origin is None or (self._settings.auth_enabled and "authorization" in headers):
            return None
        if origin == _origin_of(self._settings.public_url) or self._cors.lists(origin):
            return None
        if not self._settings.auth_enabled and _host_name(origin.partition("://")[2]) in _LOOPBACK_NAMES:
            return None
        return error_response(
            403,
            "foreignOrigin",
            "The request comes from a page of another site. An administrator can add its origin to the setting "
            "PORTAL_ORIGINS.",
            "Origin",
        )


class _Answer:
    """``send`` that adds the headers every answer gets, and knows whether the answer has begun."""

    def __init__(self, send: Send, request_id: str, add_more: Callable[[MutableHeaders], None]) -> None:
        self._send = send
        self._request_id = request_id
        self._add_more = add_more
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in _RESPONSE_HEADERS.items():
                headers.setdefault(name, value)
            self._add_more(headers)
        if message["type"] == "http.response.body":
            message.setdefault("body", b"")  # the Functions adapter reads it without asking
        await self._send(message)


def _is_local(scope: Scope, headers: Headers) -> bool:
    """Whether the request was made on this machine, by a name that no other site can point to us (DNS rebinding)."""
    client = scope.get("client")
    server = scope.get("server")
    host = headers.get("host") or (str(server[0]) if server else "")
    return (
        _host_name(host) in _LOOPBACK_NAMES
        and not any(name in headers for name in _FORWARDED)
        and (not client or _is_loopback_address(str(client[0])))
    )


def _is_loopback_address(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

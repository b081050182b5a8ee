"""What the pages of a portal on another origin may do with the API in a browser (CORS, fetch standard).

The setting PORTAL_ORIGINS lists the origins; there is no wildcard. In Azure the platform's own CORS answers, from the
same list (infra/modules/functionapp.bicep), and "your own CORS code has no effect" beside it (Microsoft's guide to CORS
in App Service). All that is left to the app there is the one header that the platform has no setting for: which headers
of an answer a page may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from shared.settings import Settings

_METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS: Final = "Authorization, Content-Type, If-Match, Idempotency-Key, traceparent"
_ANSWER_HEADERS: Final = "ETag, Location, Operation-Location, Retry-After, X-Request-Id, Content-Disposition"
_MAX_AGE_SECONDS: Final = 600


class Cors:
    """The rules for the origins of one installation."""

    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(settings.portal_origins)
        self._platform_answers = settings.site_name is not None

    def lists(self, origin: str | None) -> bool:
        """Whether pages of this origin may call the API, also with what the browser knows of the visitor."""
        return origin in self._origins

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """The answer to a browser that asks what a page may send; None for anything else.

        It is given without a sign-in: browsers ask without one. It tells nothing but that the origin is listed.
        """
        asks = method == "OPTIONS" and "access-control-request-method" in headers
        if self._platform_answers or not asks or not self.lists(headers.get("origin")):
            return None
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _REQUEST_HEADERS,
                "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
            },
        )

    def add_to(self, answer: MutableHeaders, origin: str | None) -> None:
        """Let a page of ``origin`` read an answer, whatever it is, if the origin is listed."""
        if self._origins and not self._platform_answers:
            answer.add_vary_header("Origin")
        if origin is not None and self.lists(origin):
            answer.update(self._allowances(origin))

    def _allowances(self, origin: str) -> Mapping[str, str]:
        exposed = {"Access-Control-Expose-Headers": _ANSWER_HEADERS}
        if self._platform_answers:
            return exposed
        return exposed | {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}

"""What a route says of its answers in the OpenAPI document: the errors by their codes, the headers of its success.

    @router.post("/things", status_code=201, responses={201: sends(ETAG), **errors("thingNotFound", *ASKS_MAILCHIMP)})

What every call can answer (not signed in, body too large, storage is down) is added by ``shared/api/openapi.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.responses import Response

from shared.api.error_examples import EXAMPLES

ETAG: Final = "ETag"
LOCATION: Final = "Location"
OPERATION_LOCATION: Final = "Operation-Location"
RETRY_AFTER: Final = "Retry-After"

HEADERS: Final = {
    ETAG: "The version that is answered: send it as If-Match with a change.",
    LOCATION: "The address of what was created, or of where to go on.",
    OPERATION_LOCATION: "The address of the export: follow it until `ended` is true.",
    RETRY_AFTER: "Seconds to wait before the next call.",
    "WWW-Authenticate": "How to sign in: `Bearer`.",
    "Content-Disposition": "The name to save the file under.",
    "X-Request-Id": "The number of this call; the app's log has it too.",
}
"""The headers of answers by name. None is certain to be there: an error has no ETag."""

CHANGES_DESTINATION: Final = ("destinationNotFound", "destinationBeingRemoved", "destinationChanged")
"""What keeps a destination from being changed."""

ASKS_MAILCHIMP: Final = (
    "notConnected",
    "accessForbidden",
    "accountRestricted",
    "requestInvalid",
    "batchRefused",
    "apiRootRefused",
    "mailchimpUnavailable",
    "mailchimpReplyUnusable",
    "mailchimpBusy",
    "secretStoreError",
)
"""What can go wrong whenever a call asks Mailchimp over the destination's sign-in."""

READS_SEGMENTS: Final = (
    "containerMissing",
    "modelInvalid",
    "locationRefused",
    "sourceMissing",
    "sourceUnreadable",
)
"""What can be wrong with segments in storage."""

_REASONS: Final = {
    400: "The request cannot be read.",
    401: "Nobody is signed in.",
    403: "The caller may not do this.",
    404: "There is nothing with this ID, name or address.",
    409: "The state of things does not allow it.",
    410: "It is no longer kept.",
    412: "Somebody changed it since the version that If-Match names.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "A value is wrong; `target` and `details` say which.",
    500: "Something unexpected happened.",
    502: "Mailchimp did not answer as it should.",
    503: "Something that is needed does not answer now.",
}


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The responses for errors with these codes, by status. Raises KeyError for a code that has no example."""
    by_status: dict[int | str, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(EXAMPLES[code].status, []).append(code)
    return {status: _error_response(int(status), found) for status, found in sorted(by_status.items(), key=str)}


def sends(*headers: str) -> dict[str, Any]:
    """The part of a successful response that says which headers it has."""
    return {"headers": {header: {"$ref": f"#/components/headers/{header}"} for header in headers}}


def error_pages(pages: Mapping[str, Response]) -> dict[int | str, dict[str, Any]]:
    """The responses for errors that a person sees as a page, by status; ``pages`` are examples by code."""
    found: dict[int | str, dict[str, Any]] = {}
    for code, response in pages.items():
        content = {"text/html": {"schema": {"type": "string"}, "examples": {}}}
        described = found.setdefault(response.status_code, {"description": "", "content": content})
        described["content"]["text/html"]["examples"][code] = {"value": bytes(response.body).decode()}
    return found


def describe_error(status: int, codes: Iterable[str]) -> str:
    return f"{_REASONS[status]} Codes: {', '.join(f'`{code}`' for code in codes)}."


def _error_response(status: int, codes: list[str]) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if status == 401:
        headers.append("WWW-Authenticate")
    if status == 503:
        headers.append(RETRY_AFTER)
    if "exportRunning" in codes:
        headers.append(OPERATION_LOCATION)
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorDocument"}, "examples": examples}}
    return {"description": describe_error(status, codes), **sends(*headers), "content": content}

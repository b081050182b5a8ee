"""Bodies of requests: read within limits, and refused where it is not plain what they say."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive

from shared.api.errors import error_response

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_ENTRIES: Final = 5000
"""Properties and items of a body in all; the largest that any call takes has some two thousand. Each may be a mistake
with a sentence of its own: a megabyte of them kept the app busy for twenty seconds."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class CallerGone(Exception):
    """Raised when the connection closed before the body had arrived: what came must not be taken for the whole."""


class _BodyRefused(Exception):
    """The body is JSON that readers disagree on, or too much of it; the text says why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


async def read_body(receive: Receive) -> bytes | None:
    """The body, None where it is too large: the rest is not read. Raises CallerGone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise CallerGone
        body += message.get("body") or b""
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def refuse_body(method: str, headers: Headers, body: bytes | None) -> Response | None:
    """The answer to a body that is not taken, None where it is; ``body`` is what ``read_body`` returned."""
    if body is None:
        return error_response(413, "bodyTooLarge", f"The body is larger than {MAX_BODY_BYTES:,} bytes.")
    if not body or method in SAFE_METHODS:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return error_response(
            415, "notJson", "Send the body as JSON, with the header Content-Type: application/json.", "Content-Type"
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "Send the body uncompressed, without the header Content-Encoding."
        return error_response(415, "notJson", message, "Content-Encoding", headers={"Accept-Encoding": "identity"})
    try:
        json.loads(body, object_pairs_hook=_Look(), parse_constant=_refuse_constant)
    except _BodyRefused as error:
        return error_response(error.status, error.code, str(error))
    except (ValueError, RecursionError):
        return None  # FastAPI says what is wrong, and where
    return None


class _Look:
    """Sees every object of a body while it is read. Raises _BodyRefused."""

    def __init__(self) -> None:
        self._entries = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._entries += sum(len(value) + 1 if isinstance(value, list) else 1 for _, value in pairs)
        if self._entries > MAX_ENTRIES:
            raise _BodyRefused(
                413, "bodyTooLarge", f"The body has more than {MAX_ENTRIES:,} properties and items in all."
            )
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:  # readers take the one or the other: nobody can tell what was meant
                message = f"The body is not JSON: the property '{name[:200]}' appears twice."
                raise _BodyRefused(400, "invalidJson", message)
            found[name] = value
        return found


def _refuse_constant(name: str) -> NoReturn:
    raise _BodyRefused(400, "invalidJson", f"The body is not JSON: {name} is not a number of JSON.")


def replay(body: bytes, receive: Receive) -> Receive:
    """A channel that brings the body that was read once more, and then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed

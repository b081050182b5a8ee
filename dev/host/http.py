"""HTTP triggers and the host's own addresses, as an ASGI application for uvicorn.

Requests and replies pass through the shapes that the real host exchanges with its worker, with their limits: one value
per header and query name (several are joined by a comma), the body read whole before the function starts.
Source: azure-functions-host, GrpcMessageConversionExtensions; "HTTP trigger", limits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from azure.functions.meta import Datum
from pydantic import BaseModel

from dev.host.errors import InvocationError
from dev.host.invocations import Invoker
from dev.host.loading import HttpTrigger, LoadedFunction
from dev.host.routing import Match, Route, Router

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_LIMIT = 100 * 1024 * 1024
"""Bytes in a request body that Azure Functions takes."""


class CallerGoneError(Exception):
    """The connection closed before the request had arrived."""


# Said by the server for each reply; a function's own words on them would contradict what goes over the wire.
_HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
_WITHOUT_BODY = {204, 304}


class BodyTooLargeError(Exception):
    """The request body is over BODY_LIMIT."""


class HttpFront:
    """Routes requests to HTTP functions.

    `by_hand` runs a queue or timer function once: POST /admin/functions/{name} with {"input": "…"}.
    """

    def __init__(
        self,
        functions: Iterable[LoadedFunction],
        route_prefix: str,
        invoker: Invoker,
        by_hand: Mapping[str, Callable[[str], Awaitable[None]]],
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._router = Router(
            Route.parse(f"{route_prefix.strip('/')}/{trigger.route.lstrip('/')}", function.name, trigger.methods)
            for function in self._functions.values()
            if isinstance(trigger := function.trigger, HttpTrigger)
        )
        self._invoker = invoker
        self._by_hand = by_hand
        self._started = time.monotonic()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            body = await _read_body(receive)
        except CallerGoneError:
            return None
        except BodyTooLargeError:
            return await _reply(send, 413, [], f"A request body may have {BODY_LIMIT} bytes.".encode())
        path = scope["raw_path"].decode("ascii", "replace")
        if path.startswith("/admin/"):
            return await self._admin(scope["method"], path, body, send)
        found = self._router.find(scope["method"], path)
        if isinstance(found, Match):
            return await self._invoke(found, scope, body, send)
        if found.allowed:
            return await _reply(send, 405, [(b"allow", ", ".join(found.allowed).encode())])
        return await _reply(send, 404, [])

    async def _invoke(self, match: Match, scope: dict[str, Any], body: bytes, send: Send) -> None:
        headers = _joined_headers(scope["headers"])
        request = {
            "method": _string(scope["method"]),
            "url": _string(_url(scope, headers)),
            "headers": {name: _string(value) for name, value in headers.items()},
            "params": {name: _string(value) for name, value in match.parameters.items()},
            "query": {name: _string(value) for name, value in _joined_query(scope["query_string"]).items()},
            "body": Datum(body, "bytes"),
        }
        function = self._functions[match.function]
        reason = f"{scope['method']} {scope['path']}"
        try:
            reply = await self._invoker.run(
                function, Datum(request, "http"), {}, reason=reason, trace_parent=headers.get("traceparent")
            )
            status, reply_headers, content = _decode_reply(reply)
        except (InvocationError, UnicodeEncodeError):
            status, reply_headers, content = 500, [], b""
        await _reply(send, status, reply_headers, content)

    async def _admin(self, method: str, path: str, body: bytes, send: Send) -> None:
        if path == "/admin/host/status" and method == "GET":
            status = {"state": "Running", "processUptime": round((time.monotonic() - self._started) * 1000)}
            return await _reply_json(send, 200, status)
        name = path.removeprefix("/admin/functions/")
        if method != "POST" or name not in self._by_hand:
            return await _reply(send, 404, [])
        try:
            text = _admin_input(body)
        except ValueError:
            return await _reply_json(send, 400, {"error": 'The body must be JSON like {"input": "text"}.'})
        self._invoker.start(_as_coroutine(self._by_hand[name](text)))
        return await _reply(send, 202, [])


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _read_body(receive: Receive) -> bytes:
    """The whole body. One that is too large is read to its end and dropped, so that its sender reads the answer."""
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise CallerGoneError
        chunk = event.get("body", b"")
        size += len(chunk)
        if size <= BODY_LIMIT:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not event.get("more_body", False):
            break
    if size > BODY_LIMIT:
        raise BodyTooLargeError
    return b"".join(chunks)


class _AdminBody(BaseModel):
    input: Any = ""


def _admin_input(body: bytes) -> str:
    """The text of `{"input": …}`; an empty body or object means an empty text. ValueError for anything else."""
    value = _AdminBody.model_validate_json(body or b"{}").input
    return value if isinstance(value, str) else json.dumps(value)


def _url(scope: dict[str, Any], headers: Mapping[str, str]) -> str:
    server, port = scope["server"]
    query = scope["query_string"].decode("ascii", "replace")
    path = scope["raw_path"].decode("ascii", "replace")
    return f"{scope['scheme']}://{headers.get('host') or f'{server}:{port}'}{path}{'?' if query else ''}{query}"


def _joined_headers(headers: Headers) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ", "
        joined[name] = f"{joined[name]}{separator}{value}" if name in joined else value
    return joined


def _joined_query(query: bytes) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _decode_reply(datum: Datum | None) -> tuple[int, Headers, bytes]:
    """Status, headers and body of what an HTTP function returned; nothing is 204."""
    if datum is None:
        return 204, [], b""
    if datum.type != "http":
        return 200, [(b"content-type", b"text/plain; charset=utf-8")], str(datum.value).encode()
    reply = datum.value
    headers = [
        (name.lower().encode("latin-1"), value.value.encode("latin-1"))
        for name, value in reply["headers"].items()
        if name.lower() not in _HOP_BY_HOP
    ]
    for cookie in reply["cookies"] or ():
        headers += [(b"set-cookie", morsel.OutputString().encode("latin-1")) for morsel in cookie.values()]
    return int(reply["status_code"].value), headers, bytes(reply["body"].value)


async def _reply_json(send: Send, status: int, document: object) -> None:
    await _reply(send, status, [(b"content-type", b"application/json")], json.dumps(document).encode())


async def _reply(send: Send, status: int, headers: Headers, content: bytes = b"") -> None:
    if status in _WITHOUT_BODY:
        content = b""
    else:
        headers = [*headers, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _string(text: str) -> Datum:
    return Datum(text, "string")

"""The HTTP front of the local host, with functions that run in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import azure.functions as func

from dev.host.http import BODY_LIMIT, HttpFront
from dev.host.invocations import Invoker
from dev.host.loading import HttpTrigger, LoadedFunction
from dev.host.storage import Storage
from dev.host.worker import Worker

Reply = tuple[int, list[tuple[bytes, bytes]], bytes]


def function(name: str, call: Callable[..., Any], route: str, *methods: str) -> LoadedFunction:
    return LoadedFunction(
        name=name,
        directory=Path(),
        call=call,
        trigger=HttpTrigger("req", route, frozenset(methods)),
        outputs=(),
        takes_context=False,
        takes_plain_text=False,
        is_async=asyncio.iscoroutinefunction(call),
    )


def ask(
    call: Callable[..., Any],
    *,
    path: str = "/api/it",
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: Iterable[bytes] = (b"",),
    by_hand: dict[str, Callable[[str], Any]] | None = None,
) -> Reply:
    """Sends one request to a host with the one function `call` at /api/it, for GET and POST."""

    async def run() -> Reply:
        loaded = (function("it", call, "it", "GET", "POST"),)
        invoker = Invoker(Worker(2), Storage({}, "base64", threads=1), loaded)
        front = HttpFront(loaded, "api", invoker, by_hand or {})
        scope = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": list(headers),
            "server": ("127.0.0.1", 7071),
        }
        events = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in body]
        events[-1]["more_body"] = False
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return events.pop(0)

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await front(scope, receive, send)
        await invoker.drain(5)
        return sent[0]["status"], sent[0]["headers"], sent[1]["body"]

    return asyncio.run(run())


def nothing(req: func.HttpRequest) -> None:
    """A function that returns nothing."""


def test_a_request_reaches_the_function_with_all_its_parts() -> None:
    def it(req: func.HttpRequest) -> str:
        return json.dumps([req.method, req.url, dict(req.params), dict(req.headers), req.get_body().decode()])

    headers = [(b"Host", b"localhost:1"), (b"X-Tag", b"a"), (b"x-tag", b"b"), (b"Cookie", b"c=1"), (b"Cookie", b"d=2")]
    status, _, content = ask(it, query=b"q=1&q=2&e=&s=a%20b", headers=headers, body=(b"one", b"two"))
    assert status == 200
    assert json.loads(content) == [
        "POST",
        "http://localhost:1/api/it?q=1&q=2&e=&s=a%20b",
        {"q": "1,2", "e": "", "s": "a b"},
        {"host": "localhost:1", "x-tag": "a, b", "cookie": "c=1; d=2"},
        "onetwo",
    ]


def test_a_reply_keeps_its_status_headers_and_cookies() -> None:
    def it(req: func.HttpRequest) -> func.HttpResponse:
        headers = {"ETag": 'W/"1"', "Content-Disposition": "attachment; filename=a.csv", "Set-Cookie": "a=1; HttpOnly"}
        return func.HttpResponse(b"\x00\xff", status_code=418, headers=headers, mimetype="application/octet-stream")

    status, headers, content = ask(it)
    assert (status, content) == (418, b"\x00\xff")
    assert dict(headers) == {
        b"etag": b'W/"1"',
        b"content-disposition": b"attachment; filename=a.csv",
        b"set-cookie": b"a=1; HttpOnly",
        b"content-type": b"application/octet-stream",
        b"content-length": b"2",
    }


def test_an_async_function_answers_too() -> None:
    async def it(req: func.HttpRequest) -> str:
        await asyncio.sleep(0)
        return "async"

    assert ask(it)[2] == b"async"


def test_no_reply_is_204() -> None:
    status, headers, content = ask(nothing)
    assert (status, headers, content) == (204, [], b"")


def test_a_failure_is_500_without_a_word_about_it() -> None:
    def it(req: func.HttpRequest) -> str:
        raise RuntimeError("a secret")

    assert ask(it) == (500, [(b"content-length", b"0")], b"")


def test_a_function_cannot_end_the_host() -> None:
    def it(req: func.HttpRequest) -> str:
        raise SystemExit(3)

    assert ask(it)[0] == 500


def test_a_reply_that_no_binding_takes_is_500() -> None:
    def it(req: func.HttpRequest) -> object:
        return {"not": "a reply"}

    assert ask(it)[0] == 500


def test_a_body_over_the_limit_is_413_and_runs_nothing() -> None:
    called: list[object] = []
    chunk = bytes(BODY_LIMIT // 4)
    assert ask(called.append, body=(chunk, chunk, chunk, chunk, b"x"))[0] == 413
    assert called == []


def test_a_body_at_the_limit_is_taken() -> None:
    chunk = bytes(BODY_LIMIT // 4)
    status, _, content = ask(lambda req: str(len(req.get_body())), body=(chunk, chunk, chunk, chunk))
    assert (status, content) == (200, str(BODY_LIMIT).encode())


def test_a_function_is_run_by_hand_with_its_input() -> None:
    inputs: list[str] = []

    async def by_hand(text: str) -> None:
        inputs.append(text)

    def admin(name: str, body: bytes) -> int:
        return ask(nothing, path=f"/admin/functions/{name}", body=(body,), by_hand={"work": by_hand})[0]

    assert [admin("work", b'{"input": "a"}'), admin("work", b'{"input": {"b": 1}}'), admin("work", b"")] == [202] * 3
    assert inputs == ["a", '{"b": 1}', ""]
    assert admin("work", b"no JSON") == 400
    assert admin("work", b"[]") == 400
    assert admin("nothing", b"{}") == 404
    assert len(inputs) == 3


def test_the_host_tells_that_it_runs() -> None:
    async def status() -> Reply:
        front = HttpFront((), "api", Invoker(Worker(1), Storage({}, "base64", threads=1), ()), {})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        scope = {"method": "GET", "raw_path": b"/admin/host/status", "path": "/admin/host/status"}
        await front(scope, receive, send)
        return sent[0]["status"], sent[0]["headers"], sent[1]["body"]

    code, _, content = asyncio.run(status())
    assert (code, json.loads(content)["state"]) == (200, "Running")

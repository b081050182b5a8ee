"""A call of the API goes on with its caller's trace, else with the platform's."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from shared import trace
from shared.api.gate import Gate
from shared.settings import read_settings
from tests.unit.api_caller import LOCAL

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLATFORM = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def trace_of_a_call(headers: dict[str, str], platform: str | None) -> str | None:
    """The trace ID that the app works under."""
    found: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(trace.trace_id())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/api/segments",
        "headers": [(b"host", b"127.0.0.1:7071"), *((k.encode(), v.encode()) for k, v in headers.items())],
        "azure_functions.trace_context": SimpleNamespace(trace_parent=platform) if platform else None,
    }
    asyncio.run(Gate(app, read_settings(LOCAL), new_id=lambda: "1")(scope, receive, send))
    (trace_id,) = found
    return trace_id


def test_the_callers_trace_comes_before_the_platforms() -> None:
    assert trace_of_a_call({"traceparent": CALLER}, PLATFORM) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"traceparent": "grace@contoso.example"}])
def test_without_one_of_the_caller_the_platforms_counts(headers: dict[str, str]) -> None:
    assert trace_of_a_call(headers, PLATFORM) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_without_any_a_call_begins_a_trace_of_its_own() -> None:
    first, second = trace_of_a_call({}, None), trace_of_a_call({}, None)
    assert first is not None
    assert first != second
    assert trace.trace_id() is None

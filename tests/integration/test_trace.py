"""A trace goes from the call that began an export through both queues to every call of Mailchimp, and no further."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from shared import trace
from shared.storage.names import PREPARE_QUEUE
from tests.integration.engine import Engine, people

MONDAY = "0af7651916cd43dd8448eb211c80319c"
TUESDAY = "4bf92f3577b34da6a3ce929d0e0e4736"


def traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-b7ad6b7169203331-01"


def trace_of(header: str | None) -> str | None:
    return header.split("-")[1] if header else None


@contextmanager
def calls_to_mailchimp(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, str]]]:
    """The header "traceparent" and the body of every request that is written to Mailchimp meanwhile."""
    found: list[tuple[str | None, str]] = []
    send = requests.adapters.HTTPAdapter.send

    def spy(adapter: Any, request: requests.PreparedRequest, *rest: Any, **named: Any) -> requests.Response:
        if str(request.url).startswith(engine.sandbox.address):
            body = request.body or b""
            found.append((request.headers.get("traceparent"), body if isinstance(body, str) else body.decode()))
        return send(adapter, request, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(requests.adapters.HTTPAdapter, "send", spy)
        yield found


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    texts = [record.getMessage() for record in caplog.records if record.name == "segments_to_mailchimp"]
    return [json.loads(text) for text in texts]


def test_two_exports_on_the_same_lanes_keep_their_traces_apart(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    engine.write_segment("Readers", people(5_000))
    engine.write_segment("Buyers", people(5_000, start=5_000))
    with calls_to_mailchimp(engine, monkeypatch) as calls:
        exports = {}
        for segment, trace_id, destination in (("Readers", MONDAY, "d1"), ("Buyers", TUESDAY, "d2")):
            with trace.going_on(traceparent(trace_id)):
                exports[trace_id] = engine.start(engine.destination([segment], id_=destination))
        for export_id in exports.values():
            assert engine.work_until_ended(export_id).status == "Successful"

    by_segment = {
        segment: {
            trace_of(header) for header, body in calls if body.startswith('{"members":[{') and f'"{segment}"' in body
        }
        for segment in ("Readers", "Buyers")
    }
    assert by_segment == {"Readers": {MONDAY}, "Buyers": {TUESDAY}}
    assert {trace_of(header) for header, _ in calls} == {MONDAY, TUESDAY}
    for trace_id, export_id in exports.items():
        told = [line for line in lines(caplog) if line.get("export") == export_id]
        assert {"export.queued", "export.prepared", "export.ended"} <= {line["event"] for line in told}
        assert {line["traceId"] for line in told} == {trace_id}


def test_what_the_sweeper_sends_goes_on_with_the_exports_trace(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    with trace.going_on(traceparent(MONDAY)):
        export_id = engine.start(engine.destination(["Readers"]))
    assert len(engine.receive([PREPARE_QUEUE])) == 1  # and it is lost
    engine.product.store.change(
        export_id, lambda export: setattr(export, "created_at", export.created_at.replace(year=2020))
    )
    engine.product.sweeper.sweep()
    (message,) = engine.messages(PREPARE_QUEUE)
    assert trace_of(message["traceparent"]) == MONDAY


@pytest.mark.parametrize("given", [{}, {"traceparent": None}, {"traceparent": "nonsense"}, {"traceparent": 7}])
def test_a_message_without_a_trace_is_done_in_a_new_one(
    engine: Engine, caplog: pytest.LogCaptureFixture, given: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO)
    engine.write_segment("Readers", people(10))
    export_id = engine.start(engine.destination(["Readers"]))
    engine.receive([PREPARE_QUEUE])
    engine.invoke(PREPARE_QUEUE, json.dumps({"v": 1, "exportId": export_id, **given}).encode())
    (prepared,) = [line for line in lines(caplog) if line["event"] == "export.prepared"]
    plan = engine.product.store.plan(export_id)
    assert plan is not None
    assert len(prepared["traceId"]) == 32
    assert trace_of(plan.traceparent) == prepared["traceId"]


def test_an_export_that_is_canceled_ends_in_its_own_trace(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine.write_segment("Readers", people(10))
    with trace.going_on(traceparent(MONDAY)):
        export_id = engine.start(engine.destination(["Readers"]))
    with trace.going_on(traceparent(TUESDAY)):
        engine.product.exports.stop_for_destination("d1", "Enough.")
    engine.work_until_ended(export_id)
    by_event = {line["event"]: line.get("traceId") for line in lines(caplog)}
    assert (by_event["export.stopRequested"], by_event["export.ended"]) == (TUESDAY, MONDAY)

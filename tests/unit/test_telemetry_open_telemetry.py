"""With OPEN_TELEMETRY figures are metrics and calls are spans in Azure Monitor; without it nothing of it is there."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace as global_trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from shared import telemetry, trace
from shared.settings import read_settings
from shared.telemetry.log_lines import LogLines
from shared.telemetry.open_telemetry import OpenTelemetry
from shared.telemetry.sink import Nowhere, current
from tests.checkout import PROJECT

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
PING = ("a ping", "GET", "https://us1.api.mailchimp.com/3.0/ping")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", raising=False)
    before = telemetry.use(Nowhere())
    yield
    telemetry.use(before)


class InMemory:
    """OpenTelemetry's own stand-ins for where telemetry goes."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        telemetry.use(OpenTelemetry(MeterProvider([self.reader], shutdown_on_exit=False), tracers))

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span

    def metrics(self) -> dict[str, dict[str, Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        (resource,) = json.loads(data.to_json())["resource_metrics"]
        (scope,) = resource["scope_metrics"]
        return {metric["name"]: metric for metric in scope["metrics"]}


def test_a_call_is_a_span_of_the_apps_trace_and_its_header_names_the_span() -> None:
    memory = InMemory()
    with trace.going_on(GIVEN):
        inside = trace.current()
        assert inside is not None
        with telemetry.calling(*PING) as call:
            call.ended(503)
    span = memory.span()
    context = span.get_span_context()
    assert context is not None
    assert span.parent is not None
    assert (span.kind, span.name) == (SpanKind.CLIENT, "GET a ping")
    assert f"{context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == inside.split("-")[2]
    assert call.headers == {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{context.span_id:016x}-01"}
    assert dict(span.attributes or {}) == {
        "mailchimp.call": "a ping",
        "http.request.method": "GET",
        "url.full": "https://us1.api.mailchimp.com/3.0/ping",
        "http.response.status_code": 503,
    }
    assert span.status.status_code is StatusCode.ERROR


def test_a_fault_is_shown_without_its_text() -> None:
    memory = InMemory()

    def fail() -> None:
        with telemetry.calling(*PING) as call:
            call.ended(None, "connectionLost")
            raise RuntimeError("grace@contoso.example")

    with pytest.raises(RuntimeError):
        fail()
    span = memory.span()
    assert (span.attributes or {})["error.type"] == "connectionLost"
    assert "grace" not in span.to_json()


def test_figures_are_metrics_of_their_kind() -> None:
    memory = InMemory()
    telemetry.count(telemetry.PROFILES, 900, outcome="created")
    telemetry.count(telemetry.PROFILES, 100, outcome="created")
    telemetry.measure(telemetry.BATCH_DURATION, 2.5)
    with telemetry.calling(*PING) as call:
        call.ended(200)
        open_calls = memory.metrics()["mailchimp.calls.open"]["data"]
    metrics = memory.metrics()
    (created,) = metrics["export.profiles"]["data"]["data_points"]
    (duration,) = metrics["export.batch.duration"]["data"]["data_points"]
    assert (created["attributes"], created["value"]) == ({"outcome": "created"}, 1000)
    assert (duration["count"], duration["sum"], metrics["export.batch.duration"]["unit"]) == (1, 2.5, "s")
    assert (open_calls["data_points"][0]["value"], open_calls["is_monotonic"]) == (1, False)
    assert metrics["mailchimp.calls.open"]["data"]["data_points"][0]["value"] == 0


# -- Azure Monitor -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ingestion() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An Application Insights resource of our own: its connection string, and what arrives there."""
    arrived: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = json.loads(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            arrived.extend(found)
            answer = {"itemsReceived": len(found), "itemsAccepted": len(found), "errors": []}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        yield f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={address}", arrived
        server.shutdown()


USE = """
import atexit, os, sys
from shared import telemetry, trace
from shared.settings import read_settings
telemetry.start(read_settings(os.environ))
with trace.going_on("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"):
    with telemetry.calling("a ping", "GET", "https://us1.api.mailchimp.com/3.0/ping") as call:
        call.ended(200)
telemetry.count(telemetry.PROFILES, 1000, outcome="created")
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "azure.monitor"))))
"""


def run(code: str, **settings: str) -> str:
    """What a process of its own prints: what is imported and set there stays there."""
    environment = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "PATH": "",
        "PYTHONPATH": str(PROJECT),
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_metrics_and_spans_arrive_at_azure_monitor_and_nothing_else(
    ingestion: tuple[str, list[dict[str, Any]]],
) -> None:
    connection_string, arrived = ingestion
    imported = run(USE, OPEN_TELEMETRY="true", APPLICATIONINSIGHTS_CONNECTION_STRING=connection_string)
    assert "azure.monitor.opentelemetry.exporter" in imported
    by_type: dict[str, list[dict[str, Any]]] = {}
    for item in arrived:
        by_type.setdefault(item["data"]["baseType"], []).append(item)
    (call,) = by_type.pop("RemoteDependencyData")
    metrics = {item["data"]["baseData"]["metrics"][0]["name"] for item in by_type.pop("MetricData")}
    assert call["tags"]["ai.operation.id"] == "0af7651916cd43dd8448eb211c80319c"
    assert call["data"]["baseData"]["resultCode"] == "200"
    assert call["data"]["baseData"]["success"] is True
    assert metrics == {"export.profiles", "mailchimp.calls", "mailchimp.calls.open"}
    assert by_type == {}


def test_without_the_switch_nothing_of_it_is_imported_or_sent(
    ingestion: tuple[str, list[dict[str, Any]]],
) -> None:
    connection_string, arrived = ingestion
    assert run(USE, APPLICATIONINSIGHTS_CONNECTION_STRING=connection_string) == "[]"
    assert arrived == []


def test_an_export_does_not_fail_because_telemetry_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"OPEN_TELEMETRY": "true", "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=nonsense"}
    with caplog.at_level(logging.ERROR):
        telemetry.start(read_settings({"AzureWebJobsStorage": "UseDevelopmentStorage=true", **settings}))
        assert isinstance(current(), LogLines)
        assert caplog.records == []  # there is no run yet, and the host keeps lines of runs only
        for _ in range(2):
            with telemetry.telling():
                pass
    (record,) = [record for record in caplog.records if record.name == "segments_to_mailchimp"]
    assert json.loads(record.getMessage()) == {"event": "telemetry.notStarted", "errorType": "ValueError"}


def test_other_libraries_are_given_no_provider_of_ours() -> None:
    InMemory()
    assert type(global_trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"

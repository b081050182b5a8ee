"""Figures as OpenTelemetry metrics, calls to Mailchimp as spans. Log lines stay what they are, in both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TracerProvider,
    set_span_in_context,
)

from shared import trace
from shared.telemetry.instruments import ALL, Instrument, Kind

_SCOPE = "segments_to_mailchimp"


class OpenTelemetry:
    """Hands figures and calls to OpenTelemetry's API."""

    def __init__(self, meters: MeterProvider, tracers: TracerProvider) -> None:
        meter = meters.get_meter(_SCOPE)
        self._tracer = tracers.get_tracer(_SCOPE)
        self._record = {instrument: _recorder(meter, instrument) for instrument in ALL}

    def record(self, instrument: Instrument, value: float, labels: Mapping[str, str], /) -> None:
        self._record[instrument](value, labels)

    @contextmanager
    def span(self, doing: str, method: str, url: str, /) -> Iterator[_CallSpan]:
        attributes = {"mailchimp.call": doing, "http.request.method": method, "url.full": url}
        with self._tracer.start_as_current_span(
            f"{method} {doing}",
            _parent(),
            SpanKind.CLIENT,
            attributes,
            record_exception=False,  # its text is not ours to show
            set_status_on_exception=False,
        ) as span:
            yield _CallSpan(span)

    def tell(self) -> None:
        """Nothing: OpenTelemetry sends by itself, and not through the host."""


class _CallSpan:
    """A span of a call."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        it = self._span.get_span_context()
        return f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}"

    def ended(self, status: int | None, reason: str | None) -> None:
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if reason is not None:
            self._span.set_attribute("error.type", reason)
        failed = reason is not None or status is None or status >= 400
        self._span.set_status(StatusCode.ERROR if failed else StatusCode.OK)


def _recorder(meter: Meter, instrument: Instrument) -> Callable[[float, Mapping[str, str]], None]:
    named = (instrument.name, instrument.unit, instrument.description)
    match instrument.kind:
        case Kind.SUM:
            return meter.create_counter(*named).add
        case Kind.DISTRIBUTION:
            return meter.create_histogram(*named).record
        case Kind.LEVEL:
            return meter.create_up_down_counter(*named).add


def _parent() -> Context | None:
    """The trace that the app is in, as the parent of a span; it has gone over a queue, so nothing is left of it but
    its name. It counts as sampled: there are few spans, and one that is missing explains nothing."""
    traceparent = trace.current()
    if traceparent is None:
        return None
    _, trace_id, part, _ = traceparent.split("-")
    context = SpanContext(int(trace_id, 16), int(part, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context))

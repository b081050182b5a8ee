"""A call to Mailchimp as telemetry sees it: open while it lasts, counted by its status, with a place in the trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared import trace
from shared.telemetry import sink
from shared.telemetry.instruments import CALLS, OPEN_CALLS
from shared.telemetry.sink import Span


class Call:
    """One call. ``headers``: what tells the other side the trace."""

    def __init__(self, span: Span | None) -> None:
        self._span = span
        traceparent = span.traceparent if span is not None else trace.current()
        self.headers: Mapping[str, str] = {"traceparent": traceparent} if traceparent is not None else {}

    def ended(self, status: int | None, reason: str | None = None) -> None:
        """It was answered with ``status``; or there was no whole answer because of ``reason``."""
        sink.count(CALLS, status=reason or str(status))
        if self._span is not None:
            self._span.ended(status, reason)


@contextmanager
def calling(doing: str, method: str, url: str) -> Iterator[Call]:
    """Make a call. ``doing`` is a constant, ``url`` has no query: both are shown in Azure Monitor."""
    to = sink.current()
    to.record(OPEN_CALLS, 1, {})
    try:
        with to.span(doing, method, url) as span:
            yield Call(span)
    finally:
        to.record(OPEN_CALLS, -1, {})

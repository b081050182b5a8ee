"""Where the figures go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from shared.telemetry.instruments import Instrument


class Span(Protocol):
    """A call that is shown in the trace while it is under way."""

    @property
    def traceparent(self) -> str:
        """What the other side goes on with."""

    def ended(self, status: int | None, reason: str | None) -> None:
        """It ended with this HTTP status, or because of this."""


class Sink(Protocol):
    """Takes figures from several threads at once, quickly, and never fails."""

    def record(self, instrument: Instrument, value: float, labels: Mapping[str, str], /) -> None:
        """Add ``value`` to a sum, put it into a distribution, or change a level by it."""

    def span(self, doing: str, method: str, url: str, /) -> AbstractContextManager[Span | None]:
        """Show a call, named ``doing``, in the trace; None where calls are only counted."""

    def tell(self) -> None:
        """A run is about to end: write what only a run can write."""


class Nowhere:
    """Forgets everything: for tests, and before the app has started."""

    def record(self, _instrument: Instrument, _value: float, _labels: Mapping[str, str], /) -> None:
        pass

    def span(self, _doing: str, _method: str, _url: str, /) -> AbstractContextManager[None]:
        return nullcontext()

    def tell(self) -> None:
        pass


_sink: Sink = Nowhere()


def use(sink: Sink) -> Sink:
    """Send figures to ``sink`` from now on; returns where they went before."""
    global _sink
    before, _sink = _sink, sink
    return before


def current() -> Sink:
    return _sink


def count(instrument: Instrument, amount: int = 1, **labels: str) -> None:
    """Count ``amount`` more."""
    _sink.record(instrument, amount, labels)


def measure(instrument: Instrument, value: float, **labels: str) -> None:
    """Put ``value``, in the instrument's unit, into its distribution."""
    _sink.record(instrument, value, labels)


@contextmanager
def telling() -> Iterator[None]:
    """Do what is inside, which is all of a run, and write its figures before it ends."""
    try:
        yield
    finally:
        _sink.tell()

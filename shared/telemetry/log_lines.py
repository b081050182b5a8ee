"""Figures as lines of the log: one at the end of a run and one a minute in a long one, which a query can sum.

Runs write them, and no thread of our own: the Functions host throws a line away that belongs to no run under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from shared import log, trace
from shared.telemetry.instruments import Instrument, Kind

_EVERY_S: Final = 60.0


@dataclass(slots=True)
class _Series:
    """The values of one instrument with the same labels since the last line. ``level`` goes on over lines."""

    count: int = 0
    sum: float = 0.0
    max: float = 0.0
    level: float = 0.0


class LogLines:
    """Gathers figures of all runs of this process. ``not_started`` is what kept OpenTelemetry from being set up."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, not_started: str | None = None) -> None:
        self._monotonic = monotonic
        self._not_started = not_started
        self._lock = threading.Lock()
        self._series: dict[tuple[Instrument, tuple[tuple[str, str], ...]], _Series] = {}
        self._since: float | None = None

    def record(self, instrument: Instrument, value: float, labels: Mapping[str, str], /) -> None:
        with self._lock:
            series = self._series.setdefault((instrument, tuple(labels.items())), _Series())
            series.count += 1
            series.sum += value
            series.level += value
            series.max = max(series.max, series.level if instrument.kind is Kind.LEVEL else value)
            now = self._monotonic()
            if self._since is None:
                self._since = now
            due = now - self._since >= _EVERY_S
        if due and trace.current() is not None:  # outside of a trace it may be a thread of a pool, which is no run
            with trace.outside():  # what was gathered belongs to many
                self.tell()

    def span(self, _doing: str, _method: str, _url: str, /) -> AbstractContextManager[None]:
        return nullcontext()

    def tell(self) -> None:
        """Write what has been gathered, if anything has."""
        with self._lock:
            not_started, self._not_started = self._not_started, None
            since, self._since = self._since, None
            told = [_line(instrument, dict(labels), series) for (instrument, labels), series in self._series.items()]
            self._series = {
                key: _Series(level=series.level, max=series.level)
                for key, series in self._series.items()
                if key[0].kind is Kind.LEVEL and series.level
            }
        if not_started is not None:
            log.error("telemetry.notStarted", errorType=not_started)
        if since is not None:
            log.event("metrics.told", seconds=round(self._monotonic() - since, 1), series=told)


def _line(instrument: Instrument, labels: dict[str, str], series: _Series) -> dict[str, log.Value]:
    match instrument.kind:
        case Kind.SUM:
            values: dict[str, log.Value] = {"sum": int(series.sum)}
        case Kind.DISTRIBUTION:
            values = {"count": series.count, "sum": round(series.sum, 3), "max": round(series.max, 3)}
        case Kind.LEVEL:
            values = {"last": int(series.level), "max": int(series.max)}
    return {"name": instrument.name, **labels, **values}

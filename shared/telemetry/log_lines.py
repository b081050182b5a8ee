"""Figures as lines of the log: one a minute and process while there is anything to tell, which a query can sum."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from shared import log
from shared.telemetry.instruments import Instrument, Kind

_EVERY_S: Final = 60.0

Later = Callable[[float, Callable[[], None]], None]


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


@dataclass(slots=True)
class _Series:
    """The values of one instrument with the same labels since the last line. ``level`` goes on over lines."""

    count: int = 0
    sum: float = 0.0
    max: float = 0.0
    level: float = 0.0


class LogLines:
    """Gathers figures and writes them a minute after the first."""

    def __init__(self, later: Later = _later, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._later = later
        self._monotonic = monotonic
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
            if self._since is not None:
                return
            self._since = self._monotonic()
        self._later(_EVERY_S, self.write)

    def span(self, _doing: str, _method: str, _url: str, /) -> AbstractContextManager[None]:
        return nullcontext()

    def write(self) -> None:
        """Write what has been gathered, if anything has."""
        with self._lock:
            if self._since is None:
                return
            seconds, self._since = self._monotonic() - self._since, None
            told = [_line(instrument, dict(labels), series) for (instrument, labels), series in self._series.items()]
            self._series = {
                key: _Series(level=series.level, max=series.level)
                for key, series in self._series.items()
                if key[0].kind is Kind.LEVEL and series.level
            }
        log.event("metrics.told", seconds=round(seconds, 1), series=told)


def _line(instrument: Instrument, labels: dict[str, str], series: _Series) -> dict[str, log.Value]:
    match instrument.kind:
        case Kind.SUM:
            values: dict[str, log.Value] = {"sum": int(series.sum)}
        case Kind.DISTRIBUTION:
            values = {"count": series.count, "sum": round(series.sum, 3), "max": round(series.max, 3)}
        case Kind.LEVEL:
            values = {"last": int(series.level), "max": int(series.max)}
    return {"name": instrument.name, **labels, **values}

"""How long an export waits is known and said, so that somebody can be told when it is too long."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from shared import telemetry
from shared.exports.model import Export, Status
from shared.exports.pace import Paces
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.sweep import Sweeper, SweepTools
from shared.telemetry.instruments import Instrument
from shared.telemetry.sink import Nowhere
from tests.unit.fake_documents import FakeDocuments

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)


class NoSignals:
    """Takes every message and sends none."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> ExportStore:
    documents = FakeDocuments()
    found = ExportStore(documents.as_documents(), clock)
    export = Export(
        id="e1",
        destination_id="d1",
        destination_name="Spring",
        trigger="onDemand",
        requested_by="ada",
        created_at=START,
    )
    found.create(export)
    return found


def waiting_since(store: ExportStore) -> datetime | None:
    export = store.find("e1")
    assert export is not None
    return export.waiting_since


def swept(store: ExportStore, clock: Clock, caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What one round of the sweep says of waiting exports."""
    caplog.clear()
    paces = Paces(store.documents, clock, most_lanes=8)
    tools = SweepTools(store=store, signals=cast("Signals", NoSignals()), paces=paces, now=clock)
    with caplog.at_level(logging.INFO):
        Sweeper(tools, max_connections=8, retention=timedelta(days=30)).sweep()
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    return [line for line in lines if line["event"] == "export.waiting"]


def test_the_wait_counts_from_when_mailchimp_went_away(store: ExportStore, clock: Clock) -> None:
    store.move("e1", Status.PREPARING)
    assert waiting_since(store) is None
    clock.go_on(minutes=1)
    store.move("e1", Status.WAITING)
    clock.go_on(minutes=5)
    store.move("e1", Status.WAITING)
    assert waiting_since(store) == START + timedelta(minutes=1)


def test_a_new_try_to_prepare_is_not_the_end_of_the_wait(store: ExportStore, clock: Clock) -> None:
    store.move("e1", Status.PREPARING)
    store.move("e1", Status.WAITING)
    for _ in range(3):
        clock.go_on(minutes=20)
        store.move("e1", Status.PREPARING)
        store.move("e1", Status.WAITING)
    assert waiting_since(store) == START


def test_the_wait_ends_when_something_is_sent_and_when_the_export_ends(store: ExportStore, clock: Clock) -> None:
    store.move("e1", Status.PREPARING)
    store.move("e1", Status.WAITING)
    store.move("e1", Status.SENDING)
    assert waiting_since(store) is None
    store.move("e1", Status.WAITING)
    store.move("e1", Status.FINISHING)
    assert waiting_since(store) is None


def test_a_wait_that_is_over_is_measured_once(store: ExportStore, clock: Clock) -> None:
    class Noted(Nowhere):
        def record(self, instrument: Instrument, value: float, _labels: Mapping[str, str], /) -> None:
            noted.append((instrument.name, value))

    noted: list[tuple[str, float]] = []
    before = telemetry.use(Noted())
    try:
        store.move("e1", Status.PREPARING)
        store.move("e1", Status.WAITING)
        clock.go_on(minutes=5)
        store.move("e1", Status.WAITING)
        clock.go_on(minutes=5)
        store.move("e1", Status.SENDING)
        store.move("e1", Status.FINISHING)
    finally:
        telemetry.use(before)
    assert noted == [("export.wait.duration", 600)]


def test_the_sweep_says_how_long_an_export_has_been_waiting(
    store: ExportStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.move("e1", Status.PREPARING)
    store.move("e1", Status.WAITING)
    clock.go_on(minutes=61)
    (line,) = swept(store, clock, caplog)
    del line["traceId"]
    assert line == {
        "event": "export.waiting",
        "export": "e1",
        "destination": "d1",
        "status": "Waiting",
        "since": START.isoformat(),
        "seconds": 3660,
    }


def test_an_export_that_nobody_has_begun_with_waits_too(
    store: ExportStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.go_on(minutes=3)
    (line,) = swept(store, clock, caplog)
    assert (line["status"], line["seconds"]) == ("Queued", 180)


def test_an_export_that_is_worked_on_does_not_wait(
    store: ExportStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.move("e1", Status.PREPARING)
    clock.go_on(hours=3)
    assert swept(store, clock, caplog) == []

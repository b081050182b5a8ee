"""How long an export waits is known and said, so that somebody can be told when it is too long."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import pytest

from shared import telemetry
from shared.audit.log import AuditLog
from shared.destinations.store import DestinationStore
from shared.exports.lane_rest import LaneRest
from shared.exports.model import Export, Plan, Problem, Status, Stop, Tally
from shared.exports.pace import Paces
from shared.exports.problems import UNAVAILABLE, unavailable
from shared.exports.refusals import Refusals
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.sweep import Sweeper, SweepTools
from shared.exports.view import view_of
from shared.exports.waiting import WaitView, end_long_wait, next_try_at
from shared.mailchimp.errors import UnavailableReason
from shared.storage import names
from shared.telemetry.instruments import Instrument
from shared.telemetry.sink import Nowhere
from tests.unit.exports_in_memory import NoSignals
from tests.unit.fake_documents import FakeDocuments

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)


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
    with caplog.at_level(logging.INFO):
        sweep_once(store, clock)
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


def sweep_once(store: ExportStore, clock: Clock) -> None:
    paces = Paces(store.documents, clock, most_lanes=8)
    refusals = cast("Refusals", None)  # a sweep forgets nobody
    audit = AuditLog(FakeDocuments().as_documents())
    tools = SweepTools(
        store=store,
        destinations=DestinationStore(store.documents, audit, clock, lambda: "0f"),
        signals=cast("Signals", NoSignals()),
        paces=paces,
        refusals=lambda: refusals,
        now=clock,
    )
    Sweeper(tools, max_connections=8, max_wait=timedelta(hours=24), retention=timedelta(days=30)).sweep()


def stop_of(store: ExportStore) -> Stop | None:
    export = store.find("e1")
    assert export is not None
    return export.stop


def wait(store: ExportStore) -> None:
    store.move("e1", Status.PREPARING)
    store.move("e1", Status.WAITING, lambda export: setattr(export, "problem", unavailable("timeout")))


def test_an_export_that_has_waited_for_too_long_is_to_end_as_failed_and_says_why(
    store: ExportStore, clock: Clock
) -> None:
    wait(store)
    clock.go_on(hours=24)
    sweep_once(store, clock)
    assert stop_of(store) is None
    clock.go_on(minutes=1)
    sweep_once(store, clock)
    stop = stop_of(store)
    assert stop is not None
    assert (stop.status, stop.problem.code) == (Status.FAILED, "waitedTooLong")
    assert stop.problem.message == (
        "The export waited for more than 24 hours, since 2026-03-01 at 06:00 UTC. Mailchimp does not answer in time."
    )
    assert stop.problem.action is not None
    assert "Resume" in stop.problem.action


def test_an_export_that_goes_on_at_the_last_moment_is_left_alone(store: ExportStore, clock: Clock) -> None:
    wait(store)
    seen = store.find("e1")
    assert seen is not None
    for status in (Status.PREPARING, Status.SENDING):
        store.move("e1", status)
        end_long_wait(store, seen, timedelta(hours=24), START + timedelta(hours=25))
        assert stop_of(store) is None


def test_a_lane_that_never_had_to_wait_shows_that_the_export_goes_on(store: ExportStore, clock: Clock) -> None:
    """The one that waits does not hear of it, and only says so when Mailchimp answers it."""
    wait(store)
    store.show_progress("e1", 0, Tally(batches=1, rows=500))
    cast("FakeDocuments", store.documents).changed_at = START + timedelta(hours=5)
    clock.go_on(hours=29)
    sweep_once(store, clock)
    assert stop_of(store) is None
    clock.go_on(minutes=1)
    sweep_once(store, clock)
    assert stop_of(store) is not None


def test_of_several_lanes_the_one_that_got_through_last_counts(store: ExportStore, clock: Clock) -> None:
    wait(store)
    for lane, hours in ((0, 5), (1, 1)):
        store.show_progress("e1", lane, Tally(batches=1, rows=500))
        cast("FakeDocuments", store.documents).changed[names.progress("e1", lane)] = START + timedelta(hours=hours)
    clock.go_on(hours=29)
    sweep_once(store, clock)
    assert stop_of(store) is None


def test_it_is_tried_next_when_the_first_of_its_lanes_is_woken(store: ExportStore) -> None:
    documents, plan = cast("FakeDocuments", store.documents), Plan.model_construct(account_id="a1", lanes=(0, 1))
    assert next_try_at(store, plan) is None
    for lane, minutes in ((0, 4), (1, 2), (2, 1)):
        rest = LaneRest(failures=5, wake_at=START + timedelta(minutes=minutes))
        documents.write(names.lane("a1", lane), b"", rest.to_metadata())
    assert next_try_at(store, plan) == START + timedelta(minutes=2)
    documents.leased = {names.lane("a1", 2)}
    assert next_try_at(store, plan) == START + timedelta(minutes=2), "that lane is another export's, or a look-up"
    documents.leased = {names.lane("a1", 0)}
    assert next_try_at(store, plan) is None, "one is at it"


def test_somebody_who_cancels_is_not_overruled(store: ExportStore, clock: Clock) -> None:
    wait(store)
    problem = Problem(code="canceled", message="Canceled by ada.")
    store.request_stop("e1", Stop(status=Status.CANCELED, problem=problem, at=START))
    clock.go_on(days=2)
    sweep_once(store, clock)
    stop = stop_of(store)
    assert stop is not None
    assert stop.problem == problem


@pytest.mark.parametrize("reason", get_args(UnavailableReason))
def test_every_reason_has_its_sentence(reason: str) -> None:
    assert reason in UNAVAILABLE
    assert unavailable(reason).message == UNAVAILABLE[reason]


def test_the_view_says_since_when_why_and_when_it_tries_next(store: ExportStore, clock: Clock) -> None:
    def wait_until(moment: datetime) -> WaitView | None:
        store.move("e1", Status.PREPARING)
        changed = store.move("e1", Status.WAITING, lambda export: setattr(export, "problem", unavailable("blocked")))
        assert changed is not None
        changed.resume_at = moment
        return view_of(changed, None, clock()).waiting

    soon = START + timedelta(minutes=2)
    assert wait_until(soon) == WaitView(since=START, reason=UNAVAILABLE["blocked"], next_try_at=soon)
    assert wait_until(START) == WaitView(since=START, reason=UNAVAILABLE["blocked"], next_try_at=None)
    preparing = store.move("e1", Status.PREPARING)
    assert preparing is not None
    assert view_of(preparing, None, clock()).waiting is None


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

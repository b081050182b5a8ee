"""The schedule: set, due, run once, and again after faults without starting anything twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.schedule.errors import ScheduleInvalid
from shared.schedule.model import ScheduleRequest, StoredSchedule, open_zone
from shared.schedule.service import ScheduleService
from shared.storage.names import SCHEDULE
from tests.unit.setup_fakes import NOW, Setup

SIX = datetime(2026, 11, 24, 6, tzinfo=UTC)  # the first run after NOW


class Scheduled:
    """A schedule over faked destinations and exports."""

    def __init__(self) -> None:
        self.setup = Setup()
        self.service = self.another()

    def another(self) -> ScheduleService:
        return ScheduleService(
            self.setup.documents.as_documents(), self.setup.service, self.setup.exports, self.setup.clock
        )

    def put(self, **changes: Any) -> StoredSchedule:
        body = {"isActive": True, "timeZone": "UTC", "times": ["06:00"]} | changes
        return self.service.put(ScheduleRequest.model_validate(body), "ada")

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Let somebody else act just before the next change is written."""

        def interfere(_: str) -> None:
            act()

        self.setup.documents.before_replace = interfere


@pytest.fixture
def scheduled() -> Scheduled:
    return Scheduled()


def test_without_a_schedule_nothing_is_ever_due(scheduled: Scheduled) -> None:
    assert scheduled.service.due(SIX) is None
    assert scheduled.service.run(SIX) is None


def test_a_schedule_that_is_off_is_never_due(scheduled: Scheduled) -> None:
    assert scheduled.put(isActive=False).next_run_at is None
    assert scheduled.service.run(SIX) is None


def test_it_is_due_from_its_time_on_and_not_before(scheduled: Scheduled) -> None:
    assert scheduled.put().next_run_at == SIX
    assert scheduled.service.due(SIX - timedelta(seconds=1)) is None
    assert scheduled.service.due(SIX) == SIX
    assert scheduled.service.due(SIX + timedelta(hours=1)) == SIX


def test_a_run_starts_every_ready_destination_and_moves_on(scheduled: Scheduled) -> None:
    scheduled.put()
    ready = [scheduled.setup.ready(name).destination.id for name in ("A", "B")]
    scheduled.setup.created("C")
    started = scheduled.service.run(SIX)
    assert started is not None
    assert [export.destination_id for export in started.exports] == ready
    assert {(export.trigger, export.requested_by) for export in started.exports} == {("scheduled", "schedule")}
    assert [skipped.display_name for skipped in started.skipped] == ["C"]
    schedule = scheduled.service.get()
    assert (schedule.last_run_at, schedule.next_run_at) == (SIX, SIX + timedelta(days=1))
    assert scheduled.service.run(SIX + timedelta(minutes=1)) is None


def test_a_destination_that_still_runs_is_skipped_and_logged(
    scheduled: Scheduled, caplog: pytest.LogCaptureFixture
) -> None:
    scheduled.put()
    stored = scheduled.setup.ready()
    running = scheduled.setup.exports.start(stored.destination, trigger="onDemand", requested_by="ada")
    with caplog.at_level(logging.INFO):
        started = scheduled.service.run(SIX)
    assert started is not None
    assert started.exports == []
    assert started.skipped[0].export_id == running.id
    assert any("schedule.destinationSkipped" in record.getMessage() for record in caplog.records)


def test_missed_runs_are_made_up_for_once(scheduled: Scheduled) -> None:
    scheduled.put(times=["06:00", "18:00"])
    scheduled.setup.ready()
    first = SIX - timedelta(hours=12)
    late = SIX + timedelta(days=3, hours=1)
    assert scheduled.service.run(late) is not None
    assert scheduled.service.run(late) is None
    schedule = scheduled.service.get()
    assert (schedule.last_run_at, schedule.next_run_at) == (first, SIX + timedelta(days=3, hours=12))
    assert len(scheduled.setup.exports.views) == 1


def test_a_run_that_broke_down_is_repeated_and_starts_nothing_twice(scheduled: Scheduled) -> None:
    scheduled.put()
    first = scheduled.setup.ready("A").destination.id
    second = scheduled.setup.ready("B").destination.id
    working = scheduled.setup.exports.start

    def break_at_b(destination: Any, **how: Any) -> Any:
        if destination.id == second:
            raise ServiceRequestError("storage is down")
        return working(destination, **how)

    scheduled.setup.exports.start = break_at_b  # type: ignore[method-assign]
    with pytest.raises(ServiceRequestError):
        scheduled.service.run(SIX)
    assert scheduled.service.due(SIX) == SIX
    scheduled.setup.exports.end("export-1")  # it may even have ended by the time of the next tick
    scheduled.setup.exports.start = working  # type: ignore[method-assign]
    started = scheduled.service.run(SIX + timedelta(minutes=1))
    assert started is not None
    assert [(view.destination_id, view.id) for view in started.exports] == [(first, "export-1"), (second, "export-2")]
    assert len(scheduled.setup.exports.views) == 2


def test_two_ticks_at_the_same_time_start_everything_once(scheduled: Scheduled) -> None:
    scheduled.put()
    scheduled.setup.ready()
    scheduled.meanwhile(lambda: scheduled.another().run(SIX))
    scheduled.service.run(SIX)
    assert len(scheduled.setup.exports.views) == 1
    assert scheduled.service.get().next_run_at == SIX + timedelta(days=1)


def test_a_schedule_set_during_a_run_is_not_overwritten(scheduled: Scheduled) -> None:
    scheduled.put()
    scheduled.setup.clock.now = SIX
    scheduled.meanwhile(lambda: scheduled.put(times=["20:00"]))
    scheduled.service.run(SIX)
    assert scheduled.service.get().times == ("20:00",)
    assert scheduled.service.get().next_run_at == SIX.replace(hour=20)


def test_setting_the_same_schedule_again_keeps_a_run_that_is_due(scheduled: Scheduled) -> None:
    scheduled.put()
    scheduled.setup.clock.now = SIX + timedelta(minutes=1)
    assert scheduled.put().next_run_at == SIX
    assert scheduled.put(times=["06:00", "07:00"]).next_run_at == SIX.replace(hour=7)


def test_two_people_setting_the_schedule_do_not_get_in_each_others_way(scheduled: Scheduled) -> None:
    scheduled.put()
    scheduled.meanwhile(lambda: scheduled.put(times=["08:00"]))
    assert scheduled.put(times=["09:00"]).times == ("09:00",)
    assert scheduled.service.get().times == ("09:00",)


def test_the_last_run_survives_a_new_schedule(scheduled: Scheduled) -> None:
    scheduled.put()
    scheduled.service.run(SIX)
    scheduled.setup.clock.now = SIX + timedelta(hours=1)
    assert scheduled.put(timeZone="Asia/Tokyo").last_run_at == SIX


def test_times_are_those_of_the_time_zone(scheduled: Scheduled) -> None:
    assert scheduled.put(timeZone="Asia/Kathmandu").next_run_at == datetime(2026, 11, 24, 0, 15, tzinfo=UTC)


def test_the_stored_schedule_is_one_document(scheduled: Scheduled) -> None:
    scheduled.put()
    assert list(scheduled.setup.documents.blobs) == [SCHEDULE]
    assert StoredSchedule.from_bytes(scheduled.setup.documents.blobs[SCHEDULE][0]).updated_at == NOW


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Japan"])
def test_iana_names_are_time_zones(name: str) -> None:
    assert open_zone(name).key == name


@pytest.mark.parametrize(
    "name", ["localtime", "posixrules", "America", "Europe/", "/etc/localtime", "W. Europe", "\x00"]
)
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(ScheduleInvalid, match="not the IANA name"):
        open_zone(name)

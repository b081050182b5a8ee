"""The schedule is set and looked at, by several people at once too, and every change of it is recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.audit.log import blob_name
from shared.schedule.errors import ScheduleChanged, ScheduleInvalid
from shared.schedule.requests import ScheduleRequest
from shared.schedule.service import NEVER_SET
from tests.unit.schedule_fakes import ADA, DAY, MINUTE, NOW, SIX, Killed, World


@pytest.fixture
def world() -> World:
    return World()


def wanted(**changes: Any) -> ScheduleRequest:
    return ScheduleRequest.model_validate({"isActive": True, "timeZone": "UTC", "times": ["06:00"]} | changes)


# -- set and look --------------------------------------------------------------------------------------------------


def test_it_is_off_until_it_is_set(world: World) -> None:
    world.ready("d1")
    found = world.instance().get()
    assert (found.view.is_active, found.view.next_runs, found.view.next_run_at) == (False, (), None)
    assert found.etag == NEVER_SET
    assert world.run(SIX + 30 * DAY) == []


def test_the_answer_shows_the_next_five_runs(world: World) -> None:
    view = world.put(times=["18:00", "06:00"], days=["friday", "monday"])
    assert (view.frequency, view.days, view.times) == ("weekly", ("monday", "friday"), ("06:00", "18:00"))
    assert [at.isoformat() for at in view.next_runs] == [
        "2026-11-23T18:00:00+00:00",
        "2026-11-27T06:00:00+00:00",
        "2026-11-27T18:00:00+00:00",
        "2026-11-30T06:00:00+00:00",
        "2026-11-30T18:00:00+00:00",
    ]
    assert view.next_run_at == view.next_runs[0]
    assert world.instance().get().view == view


def test_a_schedule_that_is_off_has_no_next_run(world: World) -> None:
    world.put()
    assert world.put(isActive=False).next_runs == ()


def test_a_time_zone_of_windows_is_kept_by_its_iana_name(world: World) -> None:
    view = world.put(timeZone="W. Europe Standard Time")
    assert (view.time_zone, view.next_run_at) == ("Europe/Berlin", SIX - timedelta(hours=1))


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"timeZone": "Europe/Atlantis"}, "timeZone"),
        ({"frequency": "weekly"}, "days"),
        ({"frequency": "daily", "days": ["monday"]}, "days"),
    ],
)
def test_a_schedule_that_cannot_be_kept_changes_nothing(world: World, changes: dict[str, Any], target: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        world.put(**changes)
    assert caught.value.target == target
    assert world.documents.blobs == {}


def test_a_change_is_made_for_the_version_that_was_read(world: World) -> None:
    service = world.instance()
    first = service.put(wanted(), ADA, NEVER_SET)
    assert first.etag == service.get().etag
    second = service.put(wanted(times=["07:00"]), ADA, first.etag)
    with pytest.raises(ScheduleChanged):
        service.put(wanted(times=["08:00"]), ADA, first.etag)
    with pytest.raises(ScheduleChanged):
        service.put(wanted(times=["08:00"]), ADA, NEVER_SET)
    assert service.get().view.times == ("07:00",)
    assert service.get().etag == second.etag


def test_a_run_does_not_change_the_version(world: World) -> None:
    world.put()
    world.ready("d1")
    etag = world.instance().get().etag
    assert world.run(SIX)
    assert world.instance().get().etag == etag


def test_of_two_who_set_it_at_once_without_if_match_the_later_one_stays(world: World) -> None:
    world.put()

    def meanwhile(call: str, _: str) -> None:
        if call == "before replace":
            world.put(times=["08:00"])

    world.steps.watch = meanwhile
    assert world.put(times=["09:00"]).times == ("09:00",)
    world.steps.watch = None
    assert world.instance().get().view.times == ("09:00",)
    assert [change.after for record in world.records() for change in record.changes if change.property == "times"] == [
        ["06:00"],
        ["08:00"],
        ["09:00"],
    ]


def test_of_two_who_set_it_at_once_with_if_match_one_is_told(world: World) -> None:
    world.put()
    service, etag = world.instance(), world.instance().get().etag

    def meanwhile(call: str, _: str) -> None:
        if call == "before replace":
            world.put(times=["08:00"])

    world.steps.watch = meanwhile
    with pytest.raises(ScheduleChanged):
        service.put(wanted(times=["09:00"]), ADA, etag)
    assert world.instance().get().view.times == ("08:00",)


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(world: World) -> None:
    """The client library sends it again, and that is refused: the version is a new one, our own."""
    world.put()
    etag = world.instance().get().etag
    put = world.documents.replace

    def twice(name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        put(name, data, etag)
        return put(name, data, etag)

    with patch.object(world.documents, "replace", twice):
        changed = world.instance().put(wanted(times=["09:00"]), ADA, etag)
    assert changed.view.times == ("09:00",)
    assert changed.etag == world.instance().get().etag
    assert len(world.records()) == 2


# -- what is recorded ----------------------------------------------------------------------------------------------


def test_every_change_is_recorded_with_who_and_before_and_after(world: World) -> None:
    world.put()
    world.clock.now += MINUTE
    world.put(times=["07:30"], days=["sunday"])
    first, second = world.records()
    assert (first.action, first.target_type, first.who, first.at) == ("schedule.changed", "schedule", ADA, NOW)
    assert {change.property: (change.before, change.after) for change in first.changes} == {
        "isActive": (None, True),
        "frequency": (None, "daily"),
        "days": (None, []),
        "times": (None, ["06:00"]),
        "timeZone": (None, "UTC"),
    }
    assert {change.property: (change.before, change.after) for change in second.changes} == {
        "frequency": ("daily", "weekly"),
        "days": ([], ["sunday"]),
        "times": (["06:00"], ["07:30"]),
    }


def test_setting_what_is_set_already_changes_and_records_nothing(world: World) -> None:
    view = world.put()
    world.clock.now += MINUTE
    assert world.put() == view
    assert len(world.records()) == 1


def test_the_record_is_not_part_of_the_answer(world: World) -> None:
    assert "lastChange" not in json.loads(world.put().to_bytes())


@pytest.mark.parametrize("rescue", ["the timer", "the next change", "the same again"])
def test_no_crash_keeps_a_change_from_the_audit_log(world: World, rescue: str) -> None:
    """Cut off at every call of the storage, before and after: what is stored in the end has its record."""
    for number in range(100):
        world = World()
        world.put()
        steps = iter(range(1000))

        def die(call: str, name: str, number: int = number, steps: Any = steps) -> None:
            if next(steps) == number:
                raise Killed

        world.steps.watch = die
        try:
            world.put(times=["07:00"])
        except Killed:
            world.steps.watch = None
        else:
            break
        stored = world.instance().get().view.times
        if rescue == "the timer":
            world.run(NOW + 30 * DAY)  # even if the timer stood still for long
        else:
            world.put(times=["07:00"] if rescue == "the same again" else ["08:00"])
        after = [change.after for record in world.records() for change in record.changes if change.property == "times"]
        made = [["06:00"], ["07:00"]] if stored == ("07:00",) else [["06:00"]]
        expected = {"the timer": made, "the next change": [*made, ["08:00"]], "the same again": [["06:00"], ["07:00"]]}
        assert after == expected[rescue], number
    assert number > 5
    assert len(world.records()) == 2


def test_a_record_that_cannot_be_written_holds_up_no_export(world: World) -> None:
    world.put()
    world.ready("d1")
    record = blob_name(world.records()[0].id)

    def refuse(call: str, name: str) -> None:
        if name == record:
            raise ServiceRequestError("the audit log is down")

    world.steps.watch = refuse
    with pytest.raises(ServiceRequestError):
        world.run(SIX)
    assert len(world.scheduled("d1")) == 1
    assert world.last_runs()["d1"] == SIX

"""The schedule: set, looked at, due, run; what is recorded of it, and what happens to runs that cannot start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.api.parameters import request_key
from shared.audit.log import blob_name
from shared.destinations.model import Removal, SignInState
from shared.exports.model import Status
from shared.people import SCHEDULE as SCHEDULER
from shared.schedule.errors import ScheduleChanged, ScheduleInvalid
from shared.schedule.requests import ScheduleRequest
from shared.schedule.service import NEVER_SET
from shared.storage import names
from tests.unit.schedule_fakes import ADA, NOW, SIX, Killed, World, own

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world() -> World:
    return World()


def wanted(**changes: Any) -> ScheduleRequest:
    return ScheduleRequest.model_validate({"isActive": True, "timeZone": "UTC", "times": ["06:00"]} | changes)


# -- set and look ------------------------------------------------------------------------------------------------


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

    world.documents.replace = twice  # type: ignore[method-assign]
    changed = world.instance().put(wanted(times=["09:00"]), ADA, etag)
    assert changed.view.times == ("09:00",)
    assert changed.etag == world.instance().get().etag
    assert len(world.records()) == 2


# -- what is recorded --------------------------------------------------------------------------------------------


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


# -- due ---------------------------------------------------------------------------------------------------------


def test_it_is_due_from_its_time_on_and_not_before(world: World) -> None:
    world.put()
    world.ready("d1")
    assert world.run(SIX - timedelta(seconds=1)) == []
    assert len(world.run(SIX)) == 1
    assert world.run(SIX) == []


def test_a_run_starts_every_destination_that_follows_and_moves_on(world: World) -> None:
    world.put()
    for id_ in ("d1", "d2"):
        world.ready(id_)
    world.ready("own", **own("09:00"))
    world.ready("off", mode="off")
    started = world.run(SIX + timedelta(seconds=2))
    assert [(export.destination_id, export.trigger, export.status) for export in started] == [
        ("d1", "scheduled", Status.QUEUED),
        ("d2", "scheduled", Status.QUEUED),
    ]
    assert {(each.requested_by, each.requested_by_id) for each in world.exports()} == {(SCHEDULER.name, SCHEDULER.id)}
    view = world.instance().get().view
    assert (view.last_run_at, view.next_run_at) == (SIX + timedelta(seconds=2), SIX + DAY)
    assert world.run(SIX + MINUTE) == []


def test_a_destination_with_a_rule_of_its_own_runs_by_that_whatever_the_schedule(world: World) -> None:
    world.ready("own", **own("09:00"))
    nine = SIX.replace(hour=9)
    assert world.run(SIX) == []
    assert len(world.run(nine)) == 1
    world.put()
    assert world.run(SIX + DAY) == []


def test_missed_runs_are_made_up_for_once(world: World) -> None:
    world.put(times=["06:00", "18:00"])
    world.ready("d1")
    late = SIX + 3 * DAY + timedelta(hours=1)
    assert len(world.run(late)) == 1
    world.end_all()
    assert world.run(late + MINUTE) == []
    assert len(world.scheduled("d1")) == 1
    view = world.instance().get().view
    assert (view.last_run_at, view.next_run_at) == (late, SIX + 3 * DAY + timedelta(hours=12))


def test_the_schedule_moves_on_though_nobody_follows_it(world: World) -> None:
    world.put()
    world.run(SIX + MINUTE)
    view = world.instance().get().view
    assert (view.last_run_at, view.next_run_at) == (SIX + MINUTE, SIX + DAY)


def test_a_run_that_is_due_stays_due_when_the_same_is_set_again(world: World) -> None:
    world.put()
    world.ready("d1")
    world.clock.now = SIX + MINUTE
    assert world.put().next_runs[:2] == (SIX, SIX + DAY)


def test_a_run_that_is_due_stays_due_when_something_else_of_the_destination_changes(world: World) -> None:
    world.ready("d1", **own("06:00"))
    world.clock.now = SIX + MINUTE
    world.destinations["d1"].segments = ("Silver",)
    world.destinations["d1"].updated_at = SIX + MINUTE
    assert len(world.run(SIX + 2 * MINUTE)) == 1


@pytest.mark.parametrize("how", ["all", "own"])
def test_a_new_rule_counts_from_the_moment_it_is_set(world: World, how: str) -> None:
    """Not from the timer's next look, and not from the last run."""

    def change(*times: str) -> None:
        if how == "all":
            world.put(times=list(times))
        else:
            world.schedule("d1", **own(*times))

    world.ready("d1")
    change("06:00")
    world.clock.now = SIX + timedelta(seconds=1)
    change("06:00", "07:00")
    assert world.run(SIX + MINUTE) == [], "what was due under the old rule is not made up for"
    world.clock.now = SIX + timedelta(minutes=59, seconds=59)
    change("07:00", "09:00")
    assert len(world.run(SIX + timedelta(hours=1))) == 1, "set one second before it is due"


@pytest.mark.parametrize("how", ["disabled", "off", "inactive"])
def test_what_would_have_run_while_it_was_off_is_not_made_up_for(world: World, how: str) -> None:
    world.put()
    world.ready("d1")

    def switch(on: bool) -> None:
        if how == "disabled":
            world.enable("d1", on)
        elif how == "off":
            world.schedule("d1", mode="followSchedule" if on else "off")
        else:
            world.put(isActive=on)

    switch(False)
    world.clock.now = SIX + DAY + timedelta(hours=1)  # without one look of the timer in between
    switch(True)
    assert world.run(SIX + DAY + timedelta(hours=1, minutes=1)) == []
    assert len(world.run(SIX + 2 * DAY)) == 1


@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_a_destination_that_is_disabled_or_being_removed_is_not_due(world: World, how: str) -> None:
    world.put()
    destination = world.ready("d1")
    if how == "disabled":
        world.enable("d1", False)
    else:
        destination.removal = Removal(requested_by=ADA, requested_at=NOW)
    assert world.run(SIX) == []
    assert world.exports() == []
    assert world.instance().of(world.destinations["d1"]).next_runs == ()


def test_a_new_destination_does_not_run_for_the_time_before_it_was_there(world: World) -> None:
    world.put()
    world.clock.now = SIX + MINUTE
    world.ready("d1")
    assert world.run(SIX + 2 * MINUTE) == []
    assert len(world.run(SIX + DAY)) == 1


def test_the_last_run_survives_a_new_schedule(world: World) -> None:
    world.put()
    world.run(SIX)
    world.clock.now = SIX + timedelta(hours=1)
    assert world.put(timeZone="Asia/Tokyo").last_run_at == SIX


def test_destinations_that_are_gone_are_forgotten(world: World) -> None:
    world.put()
    for id_ in ("d1", "d2"):
        world.ready(id_)
    world.run(SIX)
    assert set(world.last_runs()) == {"*", "d1", "d2"}
    del world.destinations["d1"]
    world.run(SIX + MINUTE)
    assert set(world.last_runs()) == {"*", "d2"}


def test_nothing_is_written_while_nothing_is_due(world: World) -> None:
    world.put()
    world.ready("d1")
    world.run(SIX)
    service = world.instance()
    service.run(SIX + MINUTE)
    before = dict(world.documents.blobs), dict(world.audit.blobs)
    calls: list[str] = []
    world.steps.watch = lambda call, _: calls.append(call)
    service.run(SIX + 2 * MINUTE)
    assert (dict(world.documents.blobs), dict(world.audit.blobs)) == before
    assert set(calls) <= {"before read", "before list"}


# -- the schedule of one destination -----------------------------------------------------------------------------


def test_a_destination_tells_by_which_rule_it_runs_and_when(world: World) -> None:
    world.put(timeZone="Europe/Berlin")
    for id_, schedule in {"follows": {}, "own": own("23:30", days=("sunday",)), "off": {"mode": "off"}}.items():
        world.ready(id_, **schedule)
    views = {id_: world.instance().of(each) for id_, each in world.destinations.items()}
    assert {id_: str(view.mode) for id_, view in views.items()} == {
        "follows": "followSchedule",
        "own": "ownSchedule",
        "off": "off",
    }
    follows, its_own = views["follows"], views["own"]
    assert follows.rule is not None
    assert its_own.rule is not None
    assert json.loads(follows.to_bytes())["rule"] == {
        "frequency": "daily",
        "days": [],
        "times": ["06:00"],
        "timeZone": "Europe/Berlin",
    }
    assert follows.next_runs == tuple(SIX - timedelta(hours=1) + number * DAY for number in range(5))
    assert its_own.rule.times == ("23:30",)
    sunday = SIX.replace(day=29, hour=23, minute=30)
    assert its_own.next_runs == tuple(sunday + number * 7 * DAY for number in range(5))
    assert (views["off"].rule, views["off"].next_runs, views["off"].next_run_at) == (None, (), None)


def test_a_destination_that_follows_a_schedule_that_is_off_has_no_rule(world: World) -> None:
    view = world.instance().of(world.ready("d1"))
    assert (view.rule, view.next_runs, view.last_run_at) == (None, (), None)


def test_a_destination_tells_when_it_ran_last(world: World) -> None:
    world.put()
    destination = world.ready("d1")
    world.run(SIX)
    view = world.instance().of(destination)
    assert (view.last_run_at, view.next_run_at) == (SIX, SIX + DAY)


def test_a_run_that_is_due_is_the_first_of_the_next_for_all_that_were_missed(world: World) -> None:
    world.put()
    destination = world.ready("d1")
    world.clock.now = SIX + 3 * DAY
    shown = world.instance().of(destination).next_runs
    assert shown == (SIX, *(SIX + number * DAY for number in (4, 5, 6, 7)))
    world.run(world.clock.now)
    assert world.instance().of(destination).next_runs[0] == shown[1]


# -- runs that cannot start --------------------------------------------------------------------------------------


def test_a_destination_that_is_not_ready_is_recorded_as_skipped_with_the_missing_steps(world: World) -> None:
    world.put()
    world.ready("d1").sign_in.state = SignInState.NEEDS_AUTHENTICATION
    world.ready("d2")
    world.run(SIX)
    (skipped,) = world.scheduled("d1")
    assert skipped.problem is not None
    assert (skipped.status, skipped.problem.code) == (Status.SKIPPED, "destinationNotReady")
    assert "sign in to Mailchimp again" in skipped.problem.message
    assert "on demand" in (skipped.problem.action or "")
    assert skipped.requested_by == "schedule"
    assert [each.status for each in world.scheduled("d2")] == [Status.QUEUED]


def test_a_destination_that_still_runs_is_recorded_as_skipped_and_names_the_export(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put()
    destination = world.ready("d1")
    running = world.engine.start(destination, trigger="onDemand", requested_by=ADA)
    with caplog.at_level(logging.INFO):
        world.run(SIX)
    (skipped,) = world.scheduled("d1")
    assert skipped.problem is not None
    assert (skipped.status, skipped.problem.code) == (Status.SKIPPED, "exportRunning")
    assert running.id in skipped.problem.message
    assert any('"skipped": "exportRunning"' in record.getMessage() for record in caplog.records)
    assert world.last_runs()["d1"] == SIX, "a skipped run is not tried again"
    world.end(running.id)
    assert world.run(SIX + MINUTE) == []
    assert [each.status for each in world.exports()] == [Status.SUCCESSFUL, Status.SKIPPED]


def test_runs_of_one_destination_never_overlap(world: World) -> None:
    world.ready("d1", **own("06:00", "06:01"))
    assert [each.status for at in (SIX, SIX + MINUTE) for each in world.run(at)] == [Status.QUEUED, Status.SKIPPED]


def test_an_export_that_was_started_is_not_skipped_by_a_repeated_run(world: World) -> None:
    """The process died before it moved on; meanwhile the export ended and the sign-in was refused."""
    world.put()
    destination = world.ready("d1")

    def die(call: str, name: str) -> None:
        if name == names.SCHEDULE_RUNS and call == "before create":
            raise Killed

    world.steps.watch = die
    with pytest.raises(Killed):
        world.run(SIX)
    world.steps.watch = None
    world.end_all()
    destination.sign_in.state = SignInState.NEEDS_AUTHENTICATION
    world.run(SIX + MINUTE)
    assert [each.status for each in world.scheduled("d1")] == [Status.SUCCESSFUL]
    assert world.last_runs()["d1"] == SIX + MINUTE


def test_a_destination_that_fails_stays_due_and_holds_up_no_other(world: World) -> None:
    world.put()
    for id_ in ("d1", "d2", "d3"):
        world.ready(id_)

    def fail(call: str, name: str) -> None:
        if name.startswith(names.idempotency("d2", "").removesuffix(".json")):
            raise ServiceRequestError("storage is down")

    world.steps.watch = fail
    with pytest.raises(ServiceRequestError):
        world.run(SIX)
    assert set(world.last_runs()) == {"*", "d1", "d3"}
    world.steps.watch = None
    world.end_all()
    assert [export.destination_id for export in world.run(SIX + MINUTE)] == ["d2"]
    assert [len(world.scheduled(id_)) for id_ in ("d1", "d2", "d3")] == [1, 1, 1]


def test_a_caller_cannot_take_the_key_of_a_run(world: World) -> None:
    world.put()
    destination = world.ready("d1")
    key = request_key(f"schedule-{SIX.isoformat()}")
    taken = world.engine.start(destination, trigger="onDemand", requested_by=ADA, idempotency_key=key)
    world.end(taken.id)
    (started,) = world.run(SIX)
    assert started.id != taken.id


def test_an_unknown_zone_in_storage_holds_up_no_other_destination(world: World) -> None:
    """Should a later version of the time zone data no longer know a zone that was stored."""
    broken = world.ready("d1", **own("06:00"))
    assert broken.schedule.rule is not None
    broken.schedule.rule.time_zone = "Europe/Atlantis"
    world.ready("d2", **own("06:00"))
    with pytest.raises(ScheduleInvalid):
        world.run(SIX)
    assert len(world.scheduled("d2")) == 1
    assert set(world.last_runs()) == {"d2"}

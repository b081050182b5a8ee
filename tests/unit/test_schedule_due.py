"""When a run is due, by the schedule of all or a rule of its own, and what was missed or switched off meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from shared.destinations.model import Removal
from shared.exports.model import Status
from shared.people import SCHEDULE as SCHEDULER
from tests.unit.schedule_fakes import ADA, DAY, MINUTE, NOW, SIX, World, own


@pytest.fixture
def world() -> World:
    return World()


# -- due -----------------------------------------------------------------------------------------------------------


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


# -- what one destination shows of it ------------------------------------------------------------------------------


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

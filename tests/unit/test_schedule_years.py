"""Years of schedule with a clock that is set, against one that is watched minute by minute."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.destinations.model import Destination
from shared.exports.model import Books, Problem, Status, Trigger
from shared.exports.view import ExportView
from shared.people import Person
from shared.schedule.requests import ScheduleRequest
from shared.schedule.rules import Day
from tests.unit.schedule_fakes import ADA, World, own
from tests.unit.schedule_oracle import MINUTE, WallClock, days_of, due_minutes


@dataclass
class Recorder:
    """Exports that end at once; ``started`` holds destination, idempotency key and time of every one, in order."""

    world: World
    started: list[tuple[str, str, datetime]] = field(default_factory=list)

    def start(
        self, destination: Destination, *, trigger: Trigger, requested_by: Person, idempotency_key: str | None = None
    ) -> ExportView:
        assert (trigger, requested_by.id) == ("scheduled", "schedule")
        self.started.append((destination.id, idempotency_key or "", self.world.clock()))
        return ExportView(
            id=f"export-{len(self.started)}",
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            status=Status.SUCCESSFUL,
            ended=True,
            created_at=self.world.clock(),
            books=Books(),
        )

    def record_skipped(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str,
        problem: Problem,
    ) -> ExportView:
        raise AssertionError(f"{destination.id} was skipped: {problem.message}")

    def of(self, destination_id: str) -> list[tuple[str, datetime]]:
        return [(key, at) for id_, key, at in self.started if id_ == destination_id]


def key_of(occurrence: datetime) -> str:
    return f"schedule-{occurrence.isoformat()}"


# The first of 400 days of each zone. Both daylight changes lie in them: Samoa left out 30 December 2011 and gave up
# daylight saving in 2021, as Brazil did in 2019; Lord Howe's clock jumps by 30 minutes, and Kathmandu's never does.
ZONES = {
    "UTC": 2026,
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "America/Sao_Paulo": 2018,
    "Asia/Kathmandu": 2026,
    "Australia/Lord_Howe": 2026,
    "Pacific/Apia": 2011,
}
_DAYS = 400
RULES: dict[str, dict[str, Any]] = {
    "four times a day": {"times": ["00:00", "02:10", "02:30", "23:59"]},
    "weekly": {"times": ["01:30", "00:15"], "days": ["sunday", "friday"]},
    "once a day": {"times": ["02:15"]},
}


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_schedule_runs_when_the_clock_on_the_wall_says_so(zone: str) -> None:
    start = datetime(ZONES[zone], 1, 1, tzinfo=UTC)
    end = start + timedelta(days=_DAYS)
    world = World(start - timedelta(seconds=1))
    recorder = Recorder(world)
    world.starter = recorder
    for name, rule in RULES.items():
        world.ready(name, mode="ownSchedule", rule={**rule, "timeZone": zone})
    expected = due_minutes(ZoneInfo(zone), start, end, {name: days_of(rule) for name, rule in RULES.items()})
    world.put(timeZone=zone, times=RULES["once a day"]["times"])
    world.ready("follows")
    expected["follows"] = expected["once a day"]
    looks = {minute + offset * MINUTE for runs in expected.values() for minute in runs for offset in (-1, 0, 1)}
    for number, now in enumerate(sorted(look for look in looks if start <= look <= end)):
        world.run(now)
        if number % 97 == 0:
            for name, runs in expected.items():
                after = bisect_right(runs, now)
                if after + 5 <= len(runs):
                    assert list(world.instance().of(world.destinations[name]).next_runs) == runs[after : after + 5]
    for name, runs in expected.items():
        assert recorder.of(name) == [(key_of(run), run) for run in runs], name
    count = len(expected["four times a day"])
    assert 4 * _DAYS - 8 <= count <= 4 * _DAYS + 1, "where the clock jumps two may be one"


def test_the_jumps_of_the_clock_are_in_those_years() -> None:
    """What the simulation is for: days of 23, 23.5, 24.5 and 25 hours, and one that was not there."""
    hours: dict[str, set[float]] = {}
    for zone, year in ZONES.items():
        info = ZoneInfo(zone)
        days = [datetime(year, 1, 1, tzinfo=info) + timedelta(days=number) for number in range(_DAYS + 1)]
        ends = [day.astimezone(UTC) for day in days]
        hours[zone] = {(after - before).total_seconds() / 3600 for before, after in pairwise(ends)}
    assert hours == {
        "UTC": {24.0},
        "Europe/Berlin": {23.0, 24.0, 25.0},
        "America/New_York": {23.0, 24.0, 25.0},
        "America/Sao_Paulo": {23.0, 24.0, 25.0},
        "Asia/Kathmandu": {24.0},
        "Australia/Lord_Howe": {23.5, 24.0, 24.5},
        "Pacific/Apia": {0.0, 23.0, 24.0, 25.0},
    }


# -- anything at any time ----------------------------------------------------------------------------------------

_TIMES = st.lists(
    st.sampled_from(["00:00", "00:30", "01:59", "02:00", "02:15", "02:30", "03:00", "12:00", "23:59"])
    | st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
    min_size=1,
    max_size=4,
    unique=True,
)
_WEEKDAYS = st.lists(st.sampled_from([str(day) for day in Day]), max_size=4, unique=True)
_RULE = st.fixed_dictionaries(
    {"times": _TIMES, "days": _WEEKDAYS, "timeZone": st.sampled_from(sorted(ZONES)) | st.just("Europe/London")}
)
_CHANGE = st.one_of(
    st.tuples(st.just("own"), _RULE),
    st.tuples(st.just("all"), st.booleans(), _RULE),
    st.tuples(st.just("follow")),
    st.tuples(st.just("off")),
    st.tuples(st.just("enable")),
    st.tuples(st.just("disable")),
)
_STARTS = st.sampled_from(
    [
        datetime(2026, 3, 28, tzinfo=UTC),  # spring in Europe, autumn in Lord Howe a week later
        datetime(2026, 4, 4, tzinfo=UTC),
        datetime(2026, 10, 24, tzinfo=UTC),
        datetime(2026, 10, 31, tzinfo=UTC),
        datetime(2018, 11, 3, tzinfo=UTC),
        datetime(2011, 12, 29, tzinfo=UTC),
        datetime(2026, 7, 1, tzinfo=UTC),
    ]
)


@dataclass
class Watched:
    """What has to happen to one destination, told by somebody who watches the clocks on all walls."""

    start: datetime
    mode: str = "followSchedule"
    own: dict[str, Any] | None = None
    all: dict[str, Any] | None = None
    active: bool = False
    enabled: bool = True
    waiting: datetime | None = None
    clocks: dict[str, WallClock] = field(default_factory=dict)

    def minute(self, now: datetime) -> None:
        """The clock goes on by a minute: something may come due. Of several that wait, the first counts."""
        come = {zone: clock.come(now) for zone, clock in self.clocks.items()}
        rule = self.rule()
        if rule is None or not self.enabled or self.waiting is not None:
            return
        if days_of(rule).has(come[rule["timeZone"]]):
            self.waiting = now

    def rule(self) -> dict[str, Any] | None:
        if self.mode == "ownSchedule":
            return self.own
        return self.all if self.mode == "followSchedule" and self.active else None

    def change(self, now: datetime, change: tuple[Any, ...]) -> None:
        """Whoever changes when it runs does away with what waits."""
        before = (self.mode, self.own, self.enabled, (self.all, self.active) if self.mode == "followSchedule" else None)
        match change:
            case ("own", rule):
                self.mode, self.own = "ownSchedule", rule
            case ("all", active, rule):
                self.all, self.active = rule, active
            case ("follow",):
                self.mode, self.own = "followSchedule", None
            case ("off",):
                self.mode, self.own = "off", None
            case ("enable",) | ("disable",):
                self.enabled = change[0] == "enable"
        for rule in (self.own, self.all):
            if rule is not None and rule["timeZone"] not in self.clocks:
                self.clocks[rule["timeZone"]] = WallClock(ZoneInfo(rule["timeZone"]), now + MINUTE)
        after = (self.mode, self.own, self.enabled, (self.all, self.active) if self.mode == "followSchedule" else None)
        if after != before:
            self.waiting = None


def normal(rule: dict[str, Any]) -> dict[str, Any]:
    """Days and times in order, as the schedule keeps them: the same rule written otherwise is the same rule."""
    return {**rule, "times": sorted(rule["times"]), "days": [str(day) for day in Day if day in rule["days"]]}


def apply(world: World, change: tuple[Any, ...]) -> None:
    match change:
        case ("own", rule):
            world.schedule("d1", **own(*rule["times"], zone=rule["timeZone"], days=tuple(rule["days"])))
        case ("all", active, rule):
            world.instance().put(ScheduleRequest.model_validate({"isActive": active, **rule}), ADA)
        case ("follow",):
            world.schedule("d1", mode="followSchedule")
        case ("off",):
            world.schedule("d1", mode="off")
        case ("enable",) | ("disable",):
            world.enable("d1", change[0] == "enable")


@settings(max_examples=150)
@given(
    start=_STARTS,
    first=st.tuples(st.just("own"), _RULE) | st.tuples(st.just("all"), st.just(True), _RULE),
    pauses=st.lists(st.integers(1, 10) | st.integers(1, 900), min_size=5, max_size=60),
    changes=st.dictionaries(st.integers(0, 4000), _CHANGE, max_size=6),
)
def test_whatever_is_set_and_however_seldom_the_timer_looks_each_run_is_started_once(
    start: datetime, first: tuple[Any, ...], pauses: list[int], changes: dict[int, tuple[Any, ...]]
) -> None:
    """Changes come half a minute after a full one, the timer at full minutes, with ``pauses`` in between."""
    world = World(start - MINUTE / 2)
    recorder = Recorder(world)
    world.starter = recorder
    world.ready("d1")
    watched = Watched(start)
    looks = set(_sums(pauses))
    expected = []
    changes = {-1: first, **changes}
    for minute in range(-1, max(looks) + 1):
        now = start + minute * MINUTE
        watched.minute(now)
        if minute in looks:
            if watched.waiting is not None:
                expected.append((key_of(watched.waiting), now))
                watched.waiting = None
            world.run(now)
        if minute in changes:
            change = tuple(normal(each) if isinstance(each, dict) else each for each in changes[minute])
            world.clock.now = now + MINUTE / 2
            apply(world, change)
            watched.change(now, change)
    assert recorder.of("d1") == expected


def _sums(pauses: list[int]) -> Iterator[int]:
    at = -1
    for pause in pauses:
        at += pause
        yield at


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_the_timer_that_looks_every_minute_through_a_change_of_the_clock(zone: str) -> None:
    """Every minute of both weekends, not only those around a run."""
    year = ZONES[zone]
    info = ZoneInfo(zone)
    days = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=number) for number in range(365)]
    jumps = [
        day for before, day in pairwise(days) if before.astimezone(info).utcoffset() != day.astimezone(info).utcoffset()
    ]
    assert len(jumps) == 2
    for jump in jumps:
        start, end = jump - timedelta(hours=30), jump + timedelta(hours=18)
        world = World(start - MINUTE / 2)
        recorder = Recorder(world)
        world.starter = recorder
        times = ["00:30", "02:10", "02:30", "23:30"]
        world.ready("d1", **own(*times, zone=zone))
        service = world.instance()
        now = start
        while now <= end:
            world.clock.now = now
            service.run(now)
            now += MINUTE
        runs = due_minutes(info, start, end, {"d1": days_of({"times": times})})["d1"]
        assert recorder.of("d1") == [(key_of(run), run) for run in runs]
        assert runs[0] < jump < runs[-1]

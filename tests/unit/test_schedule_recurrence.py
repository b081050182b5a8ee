"""When a schedule runs next, checked against a clock that is read minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.schedule.recurrence import next_run
from tests.unit.schedule_oracle import MINUTE, Days, due_minutes

BERLIN = ZoneInfo("Europe/Berlin")

# Zones with half-hour and two-hour jumps, jumps at midnight, negative and uneven offsets, and days that never were.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Pacific/Apia",
    "Pacific/Chatham",
]
ODD_DAYS = [
    date(2026, 3, 29),
    date(2026, 10, 25),
    date(2026, 3, 8),
    date(2026, 11, 1),
    date(2026, 4, 5),
    date(2026, 10, 4),
    date(2011, 12, 30),
    date(2018, 11, 4),
    date(2010, 11, 7),
    date(2024, 3, 10),
]


def runs(after: datetime, until: datetime, zone: ZoneInfo, days: set[int], times: Sequence[time]) -> list[datetime]:
    found = []
    at = next_run(after, zone, days, times)
    while at <= until:
        found.append(at)
        at = next_run(at, zone, days, times)
    return found


@settings(max_examples=60)
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    day=st.sampled_from(ODD_DAYS) | st.dates(date(2005, 1, 1), date(2037, 12, 1)),
    minute=st.integers(0, 24 * 60 - 1),
    days=st.sets(st.integers(0, 6)),
    times=st.lists(
        st.times().map(lambda t: t.replace(second=0, microsecond=0)) | st.sampled_from([time(0), time(2, 30)]),
        min_size=1,
        max_size=4,
        unique=True,
    ),
)
def test_it_runs_whenever_the_wall_clock_first_shows_the_time_or_jumps_over_it(
    zone: ZoneInfo, day: date, minute: int, days: set[int], times: list[time]
) -> None:
    after = datetime.combine(day - timedelta(days=1), time(), UTC) + MINUTE * minute
    until = after + timedelta(days=3)
    assert (
        runs(after, until, zone, days, times)
        == due_minutes(zone, after + MINUTE, until, {"it": Days(frozenset(times), frozenset(days))})["it"]
    )


@settings(max_examples=100)
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    minutes=st.integers(0, 17_000_000),
    days=st.sets(st.integers(0, 6)),
)
def test_the_next_run_is_later_and_within_nine_days(zone: ZoneInfo, minutes: int, days: set[int]) -> None:
    after = datetime(2005, 1, 1, tzinfo=UTC) + MINUTE * minutes
    at = next_run(after, zone, days, [time(2, 30)])
    assert after < at <= after + timedelta(days=9)
    assert at.tzinfo is UTC


def test_a_time_that_spring_leaves_out_runs_when_the_clock_jumps() -> None:
    evening = datetime(2026, 3, 28, 20, tzinfo=UTC)
    assert next_run(evening, BERLIN, [], [time(2, 30)]) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_a_time_that_autumn_shows_twice_runs_once() -> None:
    evening = datetime(2026, 10, 24, 20, tzinfo=UTC)
    first = next_run(evening, BERLIN, [], [time(2, 30)])
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_run(first, BERLIN, [], [time(2, 30)]) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_the_wall_clock_time_stays_the_same_across_daylight_saving() -> None:
    found = runs(datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC), BERLIN, set(), [time(6)])
    assert [at.astimezone(BERLIN).hour for at in found] == [6, 6, 6, 6]


def test_several_days_and_times_run_in_order() -> None:
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    found = runs(monday, monday + timedelta(days=7), ZoneInfo("UTC"), {0, 4}, [time(18), time(6)])
    assert [(at.weekday(), at.hour) for at in found] == [(0, 6), (0, 18), (4, 6), (4, 18)]


def test_a_run_is_not_repeated_at_its_own_moment() -> None:
    at = datetime(2026, 11, 23, 6, tzinfo=UTC)
    assert next_run(at, ZoneInfo("UTC"), [], [time(6)]) == at + timedelta(days=1)


@pytest.mark.parametrize("weekday", range(7))
def test_a_day_that_a_country_skipped_runs_at_the_start_of_the_next(weekday: int) -> None:
    apia = ZoneInfo("Pacific/Apia")  # had no 30 December 2011, a Friday
    at = next_run(datetime(2011, 12, 29, 12, tzinfo=UTC), apia, {weekday}, [time(12)])
    if weekday == 4:
        assert at.astimezone(apia).isoformat() == "2011-12-31T00:00:00+14:00"
    else:
        assert at.astimezone(apia).weekday() == weekday

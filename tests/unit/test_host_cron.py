"""Schedules of timer triggers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dev.host.cron import Schedule


def due(schedule: str, after: str) -> str:
    return (
        Schedule.parse(schedule).next(datetime.fromisoformat(after).replace(tzinfo=UTC)).strftime("%Y-%m-%d %H:%M:%S")
    )


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 */5 * * * *", "2026-11-22 10:02:03", "2026-11-22 10:05:00"),
        ("0 0 * * * *", "2026-11-22 23:30:00", "2026-11-23 00:00:00"),
        ("0 30 9 * * 1-5", "2026-11-20 09:30:00", "2026-11-23 09:30:00"),  # Friday to Monday
        ("0 30 9 * * MON,wed", "2026-11-23 12:00:00", "2026-11-25 09:30:00"),
        ("0 0 0 1 JAN *", "2026-01-01 00:00:00", "2027-01-01 00:00:00"),
        ("15,45 0-10/5 * * * *", "2026-11-22 10:05:15", "2026-11-22 10:05:45"),
        ("15,45 0-10/5 * * * *", "2026-11-22 10:10:45", "2026-11-22 11:00:15"),
        ("0 50/4 * * * *", "2026-11-22 10:54:00", "2026-11-22 10:58:00"),
        ("*/5 * * * *", "2026-11-22 10:02:03", "2026-11-22 10:05:00"),
        ("0 0 12 29 2 *", "2026-01-01 00:00:00", "2028-02-29 12:00:00"),
        ("0 0 0 13 * 5", "2026-11-22 00:00:00", "2027-08-13 00:00:00"),  # day and day of week: Friday the 13th
        ("* * * * * *", "2026-12-31 23:59:59", "2027-01-01 00:00:00"),
    ],
)
def test_a_schedule_is_next_due_at(schedule: str, after: str, expected: str) -> None:
    assert due(schedule, after) == expected


def test_the_moment_itself_is_not_its_own_next() -> None:
    schedule = Schedule.parse("0 0 0 * * *")
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert schedule.next(midnight - timedelta(microseconds=1)) == midnight
    assert schedule.next(midnight) == midnight + timedelta(days=1)


def test_schedules_are_in_utc_whatever_the_zone_of_the_question() -> None:
    in_berlin = datetime(2026, 11, 22, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert Schedule.parse("0 0 0 * * *").next(in_berlin) == datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ("0 * * *", "six fields"),
        ("60 * * * * *", "second"),
        ("0 x * * * *", "minute"),
        ("0 0 24 * * *", "hour"),
        ("0 0 0 0 * *", "day"),
        ("0 0 0 * 13 *", "month"),
        ("0 0 0 * * 7", "day of week"),
        ("0 */0 * * * *", "minute"),
        ("0 9-5 * * * *", "minute"),
        ("0 , * * * *", "minute"),
        ("0 0 0 30 2 *", "never comes due"),
        ("00:05:00", "six fields"),
    ],
)
def test_what_is_not_a_schedule_is_refused_with_the_fields_name(schedule: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Schedule.parse(schedule)

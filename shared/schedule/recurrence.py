"""When a schedule runs next: days and times on the wall clock of a time zone, across daylight saving."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAYS_AHEAD = 9
"""The same weekday comes again after seven days, and what of today is over is tried first; one to spare."""


def next_run(after: datetime, zone: ZoneInfo, weekdays: Collection[int], times: Sequence[time]) -> datetime:
    """The first run after ``after`` (aware), in UTC.

    ``weekdays``: Monday is 0; empty means every day. A time that the clock leaves out in spring runs at the moment
    the clock jumps; a time that the clock shows twice in autumn runs the first time only.
    """
    today = after.astimezone(zone).date()
    days = (today + timedelta(days=number) for number in range(_DAYS_AHEAD))
    # What comes later on the wall never runs earlier, so the first that is not over is the one.
    return next(run for day in days for run in _runs_of(day, zone, weekdays, sorted(times)) if run > after)


def _runs_of(day: date, zone: ZoneInfo, weekdays: Collection[int], times: Sequence[time]) -> Iterator[datetime]:
    if not weekdays or day.weekday() in weekdays:
        for at in times:
            yield _instant(datetime.combine(day, at), zone)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the wall clock of ``zone`` first shows ``wall``, or jumps over it; in UTC."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # The clock never shows this time. With fold 0 the offset from before the jump was used, which lies after the
    # jump; fold 1 gives a moment before it (PEP 495). The jump is where the offset changes in between.
    before, later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant
    offset_before = before.astimezone(zone).utcoffset()
    while later - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(later - before).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == offset_before:
            before = middle
        else:
            later = middle
    return later

"""When a schedule has to run, found out by watching the clock on the wall, minute by minute. Slow, and simple enough
to be right: it knows of no offsets and no jumps, only of what the clock shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared.schedule.rules import Day

MINUTE = timedelta(minutes=1)
_LOOK_BACK = timedelta(days=2)
"""So that a time which the clock shows for the second time is known as such from the beginning."""


class WallClock:
    """Shows, minute by minute, which times of day have just come: usually one, several where the clock jumped over
    some, none where it shows a time again."""

    def __init__(self, zone: ZoneInfo, start: datetime) -> None:
        self._zone = zone
        self._latest = (start - _LOOK_BACK).astimezone(zone).replace(tzinfo=None)
        now = start - _LOOK_BACK
        while now < start:
            now += MINUTE
            self.come(now - MINUTE)

    def come(self, now: datetime) -> Sequence[datetime]:
        """Call it for every minute in turn."""
        wall = now.astimezone(self._zone).replace(tzinfo=None)
        if wall - self._latest == MINUTE:
            self._latest = wall
            return (wall,)
        fresh = []
        while self._latest < wall:
            self._latest += MINUTE
            fresh.append(self._latest)
        return fresh


@dataclass(frozen=True)
class Days:
    """What a schedule says, on the wall; no weekdays (Monday is 0) are all of them."""

    times: frozenset[time]
    weekdays: frozenset[int]

    def has(self, come: Sequence[datetime]) -> bool:
        """Whether one of the times that have just come is one of these."""
        return any(
            each.time() in self.times and (not self.weekdays or each.weekday() in self.weekdays) for each in come
        )


def days_of(rule: Mapping[str, Any]) -> Days:
    """Of a rule as the API takes it."""
    names = [str(day) for day in Day]
    weekdays = frozenset(names.index(day) for day in rule.get("days", ()))
    return Days(frozenset(time.fromisoformat(text) for text in rule["times"]), weekdays)


def due_minutes(zone: ZoneInfo, start: datetime, end: datetime, rules: Mapping[str, Days]) -> dict[str, list[datetime]]:
    """For each rule every minute from ``start`` to ``end`` (UTC, both included) at which it has to run."""
    clock, now = WallClock(zone, start), start.astimezone(UTC)
    due: dict[str, list[datetime]] = {name: [] for name in rules}
    all_times = frozenset().union(*(each.times for each in rules.values()))
    while now <= end:
        if come := [each for each in clock.come(now) if each.time() in all_times]:
            for name in rules:
                if rules[name].has(come):
                    due[name].append(now)
        now += MINUTE
    return due

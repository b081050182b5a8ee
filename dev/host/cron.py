"""Schedules of timer triggers: NCronTab expressions, always in UTC.

`{second} {minute} {hour} {day} {month} {day of week}`; with five fields the second is 0. A field is a list of `*`,
values, ranges `a-b`, each with an optional step `/n`; months and days have English names, Sunday is 0.
Day and day of week must both match. Source: "Timer trigger for Azure Functions", NCRONTAB expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
# After this many days every combination of day, month and day of week has come up (29 February on a given week day
# can take 40 years).
_HORIZON_DAYS = 41 * 366


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed expression: the values at which each field matches."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    days_of_week: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Raises ValueError, with the field's name, for what is not an NCronTab expression or never comes due."""
        parts = text.split()
        if len(parts) == 5:
            parts = ["0", *parts]
        if len(parts) != 6:
            raise ValueError(f"'{text}' is not a schedule: it needs six fields, like '0 */5 * * * *'")
        values = [_parse_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
        seconds, minutes, hours = (tuple(sorted(v)) for v in values[:3])
        schedule = cls(text, seconds, minutes, hours, *values[3:])
        schedule.next(datetime(2000, 1, 1, tzinfo=UTC))
        return schedule

    def next(self, after: datetime) -> datetime:
        """The first moment strictly after `after` (both in UTC) at which the schedule is due."""
        moment = after.astimezone(UTC)
        day = moment.date()
        start = moment.time().replace(microsecond=0)
        for _ in range(_HORIZON_DAYS):
            if self._matches(day) and (found := self._first_time(start, inclusive=day != moment.date())):
                return datetime.combine(day, found, UTC)
            day += timedelta(days=1)
            start = time.min
        raise ValueError(f"the schedule '{self.text}' never comes due")

    def _matches(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.days_of_week

    def _first_time(self, start: time, *, inclusive: bool) -> time | None:
        for hour in self.hours:
            if hour < start.hour:
                continue
            for minute in self.minutes:
                if (hour, minute) < (start.hour, start.minute):
                    continue
                for second in self.seconds:
                    candidate = time(hour, minute, second)
                    if candidate > start or (inclusive and candidate == start):
                        return candidate
        return None


def _parse_field(text: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        first, dash, last = span.partition("-")
        try:
            step = int(step_text) if slash else 1
            if span == "*":
                start, end = low, high
            else:
                start = _number(first, names)
                # `5/10` means from 5 to the end in steps of 10
                end = _number(last, names) if dash else (high if slash else start)
        except ValueError:
            raise ValueError(f"'{item}' is not a {name} of a schedule") from None
        if step < 1 or not low <= start <= end <= high:
            raise ValueError(f"'{item}' is not a {name} of a schedule: it must lie between {low} and {high}")
        values.update(range(start, end + 1, step))
    return frozenset(values)


def _number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.upper()[:3]) if text.isalpha() else None
    return int(text) if named is None else named

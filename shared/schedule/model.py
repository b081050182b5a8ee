"""The schedule: on which days, at which times, in which time zone all ready destinations are exported."""

from __future__ import annotations

import re
from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, Field, field_validator

from shared.destinations.requests import Request
from shared.schedule.errors import ScheduleInvalid
from shared.storage.json_documents import JsonDocument

MAX_TIMES: Final = 4
"""Customer Insights allows up to four refreshes a day too."""

_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})


class Day(StrEnum):
    """Days of the week, Monday first."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


def _is_time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError("must be a time of day such as 06:30 (00:00 to 23:59)")
    return text


def _are_different(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must not hold the same value twice")
    return values


Times = Annotated[
    tuple[Annotated[str, AfterValidator(_is_time)], ...],
    Field(min_length=1, max_length=MAX_TIMES),
    AfterValidator(_are_different),
]
Days = Annotated[tuple[Day, ...], Field(max_length=7), AfterValidator(_are_different)]


class ScheduleRequest(Request):
    """A schedule as callers set it. Without days it runs daily."""

    is_active: bool
    time_zone: Annotated[str, Field(min_length=1, max_length=64)]
    days: Days = ()
    times: Times

    @field_validator("is_active", mode="before")
    @classmethod
    def _is_true_or_false(cls, value: object) -> object:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")  # noqa: TRY004 - pydantic collects ValueError only
        return value


class StoredSchedule(JsonDocument):
    """The schedule as it is stored at ``schedule.json`` and answered. ``next_run_at`` is null while it is off."""

    is_active: bool = False
    time_zone: str = "UTC"
    days: tuple[Day, ...] = ()
    times: tuple[str, ...] = ("00:00",)
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None

    def weekdays(self) -> frozenset[int]:
        """The days as Python counts them, Monday is 0."""
        order = list(Day)
        return frozenset(order.index(day) for day in self.days)

    def clock_times(self) -> list[time]:
        return [time.fromisoformat(text) for text in self.times]


def open_zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises ScheduleInvalid."""
    if _ZONE.fullmatch(name) and name not in _NO_ZONES:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, e.g. "America"
            pass
    raise ScheduleInvalid(f"'{name}' is not the IANA name of a time zone.{_suggestion(name)}", "timeZone")


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    by_lower = {zone.lower(): zone for zone in available_timezones() if "/" in zone or zone == "UTC"}
    close = get_close_matches(name.lower().replace(" ", "_"), by_lower, n=2, cutoff=0.75)
    cities = [zone for lower, zone in by_lower.items() if lower.rpartition("/")[2] == name.lower().replace(" ", "_")]
    found = sorted({*cities, *(by_lower[lower] for lower in close)})
    if found:
        return f" Did you mean {' or '.join(repr(zone) for zone in found[:3])}?"
    return " Examples: 'Europe/Berlin', 'America/New_York', 'UTC'."

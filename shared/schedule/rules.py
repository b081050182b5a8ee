"""What a schedule says: daily or weekly, on which days, at which times, in which time zone; and what a destination
makes of it. Plain data that knows nothing of destinations."""

from __future__ import annotations

from datetime import time
from enum import StrEnum
from typing import Literal

from shared.storage.json_documents import JsonDocument


class Day(StrEnum):
    """Days of the week, Monday first."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class Rule(JsonDocument):
    """When something runs, on the clock on the wall of ``time_zone`` (IANA). ``days`` are those of a weekly rule."""

    frequency: Literal["daily", "weekly"] = "daily"
    """Weekly has days."""
    days: tuple[Day, ...] = ()
    """Of a weekly rule; empty means every day."""
    times: tuple[str, ...]
    """One to four, HH:MM, on the clock on the wall in the time zone."""
    time_zone: str
    """An IANA name, e.g. Europe/Berlin."""

    def weekdays(self) -> frozenset[int]:
        """The days as Python counts them, Monday is 0; empty means every day."""
        order = list(Day)
        return frozenset(order.index(day) for day in self.days) if self.frequency == "weekly" else frozenset()

    def clock_times(self) -> list[time]:
        return [time.fromisoformat(text) for text in self.times]


class ScheduleMode(StrEnum):
    """``followSchedule``: with the schedule of all destinations, as long as that one is active."""

    FOLLOW = "followSchedule"
    OWN = "ownSchedule"
    OFF = "off"


class DestinationSchedule(JsonDocument):
    """When one destination is exported by itself; ``rule`` is that of ``ownSchedule``."""

    mode: ScheduleMode = ScheduleMode.FOLLOW
    """With the schedule of all, by its own rule, or not at all."""
    rule: Rule | None = None
    """That of `ownSchedule`; null otherwise."""

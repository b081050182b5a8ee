"""What callers may ask of schedules."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from shared.requests import Request, TrueOrFalse
from shared.schedule.errors import ScheduleInvalid
from shared.schedule.rules import Day, DestinationSchedule, Rule, ScheduleMode
from shared.schedule.zones import open_zone

MAX_TIMES: Final = 4
"""Customer Insights allows up to four refreshes a day too."""

_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


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


class RuleRequest(Request):
    """When something runs. Days make it weekly; ``frequency`` may say so too, and then has to agree."""

    frequency: Literal["daily", "weekly"] | None = None
    """May be left out: days make it weekly."""
    days: Days = ()
    """Of a weekly rule; leave out for every day."""
    times: Times
    """One to four, HH:MM, on the clock on the wall in the time zone."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64)]
    """E.g. Europe/Berlin."""

    def checked(self) -> Rule:
        """The rule with its times and days in order, its time zone by its IANA name. Raises ScheduleInvalid."""
        frequency = self.frequency or ("weekly" if self.days else "daily")
        if (frequency == "weekly") != bool(self.days):
            fault = "A weekly schedule needs days." if not self.days else "A daily schedule takes no days."
            raise ScheduleInvalid(fault, "days")
        return Rule(
            frequency=frequency,
            days=tuple(day for day in Day if day in self.days),
            times=tuple(sorted(self.times)),
            time_zone=open_zone(self.time_zone).key,
        )


class ScheduleRequest(RuleRequest):
    """The schedule of all destinations."""

    is_active: TrueOrFalse
    """False: nothing runs by this schedule."""


class DestinationScheduleRequest(Request):
    """When one destination is exported by itself: with the schedule of all, by its own rule, or not at all."""

    mode: ScheduleMode
    """With the schedule of all, by its own rule, or not at all."""
    rule: RuleRequest | None = None
    """Goes with `ownSchedule`, and only with that."""

    def checked(self) -> DestinationSchedule:
        """Raises ScheduleInvalid."""
        if (self.mode is ScheduleMode.OWN) != (self.rule is not None):
            raise ScheduleInvalid("The mode ownSchedule needs a rule; the other modes take none.", "schedule.rule")
        try:
            return DestinationSchedule(mode=self.mode, rule=self.rule.checked() if self.rule else None)
        except ScheduleInvalid as error:
            raise ScheduleInvalid(str(error), f"schedule.rule.{error.target}") from error

"""When the schedule and each destination run: worked out from what is stored, never stored itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.destinations.model import Destination
from shared.schedule.model import StoredSchedule
from shared.schedule.recurrence import next_run
from shared.schedule.rules import Rule, ScheduleMode
from shared.schedule.zones import open_zone

RUNS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Timetable:
    """A rule, and ``since`` when it counts: what it says of the time before is done with."""

    rule: Rule
    since: datetime

    def first(self) -> datetime:
        """The first run that counts: in the past where it was missed. Always the same one until it is done with."""
        return self._after(self.since)

    def due(self, now: datetime) -> datetime | None:
        """The run that is due at ``now``: the first one missed, however many were; None where none is."""
        first = self.first()
        return first if first <= now else None

    def next_runs(self, now: datetime) -> tuple[datetime, ...]:
        """The runs to come. One that is due comes first, for all that were missed; the others lie after ``now``."""
        runs = [self.first()]
        while len(runs) < RUNS_SHOWN:
            runs.append(self._after(max(runs[-1], now)))
        return tuple(runs)

    def _after(self, moment: datetime) -> datetime:
        return next_run(moment, open_zone(self.rule.time_zone), self.rule.weekdays(), self.rule.clock_times())


def of_schedule(schedule: StoredSchedule, last_run_at: datetime | None) -> Timetable | None:
    """That of all destinations; None while it is off."""
    if not schedule.is_active or schedule.updated_at is None:
        return None
    return Timetable(schedule.rule(), _latest(schedule.updated_at, last_run_at))


def of_destination(
    destination: Destination, schedule: StoredSchedule, last_run_at: datetime | None
) -> Timetable | None:
    """That of one destination; None where nothing is in force, or nothing may run: disabled, or being removed."""
    rule = rule_in_force(destination, schedule)
    if rule is None or not destination.enabled or destination.removal is not None:
        return None
    follows = destination.schedule.mode is ScheduleMode.FOLLOW
    return Timetable(
        rule,
        _latest(
            destination.created_at,
            destination.scheduled_since,
            schedule.updated_at if follows else None,
            last_run_at,
        ),
    )


def rule_in_force(destination: Destination, schedule: StoredSchedule) -> Rule | None:
    """By which rule the destination runs: its own, or that of all while it is active."""
    own = destination.schedule
    if own.mode is ScheduleMode.OWN:
        return own.rule
    return schedule.rule() if own.mode is ScheduleMode.FOLLOW and schedule.is_active else None


def _latest(always: datetime, *others: datetime | None) -> datetime:
    return max([always, *(moment for moment in others if moment is not None)])

"""The schedule of all destinations and what has run by it: as it is stored, and as it is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field

from shared.audit.model import AuditRecord
from shared.schedule.rules import Rule, ScheduleMode
from shared.storage.json_documents import JsonDocument

ALL: Final = "*"
"""Stands for all destinations; the ID of one has letters, digits and hyphens."""


class StoredSchedule(Rule):
    """The schedule as it is stored at ``schedule.json``. ``updated_at``: since when it is as it is; None: never set.

    ``last_change`` is the record of the change that made this version: it is stored with the change, and then copied
    to the audit log.
    """

    is_active: bool = False
    time_zone: str = "UTC"
    times: tuple[str, ...] = ("00:00",)
    updated_at: datetime | None = None
    updated_by: str | None = None
    last_change: AuditRecord | None = None

    def rule(self) -> Rule:
        return Rule.model_validate(self.model_dump(include=set(Rule.model_fields)))


class ScheduleRuns(JsonDocument):
    """When each destination ran last by its schedule, by its ID; stored at ``schedule-runs.json``. Under ``ALL``: when
    the schedule of all destinations did.

    What runs next is not stored. It follows from this, the rule, and since when the rule holds; so a new rule needs no
    second write that a crash could keep from following the first.
    """

    last_run_at: dict[str, datetime] = Field(default_factory=dict)


class ScheduleView(Rule):
    """The schedule of all destinations."""

    is_active: bool
    """False: nothing runs by this schedule."""
    next_runs: tuple[datetime, ...]
    """The next five runs, none while it is off."""
    next_run_at: datetime | None
    """The first of them; null while it is off."""
    last_run_at: datetime | None
    """The last run that was due; null before the first."""
    updated_at: datetime | None
    """When it was changed last; null before the first change."""
    updated_by: str | None
    """Who made the last change."""


class DestinationScheduleView(JsonDocument):
    """When one destination is exported by itself."""

    mode: ScheduleMode
    """What was chosen for it."""
    rule: Rule | None
    """The one in force: its own, or that of all destinations while that one is active; null where none is."""
    next_runs: tuple[datetime, ...]
    """The next five runs, none while no rule is in force or the destination is disabled."""
    next_run_at: datetime | None
    """The first of them."""
    last_run_at: datetime | None
    """Its last run by a schedule; null before the first."""

"""The schedule of all destinations, as it is stored and answered."""

from __future__ import annotations

from datetime import datetime

from shared.schedule.rules import Rule


class StoredSchedule(Rule):
    """The schedule as it is stored at ``schedule.json`` and answered. ``next_run_at`` is null while it is off."""

    is_active: bool = False
    time_zone: str = "UTC"
    times: tuple[str, ...] = ("00:00",)
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None

"""The schedule of all destinations, as it is stored and answered."""

from __future__ import annotations

from datetime import datetime

from shared.schedule.rules import Rule


class StoredSchedule(Rule):
    """The schedule of all destinations."""

    is_active: bool = False
    """False: nothing runs by this schedule."""
    time_zone: str = "UTC"
    """An IANA name, e.g. Europe/Berlin."""
    times: tuple[str, ...] = ("00:00",)
    """On the wall clock, HH:MM; one to four."""
    last_run_at: datetime | None = None
    """The last run that was due; null before the first."""
    next_run_at: datetime | None = None
    """Null while it is off."""
    updated_at: datetime | None = None
    """Of the last change; null before the first."""
    updated_by: str | None = None
    """Who made the last change."""

"""Time zones by name."""

from __future__ import annotations

import re
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from shared.schedule.errors import ScheduleInvalid

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})


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

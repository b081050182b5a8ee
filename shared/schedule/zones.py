"""Time zones by name: IANA's ("Europe/Berlin"), and those of Windows ("W. Europe Standard Time") by Unicode's table."""

from __future__ import annotations

import re
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from shared.schedule.errors import ScheduleInvalid

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})


def open_zone(name: str) -> ZoneInfo:
    """The time zone of that name; its ``key`` is the IANA name. Windows' names are taken whatever their case, as
    Windows takes them; each stands for the zone that CLDR's ``windowsZones`` gives for it worldwide ("001").

    Raises ScheduleInvalid, which suggests what may have been meant.
    """
    if _ZONE.fullmatch(name) and name not in _NO_ZONES:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, e.g. "America"
            pass
    from_windows = _windows_zones().get(name.casefold())
    if from_windows is not None:
        return ZoneInfo(from_windows[1])
    raise ScheduleInvalid(f"'{name}' is not the name of a time zone (IANA or Windows).{_suggestion(name)}", "timeZone")


@cache
def _windows_zones() -> dict[str, tuple[str, str]]:
    """Windows' spelling and the IANA name, by the name without regard to case."""
    # A package's table, because Windows gets new names; read only when somebody uses one.
    from tzlocal.windows_tz import win_tz

    return {name.casefold(): (name, zone) for name, zone in win_tz.items()}


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    iana = {zone.lower(): zone for zone in available_timezones() if "/" in zone or zone == "UTC"}
    windows = {lower: spelled for lower, (spelled, _) in _windows_zones().items()}
    wanted = name.casefold()
    with_standard_time = windows.get(f"{wanted} standard time")
    close = [
        *([with_standard_time] if with_standard_time else []),
        *(zone for lower, zone in iana.items() if lower.rpartition("/")[2] == wanted.replace(" ", "_")),
        *(iana[lower] for lower in get_close_matches(wanted.replace(" ", "_"), iana, n=2, cutoff=0.75)),
        *(windows[lower] for lower in get_close_matches(wanted, windows, n=1, cutoff=0.85)),
    ]
    found = list(dict.fromkeys(close))
    if found:
        return f" Did you mean {' or '.join(repr(zone) for zone in found[:3])}?"
    return " Examples: 'Europe/Berlin', 'America/New_York', 'UTC', 'W. Europe Standard Time'."

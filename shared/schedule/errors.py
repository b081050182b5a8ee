"""Errors of the schedule.

ScheduleError
 ├ ScheduleInvalid   days, times or time zone cannot be kept
 └ ScheduleChanged   somebody else changed it since it was read
"""

from __future__ import annotations


class ScheduleError(Exception):
    """The schedule cannot do what was asked; the message says why."""

    code = "scheduleError"


class ScheduleInvalid(ScheduleError):
    """Raised when a schedule could not be kept, e.g. because of an unknown time zone."""

    code = "scheduleInvalid"

    def __init__(self, message: str, target: str) -> None:
        super().__init__(message)
        self.target = target


class ScheduleChanged(ScheduleError):
    """Raised when the version that the change was made for is no longer the newest."""

    code = "scheduleChanged"

    def __init__(self) -> None:
        super().__init__(
            "Somebody else has changed the schedule in the meantime. Load it again and repeat your change."
        )

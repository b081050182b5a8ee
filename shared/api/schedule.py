"""Routes of the schedule."""

from __future__ import annotations

from fastapi import APIRouter

from shared.api.answers import errors
from shared.api.auth import Administrator, Viewer
from shared.api.services import Services
from shared.schedule.model import StoredSchedule
from shared.schedule.requests import ScheduleRequest


def routes(services: Services) -> APIRouter:
    """The routes of ``/api/schedule``."""
    router = APIRouter(prefix="/api/schedule", tags=["schedule"])

    @router.get("")
    def get_schedule(_: Viewer) -> StoredSchedule:
        """When all ready destinations are exported, and when that happens next."""
        return services.schedule.get()

    @router.put("", responses=errors("scheduleInvalid"))
    def set_schedule(body: ScheduleRequest, user: Administrator) -> StoredSchedule:
        """Replace the schedule. Times are the clock's on the wall of the time zone, across daylight saving."""
        return services.schedule.put(body, user.person)

    return router

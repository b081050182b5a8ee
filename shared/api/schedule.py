"""Routes of the schedule: that of all destinations, and when one of them runs."""

from __future__ import annotations

from fastapi import APIRouter, Response

from shared.api.answers import ETAG, errors, sends
from shared.api.auth import Administrator, Viewer
from shared.api.parameters import DestinationId, IfMatch, etag_wanted
from shared.api.services import Services
from shared.schedule.model import DestinationScheduleView, ScheduleView
from shared.schedule.requests import ScheduleRequest
from shared.schedule.service import AnsweredSchedule


def routes(services: Services) -> APIRouter:
    """The routes of ``/api/schedule``, and of the schedule under its destination."""
    router = APIRouter(prefix="/api", tags=["schedule"])

    @router.get("/schedule", responses={200: sends(ETAG)})
    def get_schedule(_: Viewer, response: Response) -> ScheduleView:
        """When the destinations that follow the schedule are exported: the next five runs. Its ETag is for If-Match."""
        return _answer(services.schedule.get(), response)

    @router.put("/schedule", responses={200: sends(ETAG), **errors("scheduleInvalid", "scheduleChanged")})
    def set_schedule(
        body: ScheduleRequest, user: Administrator, response: Response, if_match: IfMatch = None
    ) -> ScheduleView:
        """Replace the schedule. Times are those of the clock on the wall in the time zone, in summer and in winter."""
        return _answer(services.schedule.put(body, user.person, etag_wanted(if_match)), response)

    @router.get("/destinations/{destinationId}/schedule", responses={200: sends(ETAG), **errors("destinationNotFound")})
    def get_destination_schedule(
        destination_id: DestinationId, _: Viewer, response: Response
    ) -> DestinationScheduleView:
        """When one destination is exported by itself: by which rule, and the next five runs.

        Set it with PATCH of the destination, whose ETag this answers.
        """
        stored = services.destinations.get(destination_id)
        response.headers["ETag"] = stored.etag
        return services.schedule.of(stored.destination)

    return router


def _answer(found: AnsweredSchedule, response: Response) -> ScheduleView:
    response.headers["ETag"] = found.etag
    return found.view

"""Routes of exports: start, follow, look back, cancel, resume, download the rejected profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from fastapi import Request as HttpRequest

from shared.api.answers import OPERATION_LOCATION, RETRY_AFTER, errors, sends
from shared.api.auth import Contributor, Principal, Role, Viewer, is_open, may, open_destination, require_role
from shared.api.paging import DEFAULT_TOP, After, Page, Top, cut_page, decode
from shared.api.parameters import ID_PATTERN, DestinationId, ExportId, From, IdempotencyKey, To, request_key
from shared.api.services import Services
from shared.destinations.errors import DestinationBeingRemoved, DestinationNotFound
from shared.exports.history import ExportFilter
from shared.exports.model import Status, Trigger
from shared.exports.view import ExportView
from shared.requests import Request
from shared.schedule.run_all import SkippedDestination, start_all
from shared.storage.json_documents import JsonDocument

_POLL_SECONDS = {Status.WAITING: 15}
_POLL_SECONDS_DEFAULT = 2


class StartRequest(Request):
    """Nothing: what is exported is the destination's configuration."""


class ExportList(Page):
    """A page of exports, the newest first."""

    value: list[ExportView]
    """The newest first."""


class StartedExports(JsonDocument):
    """What "export all" has started, and why it left out the others."""

    started: list[ExportView]
    """Those that began now, or were begun by the same Idempotency-Key."""
    skipped: list[SkippedDestination]
    """Those that were left out."""


NoBody = Annotated[StartRequest | None, Body()]
StatusFilter = Annotated[Sequence[Status], Query(description="Any of these; may be given several times.")]


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/exports``, and the start of an export under its destination."""
    router = APIRouter(prefix="/api", tags=["exports"])
    exports = services.exports
    public_url = services.settings.public_url

    def follow(export: ExportView, response: Response) -> ExportView:
        response.headers["Operation-Location"] = f"{public_url}/api/exports/{export.id}"
        if not export.ended:
            response.headers["Retry-After"] = str(_POLL_SECONDS.get(export.status, _POLL_SECONDS_DEFAULT))
        return export

    @router.post(
        "/destinations/{destinationId}/exports",
        status_code=202,
        responses={
            202: sends(OPERATION_LOCATION, RETRY_AFTER),
            **errors(
                "notShared", "destinationNotFound", "destinationBeingRemoved", "destinationNotReady", "exportRunning"
            ),
        },
    )
    def start_export(
        destination_id: DestinationId,
        user: Contributor,
        response: Response,
        idempotency_key: IdempotencyKey = None,
        _: NoBody = None,
    ) -> ExportView:
        """Export one destination now. Follow the address in Operation-Location until the export has ended."""
        destination = open_destination(services.destinations, destination_id, user)
        if destination.removal is not None:
            raise DestinationBeingRemoved(destination_id)
        export = exports.start(
            destination,
            trigger="onDemand",
            requested_by=user.person,
            idempotency_key=request_key(idempotency_key),
        )
        return follow(export, response)

    @router.post("/exports", status_code=202)
    def start_all_exports(
        user: Contributor, idempotency_key: IdempotencyKey = None, _: NoBody = None
    ) -> StartedExports:
        """Export all destinations that are ready and have no export running; for a contributor, those given to them."""
        started = start_all(
            [each for each in services.destinations.list() if is_open(each, user)],
            exports,
            trigger="onDemand",
            requested_by=user.person,
            idempotency_key=request_key(idempotency_key),
        )
        return StartedExports(started=started.exports, skipped=started.skipped)

    @router.get("/exports")
    def list_exports(
        _: Viewer,
        request: HttpRequest,
        destination_id: Annotated[
            str | None, Query(alias="destinationId", pattern=ID_PATTERN, description="Only those of this destination.")
        ] = None,
        status: StatusFilter = (),
        trigger: Annotated[Trigger | None, Query(description="What started it.")] = None,
        created_from: From = None,
        created_to: To = None,
        top: Top = DEFAULT_TOP,
        after: After = None,
    ) -> ExportList:
        """The history of exports, the newest first: who started them, what was read, what became of it."""
        wanted = ExportFilter(destination_id, frozenset(status), trigger, created_from, created_to)
        behind = decode(after, 1)
        found = exports.list(wanted, before=behind[0] if behind else None, top=top + 1)
        cut = cut_page(found, lambda each: (each.id,), top=top, request=request, public_url=public_url)
        return ExportList(value=cut.items, next_link=cut.next_link)

    @router.get(
        "/exports/{exportId}",
        responses={200: sends(OPERATION_LOCATION, RETRY_AFTER), **errors("exportNotFound")},
    )
    def get_export(export_id: ExportId, _: Viewer, response: Response) -> ExportView:
        """Status, progress, time left and books of one export. Ask again after Retry-After seconds."""
        return follow(exports.get(export_id), response)

    @router.post(
        "/exports/{exportId}/cancel",
        status_code=202,
        responses={
            202: sends(OPERATION_LOCATION, RETRY_AFTER),
            **errors("notShared", "exportNotFound", "exportEnded"),
        },
    )
    def cancel_export(export_id: ExportId, user: Contributor, response: Response, _: NoBody = None) -> ExportView:
        """End an export early. Calls under way are completed, at most one on each connection; its books are closed."""
        _require_given(services, exports.get(export_id), user)
        return follow(exports.cancel(export_id, user.person), response)

    @router.post(
        "/exports/{exportId}/resume",
        status_code=202,
        responses={
            202: sends(OPERATION_LOCATION, RETRY_AFTER),
            **errors(
                "notShared",
                "exportNotFound",
                "destinationNotFound",
                "destinationBeingRemoved",
                "destinationNotReady",
                "exportRunning",
                "exportNotEnded",
                "nothingToResume",
                "resumeExpired",
                "alreadyResumed",
                "resumeTargetChanged",
                "newerExportSent",
            ),
        },
    )
    def resume_export(
        export_id: ExportId,
        user: Contributor,
        response: Response,
        idempotency_key: IdempotencyKey = None,
        _: NoBody = None,
    ) -> ExportView:
        """Send the rest of a failed or canceled export, with a new export: follow that one."""
        earlier = exports.get(export_id)
        _require_given(services, earlier, user)
        destination = services.destinations.get(earlier.destination_id).destination
        if destination.removal is not None:
            raise DestinationBeingRemoved(destination.id)
        export = exports.resume(
            export_id, destination, requested_by=user.person, idempotency_key=request_key(idempotency_key)
        )
        return follow(export, response)

    @router.get(
        "/exports/{exportId}/rejected",
        response_class=Response,
        responses={
            200: {
                "description": "The rejected profiles, one a row; UTF-8 with a byte order mark.",
                "content": {"text/csv": {"schema": {"type": "string"}}},
                **sends("Content-Disposition"),
            },
            **errors("notShared", "exportNotFound", "rejectedNotReady", "rejectedExpired"),
        },
    )
    def get_rejected_profiles(export_id: ExportId, user: Contributor) -> Response:
        """The profiles that were not taken, with the reason, as CSV. Personal data: not for viewers."""
        _require_given(services, exports.get(export_id), user)
        return Response(
            exports.rejected(export_id),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="rejected-{export_id}.csv"'},
        )

    return router


def _require_given(services: Services, export: ExportView, user: Principal) -> None:
    """A contributor reaches an export through its destination; those of removed ones are the administrators'."""
    if may(user, Role.ADMINISTRATOR):
        return
    try:
        open_destination(services.destinations, export.destination_id, user)
    except DestinationNotFound:
        require_role(user, Role.ADMINISTRATOR, "An export of a removed destination")

"""What the API needs from the rest of the product, put together by the composition place."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from shared.audit.log import AuditLog
from shared.destinations.authorization import Authorizations
from shared.destinations.connections import Connections
from shared.destinations.model import Destination
from shared.destinations.readiness import ReadinessReports
from shared.destinations.removal import Removals
from shared.destinations.service import DestinationService
from shared.exports.history import ExportFilter
from shared.exports.suppressed import Suppressed
from shared.exports.view import ExportView
from shared.people import Person
from shared.schedule.service import ScheduleService
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.segments.catalog import SegmentDetail, SegmentSummary


class Segments(Protocol):
    """The segments as the API sees them: ``shared.segments.catalog.SegmentCatalog``."""

    def list(self) -> list[SegmentSummary]: ...

    def describe(self, name: str) -> SegmentDetail: ...


class Exports(Protocol):
    """The export engine as the API sees it: ``shared.exports.service.ExportService``."""

    def start(
        self,
        destination: Destination,
        *,
        trigger: Literal["onDemand", "scheduled"],
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView: ...

    def resume(
        self,
        export_id: str,
        destination: Destination,
        *,
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView: ...

    def get(self, export_id: str) -> ExportView: ...

    def list(self, wanted: ExportFilter = ..., *, before: str | None = None, top: int = 50) -> list[ExportView]: ...

    def cancel(self, export_id: str, requested_by: Person) -> ExportView: ...

    def rejected(self, export_id: str) -> bytes: ...


def _new_request_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Services:
    """``readiness``: by name, whether something the app needs answers; called by GET /api/ready."""

    settings: Settings
    destinations: DestinationService
    connections: Connections
    authorizations: Authorizations
    removals: Removals
    readiness_reports: ReadinessReports
    exports: Exports
    suppressed: Suppressed
    segments: Segments
    schedule: ScheduleService
    audit: AuditLog
    readiness: Mapping[str, Callable[[], bool]]
    new_request_id: Callable[[], str] = field(default=_new_request_id)

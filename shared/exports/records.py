"""The audit records of exports: started, asked to cancel, ended, skipped.

Each is made from what the export's document says, the time included, so whoever writes it again after a crash writes
the same record under the same ID. Books are counts: no profile is in a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord, Change, record_id
from shared.exports.model import Export, Status
from shared.people import Person

_STARTED: Final = "started"
_CANCEL_REQUESTED: Final = "cancelRequested"
_ENDED: Final = "ended"
_SKIPPED: Final = "skipped"


class ExportRecords:
    """Writes the records of exports into the audit log."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def started(self, export: Export) -> None:
        self._append(export, _STARTED, export.created_at, export.requester, _what_is_exported(export))

    def cancel_requested(self, export: Export) -> None:
        """Nothing, where the export stops for another reason than that somebody asked it to."""
        if export.stop is not None and export.stop.by is not None:
            self._append(export, _CANCEL_REQUESTED, export.stop.at, export.stop.by, ())

    def ended(self, export: Export) -> None:
        """The end, or that it was skipped; and whatever comes before it, should that be missing."""
        if export.ended_at is None:
            return
        was_started = export.status is not Status.SKIPPED or export.started_at is not None
        if was_started:
            self.started(export)
        self.cancel_requested(export)
        end = [
            _told("status", export.status),
            _told("books", export.books.model_dump(mode="json", by_alias=True)),
            _told("problem", export.problem.code if export.problem else None),
        ]
        about = end if was_started else [*_what_is_exported(export), *end]
        action = _SKIPPED if export.status is Status.SKIPPED else _ENDED
        self._append(export, action, export.ended_at, export.requester, about)

    def _append(self, export: Export, action: str, at: datetime, who: Person, changes: Sequence[Change]) -> None:
        self._audit.append(
            AuditRecord(
                id=record_id(at, f"{export.id}-{action}"),
                at=at,
                who=who,
                action=f"export.{action}",
                target_type="export",
                target_id=export.id,
                target_name=export.destination_name,
                changes=list(changes),
            )
        )


def _what_is_exported(export: Export) -> list[Change]:
    resumed = [_told("resumes", export.resumes)] if export.resumes is not None else []
    return [_told("destinationId", export.destination_id), _told("trigger", export.trigger), *resumed]


def _told(name: str, value: Any) -> Change:
    return Change(property=name, after=value)

"""What it takes to resume an export: a new one sends what the earlier one has no result for.

The earlier one keeps its prepared bodies for ``RESUMABLE_FOR``. A new export ``resumes`` it; where it had a plan the
new one ``continues`` that plan, else it reads the segments like any other. An export that failed before it had a plan
of its own passes on what it was to continue. The earlier one is marked as ``resumed_by`` the new one once that has the
destination's place, so it is only ever resumed by one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shared.destinations.model import Destination
from shared.exports.closed_books import read_closed_books
from shared.exports.errors import (
    AlreadyResumed,
    ExportNotEnded,
    NewerExportSent,
    NothingToResume,
    ResumeExpired,
    ResumeTargetChanged,
)
from shared.exports.history import ExportFilter, History
from shared.exports.model import Books, Export, Plan, Status
from shared.exports.store import ExportStore

RESUMABLE_FOR: Final = timedelta(days=7)

_NEVER_AGAIN: Final = frozenset({"destinationRemoved", "consentWithdrawn"})
"""Reasons for an end after which nothing is kept."""


def resumable_until(
    store: ExportStore, export: Export, plan: Plan | None, books: Books, at: datetime, keep_for: timedelta
) -> datetime | None:
    """Until when ``export``, which is to end now, can be resumed; None if there is nothing to, or it must not be."""
    stop = export.stop
    if stop is None or stop.status is Status.SKIPPED or stop.problem.code in _NEVER_AGAIN:
        return None
    if plan is not None:
        return at + keep_for if books.not_sent else None
    if export.continues is not None:
        continued = store.find(export.continues)
        return continued.resumable_until if continued else None
    return at + keep_for


def is_resumable(export: Export, now: datetime) -> bool:
    """Whether it can be resumed, as far as it is up to the export itself."""
    return export.resumed_by is None and export.resumable_until is not None and now < export.resumable_until


def check_resumable(store: ExportStore, export: Export, destination: Destination, now: datetime) -> Export | None:
    """The export whose plan is to be continued; None where the segments are read. Raises an ExportError that says why
    ``export`` cannot be resumed."""
    if not export.ended:
        raise ExportNotEnded(export.id)
    if export.resumed_by is not None:
        raise AlreadyResumed(export.id, export.resumed_by)
    plan = store.plan(export.id)
    if not is_resumable(export, now):
        stopped = export.status in {Status.FAILED, Status.CANCELED}
        if not stopped or (plan is not None and not export.books.not_sent and not export.books.imbalances()):
            raise NothingToResume(export.id, export.status)
        raise ResumeExpired(export.id, RESUMABLE_FOR.days)
    continued = export.id if plan is not None else export.continues
    if continued is None:
        return None
    found, plan = store.find(continued), plan or store.plan(continued)
    if found is None or plan is None:
        raise ResumeExpired(export.id, RESUMABLE_FOR.days)
    if not is_same_target(plan, destination):
        raise ResumeTargetChanged(export.id)
    newer = newer_that_sent(store, found)
    if newer is not None:
        raise NewerExportSent(export.id, newer)
    return found


def is_same_target(plan: Plan, destination: Destination) -> bool:
    """Whether the destination still leads to the account and the audience of ``plan``."""
    return destination.target == (plan.account_id, plan.audience_id)


def newer_that_sent(store: ExportStore, export: Export, but: str | None = None) -> str | None:
    """The ID of an export of the destination, other than ``but``, that was started after ``export`` and has sent
    something: its data are newer, and sending those of ``export`` would set people back."""
    wanted = ExportFilter(destination_id=export.destination_id, created_from=export.created_at)
    for found in History(store.documents).newest_first(wanted):
        if found.id > export.id and found.id != but and found.books.sent:
            return found.id
    return None


def mark_resumed(store: ExportStore, export: Export) -> str:
    """Note at the export that ``export`` resumes that it does; returns the ID of the one that is noted there."""

    def mark(earlier: Export) -> None:
        earlier.resumed_by = earlier.resumed_by or export.id

    earlier = store.change(export.resumes, mark) if export.resumes is not None else None
    return export.id if earlier is None or earlier.resumed_by is None else earlier.resumed_by


def is_being_resumed(store: ExportStore, export: Export) -> bool:
    """Whether one that resumes ``export``, or one that resumes that, has not ended yet: it may read the bodies."""
    resumed_by = export.resumed_by
    while resumed_by is not None:
        found = store.find(resumed_by)
        if found is None:
            return False
        if not found.ended:
            return True
        resumed_by = found.resumed_by
    return False


def arrived_before(store: ExportStore, export: Export) -> bool:
    """Whether nobody is due again of those whom the exports sent that ``export`` continues."""
    continues = export.continues
    while continues is not None:
        earlier, closed = store.find(continues), read_closed_books(store.documents, continues)
        if earlier is None or closed is None or not closed.nobody_is_due:
            return False
        continues = earlier.continues
    return True

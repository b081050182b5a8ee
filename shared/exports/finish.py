"""Ends an export: folds the results into the books, writes the rejected profiles and the ledger, sets the last status.

Everything is computed from blobs that no longer change, so it may run again at any point and comes to the same end. The
books are created once; the first ones stay.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from shared import log, telemetry
from shared.destinations.store import DestinationStore
from shared.exports.closed_books import ClosedBooks, read_closed_books
from shared.exports.ledger import write_ledger
from shared.exports.messages import ExportMessage
from shared.exports.model import (
    BatchResult,
    Books,
    Export,
    Plan,
    Problem,
    RejectedRow,
    Status,
    Tally,
    seconds_between,
)
from shared.exports.places import Places
from shared.exports.records import ExportRecords
from shared.exports.refusals import Outcome, Refusals
from shared.exports.rejected import write_none_rejected, write_rejected
from shared.exports.resume import arrived_before, resumable_until
from shared.exports.signals import Signals
from shared.exports.store import ExportStore, RecordedResult
from shared.exports.unchanged import remember_success
from shared.storage import names
from shared.storage.documents import AlreadyExists
from shared.storage.leases import HeldLease, LeaseLost, Leases

_READS_AT_ONCE: Final = 8
_AT_ONCE: Final = 2
"""Exports whose lists one process writes at a time, like those that it prepares (shared/exports/prepare.py)."""


@dataclass(frozen=True, slots=True)
class FinishTools:
    """What finish needs from outside."""

    store: ExportStore
    destinations: DestinationStore
    leases: Leases
    records: ExportRecords
    refusals: Refusals
    signals: Signals
    now: Callable[[], datetime]


class Finisher:
    """Finishes exports whose lanes have ended, or that never had any."""

    def __init__(self, tools: FinishTools, *, max_connections: int, resumable_for: timedelta) -> None:
        self._tools = tools
        self._resumable_for = resumable_for
        self._max_connections = max_connections
        self._places = Places(_AT_ONCE)

    def finish(self, message: ExportMessage) -> None:
        """End the export, unless it has ended, or lanes are still sending (then the last of them asks again)."""
        export_id = message.export_id
        store = self._tools.store
        with self._tools.leases.take(names.active(export_id), create=False) as lease:
            if lease is None:
                return
            export = store.find(export_id)
            plan = store.plan(export_id)
            if export is None or (plan is None and export.stop is None and not export.ended):
                return
            if plan is not None and not export.ended and self._open_lanes(export, plan):
                return
            if not export.ended:
                try:
                    export = self._close(export_id, plan, lease)
                except LeaseLost:  # while it waited for its place: the sweeper has it finished
                    log.warning("finish.leaseLost", export=export_id)
                    return
        if export is not None:
            self._clean_up(export, plan)

    def _open_lanes(self, export: Export, plan: Plan) -> set[int]:
        """The lanes that may still send for the export. If it is to stop, those that nobody holds are ended here: they
        may rest until Mailchimp is back, and the export need not wait for that."""
        store = self._tools.store
        open_lanes = set(plan.lanes) - store.ended_lanes(export.id)
        if export.stop is not None:
            for lane in sorted(open_lanes):
                with self._tools.leases.take(names.lane(plan.account_id, lane % self._max_connections)) as lease:
                    if lease is not None:
                        store.end_lane(export.id, lane)
                        open_lanes.remove(lane)
        return open_lanes

    def give_up(self, export_id: str, problem: Problem) -> None:
        """End an export whose finishing failed again and again: without books, but with the reason."""

        def show(export: Export) -> None:
            export.problem = problem
            export.ended_at = self._tools.now()

        found = self._tools.store.move(export_id, Status.FINISHING)
        export = self._tools.store.move(export_id, Status.FAILED, show)
        if found is not None and export is not None:
            if not found.ended:  # else only its clean-up failed
                _log_end(export)
            self._clean_up(export, self._tools.store.plan(export_id))

    # -- the end -------------------------------------------------------------------------------------------------

    def _close(self, export_id: str, plan: Plan | None, lease: HeldLease) -> Export | None:
        store = self._tools.store
        export = store.move(export_id, Status.FINISHING)
        if export is None:
            return None
        closed = self._books(export, plan, lease) if plan is not None else None
        if closed is None:
            write_none_rejected(store.documents, export_id)
        books = closed.books if closed else export.books
        imbalances = books.imbalances()
        if imbalances:
            log.error("export.booksDoNotBalance", export=export_id, equations="; ".join(imbalances))

        ended_at = self._tools.now()
        kept_until = resumable_until(store, export, plan, books, ended_at, self._resumable_for)

        def show(newest: Export) -> None:
            newest.books = books
            newest.ended_at = ended_at
            newest.resumable_until = None if imbalances else kept_until
            newest.problem = export.stop.problem if export.stop else None
            if imbalances:
                newest.problem = _unbalanced(imbalances)
            if closed is not None:
                newest.calls, newest.resent_batches = closed.tally.calls, closed.tally.resent
                newest.repaired_tags, newest.untagged = closed.tally.repaired_tags, closed.tally.untagged
                newest.rejected_reasons = closed.rejected_reasons
                newest.contact_statuses = closed.tally.statuses

        untagged = closed.tally.untagged if closed else 0
        status = _last_status(export, books, untagged, balanced=not imbalances)
        succeeded = status in {Status.SUCCESSFUL, Status.COMPLETED_WITH_ERRORS}
        all_arrived = closed is not None and closed.all_arrived and arrived_before(store, export)
        if closed is not None and all_arrived and succeeded and self._is_there(export.destination_id):
            remember_success(store, export, closed.left_out)
        ended = store.move(export_id, status, show)
        if ended is not None:
            _log_end(ended)
        return ended

    def _books(self, export: Export, plan: Plan, lease: HeldLease) -> ClosedBooks:
        store = self._tools.store
        found = read_closed_books(store.documents, plan.export_id)
        if found is not None:
            return found
        results = list(store.recorded(plan.export_id))
        tally = Tally()
        for result in results:
            tally.add(result.tally)
        sent = [result.batch for result in results]
        rejected = self._rejected([result for result in results if result.tally.rejected])
        left_out = None
        with self._places.take(lease.check), tempfile.TemporaryDirectory(prefix="finish-") as folder:
            work_dir = Path(folder)
            members = work_dir / "members.parquet"
            store.documents.download(names.members(plan.export_id, plan.attempt), members)
            write_rejected(store.documents, export, plan, rejected, members, work_dir)
            if self._is_there(plan.destination_id):
                write_ledger(store.documents, plan, sent, rejected, members, work_dir)
                outcome = Outcome(members, sent, rejected, export.sending_at or self._tools.now())
                left_out = self._tools.refusals.fold_in(plan, outcome)
        closed = ClosedBooks(
            books=plan.books_with(tally),
            tally=tally,
            rejected_reasons=dict(Counter(row.code for _, row in rejected).most_common()),
            retryable=sum(row.retryable for _, row in rejected),
            left_out=left_out,
            batches=sorted(sent),
        )
        with suppress(AlreadyExists):
            store.documents.create(names.books(plan.export_id), closed.to_bytes())
            return closed
        return read_closed_books(store.documents, plan.export_id) or closed

    def _is_there(self, destination_id: str) -> bool:
        """Whether the destination is to keep a ledger. One that is being removed is: the removal waits for this export
        and takes the tags away by the ledger. One that is gone is not."""
        return self._tools.destinations.find(destination_id) is not None

    def _rejected(self, results: Sequence[RecordedResult]) -> Sequence[tuple[int, RejectedRow]]:
        """The refused rows, each with its batch. Only results that have some are opened."""
        documents = self._tools.store.documents
        with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="results") as pool:
            opened = [
                BatchResult.from_bytes(found.data)
                for found in pool.map(documents.read, (result.name for result in results))
                if found is not None
            ]
        return [(result.batch, row) for result in opened for row in result.rejected]

    def _clean_up(self, export: Export, plan: Plan | None) -> None:
        """Put its end on record, delete the prepared bodies (they hold profiles) unless it can be resumed, and take the
        export off the lists of what is going on."""
        self._tools.records.ended(export)
        documents = self._tools.store.documents
        if plan is not None:
            documents.delete(names.open_export(plan.account_id, plan.export_id))
        found = self._tools.destinations.find(export.destination_id)
        is_there = found is not None and found.destination.removal is None
        if not is_there or plan is None or export.resumable_until is None:
            documents.delete_all(names.all_batches(export.id))
        if not is_there:
            self._tools.signals.removal(export.destination_id)  # it waits for this, or went without knowing of it
        self._tools.store.take_off_list(export.id)


def _log_end(export: Export) -> None:
    """The one line from which alerts and the workbook of infra/ know an export: counts, never profiles."""
    for outcome, profiles in export.books.outcomes().items():
        telemetry.count(telemetry.PROFILES, profiles, outcome=outcome)
    began = export.started_at or export.created_at
    log.event(
        "export.ended",
        export=export.id,
        destination=export.destination_id,
        trigger=export.trigger,
        status=export.status,
        problem=export.problem.code if export.problem else None,
        seconds=round(seconds_between(began, export.ended_at), 1) if export.ended_at else None,
        calls=export.calls,
        **export.books.model_dump(by_alias=True),
    )


def _last_status(export: Export, books: Books, untagged: int, *, balanced: bool) -> Status:
    if not balanced:
        return Status.FAILED
    if export.stop is not None:
        return Status(export.stop.status)
    incomplete = books.invalid or books.rejected or books.not_sent or untagged
    return Status.COMPLETED_WITH_ERRORS if incomplete else Status.SUCCESSFUL


def _unbalanced(imbalances: Sequence[str]) -> Problem:
    return Problem(
        code="booksDoNotBalance",
        message=f"The profiles could not all be accounted for: {'; '.join(imbalances)}.",
        action="This is a defect of the app. Export again, and give the export's ID to your administrator.",
    )

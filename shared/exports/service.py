"""What the API and the schedule ask of exports: start, look, cancel, fetch the rejected profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Literal

from shared import log
from shared.destinations.model import Destination
from shared.exports.errors import (
    DestinationNotReady,
    ExportEnded,
    ExportNotFound,
    ExportRunning,
    RejectedExpired,
    RejectedNotReady,
)
from shared.exports.model import MEMBERS_PER_BATCH, Export, Plan, Problem, Status, Stop
from shared.exports.signals import Signals
from shared.exports.store import CurrentExport, ExportStore
from shared.exports.view import ExportView, Progress, view_of
from shared.people import Person
from shared.storage import names
from shared.storage.documents import AlreadyExists


class ExportService:
    """Starts exports and tells about them."""

    def __init__(
        self,
        store: ExportStore,
        signals: Signals,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._signals = signals
        self._now = now
        self._new_id = new_id

    # -- start ---------------------------------------------------------------------------------------------------

    def start(
        self,
        destination: Destination,
        *,
        trigger: Literal["onDemand", "scheduled"],
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView:
        """Start an export, or return the one that the same key started before.

        The export is written before it takes the destination's place, and the place is taken before the message is
        sent: after a crash in between, the sweeper completes or ends what is there. Raises DestinationNotReady and
        ExportRunning.
        """
        export_id = self._export_id(destination.id, idempotency_key)
        known = self._store.find(export_id)
        if known is not None:
            return self._view(known)
        steps = destination.missing_steps()
        if steps:
            raise DestinationNotReady(steps)
        running = self._store.running(destination.id)
        if running is not None and running != export_id:
            raise ExportRunning(running)
        export = Export(
            id=export_id,
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            requested_by_id=requested_by.id,
            created_at=self._now(),
        )
        self._store.create(export)
        holder = self._store.claim(destination.id, export_id)
        if holder != export_id:
            self._store.withdraw(export_id)
            raise ExportRunning(holder)
        self._signals.prepare(export_id)
        log.event("export.queued", export=export_id, destination=destination.id, trigger=trigger)
        return self.get(export_id)

    def _export_id(self, destination_id: str, idempotency_key: str | None) -> str:
        """A new ID, or the one that ``idempotency_key`` stands for at this destination. IDs sort by time."""
        new = f"{self._now():%Y%m%dT%H%M%S%fZ}-{self._new_id()}"
        if idempotency_key is None:
            return new
        name = names.idempotency(destination_id, hashlib.sha256(idempotency_key.encode()).hexdigest())
        with suppress(AlreadyExists):
            self._store.documents.create(name, CurrentExport(export_id=new).to_bytes())
            return new
        found = self._store.documents.read(name)
        return CurrentExport.from_bytes(found.data).export_id if found else new

    # -- look ----------------------------------------------------------------------------------------------------

    def get(self, export_id: str) -> ExportView:
        """The export as it stands. Raises ExportNotFound."""
        return self._view(self._find(export_id))

    def list(
        self, *, destination_id: str | None = None, status: Status | None = None, top: int = 50
    ) -> list[ExportView]:
        """The newest exports first, at most ``top``; without progress, which costs a listing each."""
        found: list[ExportView] = []
        for export_id in self._store.newest():
            if len(found) >= top:
                break
            export = self._store.find(export_id)
            if export is None or (destination_id is not None and export.destination_id != destination_id):
                continue
            if status is None or export.status is status:
                found.append(view_of(export, None, self._now()))
        return found

    def rejected(self, export_id: str) -> bytes:
        """The rejected profiles as CSV. Raises ExportNotFound, RejectedNotReady and RejectedExpired."""
        export = self._find(export_id)
        if not export.ended:
            raise RejectedNotReady(export_id)
        found = self._store.documents.read(names.rejected(export_id))
        if found is None:
            raise RejectedExpired(export_id)
        return found.data

    def _find(self, export_id: str) -> Export:
        export = self._store.find(export_id)
        if export is None:
            raise ExportNotFound(export_id)
        return export

    def _view(self, export: Export) -> ExportView:
        plan = None if export.ended else self._store.plan(export.id)
        if plan is None:
            return view_of(export, None, self._now())
        return self._live_view(export, plan)

    def _live_view(self, export: Export, plan: Plan) -> ExportView:
        """Progress and books so far, as the lanes told them last."""
        tally = self._store.progress(export.id)
        elapsed = (self._now() - export.sending_at).total_seconds() if export.sending_at else 0.0
        speed = tally.rows / elapsed if elapsed > 0 and tally.rows else None
        waits = export.status is Status.WAITING
        progress = Progress(
            members_done=tally.rows,
            members_total=plan.members,
            percent=round(100 * tally.rows / plan.members, 1) if plan.members else 100.0,
            members_per_second=round(speed, 1) if speed else None,
            seconds_left=round((plan.members - tally.rows) / speed, 1) if speed and not waits else None,
            batches_done=tally.batches,
            batches_total=-(-plan.members // MEMBERS_PER_BATCH),
        )
        live = export.model_copy(
            update={
                "books": plan.books_with(tally),
                "calls": tally.calls,
                "resent_batches": tally.resent,
                "repaired_tags": tally.repaired_tags,
                "untagged": tally.untagged,
            }
        )
        return view_of(live, progress, self._now())

    # -- stop ----------------------------------------------------------------------------------------------------

    def cancel(self, export_id: str, requested_by: Person) -> ExportView:
        """Ask the export to end as Canceled; batches under way are completed. Raises ExportNotFound, ExportEnded."""
        export = self._find(export_id)
        if export.ended:
            raise ExportEnded(export_id, export.status)
        self._stop(export_id, Problem(code="canceled", message=f"Canceled by {requested_by.name}."))
        return self.get(export_id)

    def stop_for_destination(self, destination_id: str, reason: str, code: str = "destinationRemoved") -> None:
        """Ask the destination's running export, if there is one, to end as Canceled because of ``reason``."""
        running = self._store.running(destination_id)
        if running is not None:
            self._stop(running, Problem(code=code, message=reason))

    def running_of(self, destination_id: str) -> str | None:
        """The ID of the destination's running export, if there is one."""
        return self._store.running(destination_id)

    def erase_data(self, destination_id: str) -> int:
        """Delete the profiles of all ended exports of the destination; the exports themselves stay in the history.

        Returns of how many exports there was something to delete.
        """
        erased = 0
        for export_id in list(self._store.newest()):
            export = self._store.find(export_id)
            if export is not None and export.destination_id == destination_id and export.ended:
                erased += bool(self._store.documents.delete_all(names.run(export_id)))
        return erased

    def _stop(self, export_id: str, problem: Problem) -> None:
        self._store.request_stop(export_id, Stop(status=Status.CANCELED, problem=problem, at=self._now()))
        self._signals.finish(export_id)  # an export that is not being sent ends at once; else the last lane ends it
        log.event("export.stopRequested", export=export_id, code=problem.code)

"""What the API and the schedule ask of exports: start, skip, resume, look, cancel, fetch the rejected profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Final

from shared import log, trace
from shared.destinations.model import Destination
from shared.exports import workflow
from shared.exports.errors import (
    AlreadyResumed,
    DestinationNotReady,
    ExportEnded,
    ExportNotFound,
    ExportRunning,
    RejectedExpired,
    RejectedNotReady,
)
from shared.exports.history import ExportFilter, History
from shared.exports.model import ENDED, Export, Plan, Problem, Status, Stop, Trigger, new_id, time_of
from shared.exports.pace import Paces
from shared.exports.records import ExportRecords
from shared.exports.rejected_header import NONE_REJECTED
from shared.exports.resume import check_resumable, mark_resumed
from shared.exports.signals import Signals
from shared.exports.store import CurrentExport, ExportStore
from shared.exports.view import ExportView, PaceView, Progress, view_of
from shared.exports.waiting import next_try_at
from shared.people import Person
from shared.storage import names
from shared.storage.documents import AlreadyExists

_ERASES_AT_ONCE: Final = 8
_EVERYTHING: Final = ExportFilter()


class ExportService:
    """Starts exports and tells about them."""

    def __init__(
        self,
        store: ExportStore,
        signals: Signals,
        records: ExportRecords,
        paces: Paces,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._history = History(store.documents)
        self._signals = signals
        self._records = records
        self._paces = paces
        self._now = now
        self._new_id = new_id

    # -- start ---------------------------------------------------------------------------------------------------

    def start(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView:
        """Start an export, or return the one that the same key started before.

        The export is written before it takes the destination's place, and the place is taken before the message is
        sent: after a crash in between, the sweeper completes or ends what is there. Raises DestinationNotReady and
        ExportRunning; a refused start uses up no key.
        """
        reserved = self._reserved(destination.id, idempotency_key)
        known = self._store.find(reserved) if reserved is not None else None
        if known is not None:
            return self._view(known)
        self._require_ready(destination, reserved)
        reserved = self._reserve(destination.id, idempotency_key)
        return self._launch(self._new_export(destination, trigger, requested_by, reserved))

    def resume(
        self,
        export_id: str,
        destination: Destination,
        *,
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView:
        """Start an export of what this one, of ``destination``, has no result for; or return the one that the same key
        started for it before.

        As safe as ``start``. That it is resumed is noted on the earlier export when the new one has the destination's
        place; prepare does it again. Raises what ``start`` raises, ExportNotFound, and what ``check_resumable`` does.
        """
        earlier = self._find(export_id)
        key = f"resume/{export_id}/{idempotency_key}" if idempotency_key is not None else None
        reserved = self._reserved(destination.id, key)
        known = self._store.find(reserved) if reserved is not None else None
        if known is not None:
            return self._view(known)
        continued = check_resumable(self._store, earlier, destination, self._now())
        self._require_ready(destination, reserved)
        export = self._new_export(destination, "onDemand", requested_by, self._reserve(destination.id, key))
        export.resumes = earlier.id
        if continued is not None:
            export.continues, export.sources = continued.id, continued.sources
        return self._launch(export)

    def _require_ready(self, destination: Destination, reserved: str | None) -> None:
        """Raise DestinationNotReady, or ExportRunning if it is not the export ``reserved`` that runs."""
        steps = destination.missing_steps()
        if steps:
            raise DestinationNotReady(steps)
        running = self._store.running(destination.id)
        if running is not None and running != reserved:
            raise ExportRunning(running)

    def _launch(self, export: Export) -> ExportView:
        if not self._store.create(export) and self._find(export.id).ended:
            return self.get(export.id)  # somebody else with the same key has put it on record as skipped meanwhile
        holder = self._store.claim(export.destination_id, export.id)
        # One of the schedule stays, and prepare ends it as Skipped: another instance may have counted on it already.
        if holder != export.id and export.trigger == "onDemand":
            self._store.withdraw(export)
            raise ExportRunning(holder)
        resumed_by = mark_resumed(self._store, export)
        if export.resumes is not None and resumed_by != export.id:  # somebody was faster, and has ended already
            self._store.withdraw(export)
            raise AlreadyResumed(export.resumes, resumed_by)
        self._records.started(export)
        self._signals.prepare(export.id)
        log.event(
            "export.queued",
            export=export.id,
            destination=export.destination_id,
            trigger=export.trigger,
            resumes=export.resumes,
        )
        return self.get(export.id)

    def record_skipped(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str,
        problem: Problem,
    ) -> ExportView:
        """Put an export into the history that was due and was not made because of ``problem``; or return the one that
        the same key stands for already.

        It has ended from the beginning, so it never takes the destination's place. It is written last but for its
        record; what a crash leaves out after that, the sweeper makes up for.
        """
        export_id = self._reserve(destination.id, idempotency_key)
        known = self._store.find(export_id)
        if known is not None:
            return self._view(known)
        export = self._new_export(destination, trigger, requested_by, export_id)
        export.status, export.problem, export.ended_at = Status.SKIPPED, problem, export.created_at
        with suppress(AlreadyExists):
            self._store.documents.create(names.rejected(export_id), NONE_REJECTED)
        self._store.create(export)
        stored = self._find(export_id)
        if stored.status is Status.SKIPPED:  # else somebody with the same key was faster, and has started it
            self._records.ended(stored)
            self._store.take_off_list(export_id)
            log.event("export.skipped", export=export_id, destination=destination.id, code=problem.code)
            workflow.tell_completed(stored)
        return self._view(stored)

    def _new_export(self, destination: Destination, trigger: Trigger, requested_by: Person, export_id: str) -> Export:
        return Export(
            id=export_id,
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            requested_by_id=requested_by.id,
            created_at=time_of(export_id),
            traceparent=trace.current(),
        )

    def _reserved(self, destination_id: str, idempotency_key: str | None) -> str | None:
        """The ID that the key stands for at this destination, if it was used before."""
        if idempotency_key is None:
            return None
        found = self._store.documents.read(_key_name(destination_id, idempotency_key))
        return CurrentExport.from_bytes(found.data).export_id if found else None

    def _reserve(self, destination_id: str, idempotency_key: str | None) -> str:
        """A new ID, or the one that ``idempotency_key`` stands for at this destination from now on."""
        new = new_id(self._now(), self._new_id())
        if idempotency_key is None:
            return new
        with suppress(AlreadyExists):
            content = CurrentExport(export_id=new).to_bytes()
            self._store.documents.create(_key_name(destination_id, idempotency_key), content)
            return new
        return self._reserved(destination_id, idempotency_key) or new

    # -- look ----------------------------------------------------------------------------------------------------

    def get(self, export_id: str) -> ExportView:
        """The export as it stands. Raises ExportNotFound."""
        return self._view(self._find(export_id))

    def list(self, wanted: ExportFilter = _EVERYTHING, *, before: str | None = None, top: int = 50) -> list[ExportView]:
        """The newest wanted exports first, at most ``top``, from behind the ID ``before``; without progress, which
        costs a listing each."""
        found = self._history.newest_first(wanted, before, at_once=top)
        return [view_of(export, None, self._now()) for export in islice(found, top)]

    def running_of(self, destination_id: str) -> str | None:
        """The ID of the destination's export that has not ended, if there is one."""
        return self._store.running(destination_id)

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
            batches_total=plan.batches,
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
        pace = self._paces.get(plan.account_id)
        shown = PaceView(
            lanes=pace.lanes,
            most_lanes=self._paces.most_lanes,
            rows_per_call=pace.rows,
            slowed_down_at=pace.slowed_down_at,
            reason=pace.reason,
        )
        return view_of(live, progress, self._now(), shown, next_try_at(self._store, plan) if waits else None)

    # -- stop ----------------------------------------------------------------------------------------------------

    def cancel(self, export_id: str, requested_by: Person) -> ExportView:
        """Ask the export to end as Canceled; batches under way are completed. Raises ExportNotFound, ExportEnded."""
        export = self._find(export_id)
        if export.ended:
            raise ExportEnded(export_id, export.status)
        self._stop(export_id, Problem(code="canceled", message=f"Canceled by {requested_by.name}."), requested_by)
        return self.get(export_id)

    def stop_for_destination(self, destination_id: str, reason: str, code: str = "destinationRemoved") -> None:
        """Ask the destination's running export, if there is one, to end as Canceled because of ``reason``."""
        running = self._store.running(destination_id)
        if running is not None:
            self._stop(running, Problem(code=code, message=reason))

    def _stop(self, export_id: str, problem: Problem, by: Person | None = None) -> None:
        stop = Stop(status=Status.CANCELED, problem=problem, at=self._now(), by=by)
        asked = self._store.request_stop(export_id, stop)
        if asked is not None:
            self._records.cancel_requested(asked)
        with trace.going_on(asked.traceparent if asked else None, trace.current()):
            self._signals.finish(export_id)  # one that is not being sent ends at once; else the last lane ends it
        log.event("export.stopRequested", export=export_id, code=problem.code)

    # -- erase ---------------------------------------------------------------------------------------------------

    def erase_data(self, destination_id: str) -> int:
        """Delete what the destination's ended exports hold of profiles, and keep the exports; returns how many
        exports had something left. Their rejected profiles are answered as expired from now on."""
        wanted = ExportFilter(destination_id=destination_id, statuses=ENDED)
        found = list(self._history.newest_first(wanted))
        runs = [names.run(export.id) for export in found]
        with ThreadPoolExecutor(_ERASES_AT_ONCE, thread_name_prefix="erase") as pool:
            erased = sum(map(bool, pool.map(self._store.documents.delete_all, runs)))
        for export in found:
            if export.resumable_until is not None:
                self._store.change(export.id, lambda newest: setattr(newest, "resumable_until", None))
        self._store.documents.delete(names.succeeded(destination_id))
        log.event("exports.erased", destination=destination_id, exports=erased)
        return erased


def _key_name(destination_id: str, idempotency_key: str) -> str:
    return names.idempotency(destination_id, hashlib.sha256(idempotency_key.encode()).hexdigest())

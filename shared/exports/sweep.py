"""Re-drives what a crash left half done: a timer looks at every export that has not ended and sends what it waits for.

Every message may be superfluous; whoever receives it looks at the state first. So the sweeper need not be exact, it
only must not send much: nothing for work that somebody holds a lease on, nothing for lanes that have a message on its
way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from shared import log, trace
from shared.destinations.store import DestinationStore
from shared.exports import problems
from shared.exports.history import History
from shared.exports.lane_rest import LaneRest
from shared.exports.model import Export, Plan, Status, Stop
from shared.exports.pace import Paces, connections_of
from shared.exports.resume import is_being_resumed
from shared.exports.signals import Signals
from shared.exports.store import ActiveExport, ExportStore
from shared.exports.waiting import end_long_wait
from shared.failures import do_each
from shared.storage import names

if TYPE_CHECKING:  # it brings DuckDB along, which the sweep of every minute does not need
    from shared.exports.refusals import Refusals

_GRACE: Final = timedelta(seconds=60)
"""How long a message that was sent may take to arrive before it counts as lost."""

_START_TAKES: Final = timedelta(minutes=15)
"""Longer than a start waits for storage that hardly answers (shared/storage/clients.py): one that is taken off the list
before its export is written would never be prepared."""


@dataclass(frozen=True, slots=True)
class SweepTools:
    """What the sweeper needs from outside."""

    store: ExportStore
    destinations: DestinationStore
    signals: Signals
    paces: Paces
    refusals: Callable[[], Refusals]
    now: Callable[[], datetime]


class Sweeper:
    """Keeps exports moving, and deletes what has expired."""

    def __init__(self, tools: SweepTools, *, max_connections: int, max_wait: timedelta, retention: timedelta) -> None:
        self._tools = tools
        self._max_connections = max_connections
        self._max_wait = max_wait
        self._retention = retention
        self._documents = tools.store.documents

    def sweep(self) -> None:
        """One round over all exports that have not ended. One that cannot be read does not hold up the others."""
        do_each(partial(self._look_after, active) for active in self._tools.store.active() if not active.held)

    def _look_after(self, active: ActiveExport) -> None:
        export = self._tools.store.find(active.id)
        if export is not None:
            with trace.going_on(export.traceparent):
                self._drive(export)
        elif self._tools.now() - active.since > _START_TAKES:  # its start was cut off before it was written
            self._tools.store.take_off_list(active.id)

    def _drive(self, export: Export) -> None:
        self._tell_wait(export)
        export = self._end_without_consent(export)
        export = end_long_wait(self._tools.store, export, self._max_wait, self._tools.now())
        plan = self._tools.store.plan(export.id)
        if export.ended or (export.stop is not None and plan is None):
            self._tools.signals.finish(export.id)
        elif plan is None:
            expected = export.resume_at or export.started_at or export.created_at
            if self._tools.now() - expected > _GRACE:
                log.warning("sweep.prepare", export=export.id)
                self._tools.signals.prepare(export.id)
        else:
            self._drive_lanes(export, plan)

    def _end_without_consent(self, export: Export) -> Export:
        """The export as it is then. Whoever withdraws the consent asks for its end, and may be cut off before that."""
        found = self._tools.destinations.find(export.destination_id)
        if found is None or found.destination.consent.withdrawn_at is None:
            return export
        problem = problems.consent_withdrawn(found.destination.consent.withdrawn_by)
        stop = Stop(status=Status.CANCELED, problem=problem, at=self._tools.now())
        return self._tools.store.request_stop(export.id, stop) or export

    def _tell_wait(self, export: Export) -> None:
        """Say how long the export has been waiting, for the alert that it waits too long."""
        since = export.waiting_since or (export.created_at if export.status is Status.QUEUED else None)
        if since is not None:
            seconds = round((self._tools.now() - since).total_seconds())
            log.event(
                "export.waiting",
                export=export.id,
                destination=export.destination_id,
                status=export.status,
                since=since.isoformat(),
                seconds=seconds,
            )

    def _drive_lanes(self, export: Export, plan: Plan) -> None:
        store = self._tools.store
        open_lanes = set(plan.lanes) - store.ended_lanes(export.id)
        if not open_lanes or export.stop is not None:  # a stopped one need not wait for lanes that rest
            self._tools.signals.finish(export.id)
        if not open_lanes:
            return
        if not store.documents.exists(names.open_export(plan.account_id, plan.export_id)):
            self._tools.signals.prepare(export.id)  # the plan was made, but nobody was told
            return
        resting = {
            int(entry.name.rsplit("/", 1)[1]): (entry.leased, LaneRest.from_metadata(entry.metadata))
            for entry in store.documents.list(names.account_lanes(plan.account_id), metadata=True)
        }
        pace = self._tools.paces.get(plan.account_id)
        for connection in connections_of(open_lanes, pace, self._max_connections):
            leased, rest = resting.get(connection, (False, LaneRest()))
            if not leased and not rest.lasts(self._tools.now() - _GRACE, pace):
                log.warning("sweep.wake", export=export.id, lane=connection)
                self._tools.signals.wake(plan.account_id, connection)

    def expire(self) -> int:
        """Delete the exports that ended longer ago than the retention, with all they hold; returns how many.

        The data go first: what a crash leaves is found again by its export. Keys, counts and the like, which only speed
        something up or keep something from being done twice, go when they are as old. Refused members are forgotten
        when their time is over. Audit records stay. What an export has not sent goes when it cannot be resumed.
        """
        expired = 0
        for export in list(History(self._documents).oldest_first()):
            if export.ended_at is not None and self._is_old(export.ended_at):
                self._documents.delete_all(names.run(export.id))
                self._tools.store.delete(export.id, export.destination_id)
                expired += 1
            elif export.resumable_until is not None and self._tools.now() >= export.resumable_until:
                self._forget_remainder(export.id)
        for prefix in (names.IDEMPOTENCY_PREFIX, names.COUNTS_PREFIX, names.SUCCEEDED_PREFIX):
            for entry in list(self._documents.list(prefix)):
                if self._is_old(entry.changed_at):
                    self._documents.delete(entry.name)
        self._tools.refusals().expire()
        return expired

    def _forget_remainder(self, export_id: str) -> None:
        """Delete what the export has not sent, unless one that resumes it is still going on."""
        export = self._tools.store.find(export_id)
        if export is None or is_being_resumed(self._tools.store, export):
            return
        self._documents.delete_all(names.all_batches(export_id))
        self._tools.store.change(export_id, lambda newest: setattr(newest, "resumable_until", None))

    def _is_old(self, moment: datetime) -> bool:
        return self._tools.now() - moment > self._retention

"""Keeps the schedule and runs it: the app's timer calls ``run`` every minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from shared import log
from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord, Change, record_id
from shared.destinations.model import Destination
from shared.exports.model import Status
from shared.exports.view import ExportView
from shared.failures import kept
from shared.people import SCHEDULE as SCHEDULER
from shared.people import Person
from shared.schedule import timetable
from shared.schedule.errors import ScheduleChanged
from shared.schedule.model import ALL, DestinationScheduleView, ScheduleRuns, ScheduleView, StoredSchedule
from shared.schedule.requests import ScheduleRequest
from shared.schedule.rules import Rule
from shared.schedule.run_all import RecordsSkipped, start_due
from shared.schedule.timetable import Timetable
from shared.storage.documents import AlreadyExists, Changed, Document, Documents
from shared.storage.names import SCHEDULE, SCHEDULE_RUNS

NEVER_SET: Final = '"never-set"'
"""The ETag of the schedule before anybody has set it: there is no document yet."""


class ListsDestinations(Protocol):
    """The part of the destination service that is needed here."""

    def list(self) -> Iterable[Destination]: ...


@dataclass(frozen=True, slots=True)
class AnsweredSchedule:
    """The schedule, and the ETag of the version that was read or written."""

    view: ScheduleView
    etag: str


class ScheduleService:
    """One schedule for all destinations, as Customer Insights has one system refresh, and those of their own."""

    def __init__(
        self,
        documents: Documents,
        destinations: ListsDestinations,
        exports: RecordsSkipped,
        clock: Callable[[], datetime],
        *,
        audit: AuditLog,
        new_id: Callable[[], str],
    ) -> None:
        self._documents = documents
        self._destinations = destinations
        self._exports = exports
        self._clock = clock
        self._audit = audit
        self._new_id = new_id
        self._logged: str | None = None

    # -- look ------------------------------------------------------------------------------------------------

    def get(self) -> AnsweredSchedule:
        """The schedule; off where none was ever set."""
        found = self._documents.read(SCHEDULE)
        return self._answer(_schedule(found), found.etag if found else NEVER_SET)

    def of(self, destination: Destination) -> DestinationScheduleView:
        """When the destination runs by itself."""
        schedule = _schedule(self._documents.read(SCHEDULE))
        last_run_at = self._runs().last_run_at.get(destination.id)
        runs = _next_runs(timetable.of_destination(destination, schedule, last_run_at), self._clock())
        return DestinationScheduleView(
            mode=destination.schedule.mode,
            rule=timetable.rule_in_force(destination, schedule),
            next_runs=runs,
            next_run_at=next(iter(runs), None),
            last_run_at=last_run_at,
        )

    def _answer(self, schedule: StoredSchedule, etag: str) -> AnsweredSchedule:
        last_run_at = self._runs().last_run_at.get(ALL)
        runs = _next_runs(timetable.of_schedule(schedule, last_run_at), self._clock())
        view = ScheduleView(
            **schedule.model_dump(include=set(ScheduleView.model_fields)),
            next_runs=runs,
            next_run_at=next(iter(runs), None),
            last_run_at=last_run_at,
        )
        return AnsweredSchedule(view, etag)

    def _runs(self) -> ScheduleRuns:
        found = self._documents.read(SCHEDULE_RUNS)
        return ScheduleRuns.from_bytes(found.data) if found else ScheduleRuns()

    # -- set -------------------------------------------------------------------------------------------------

    def put(self, wanted: ScheduleRequest, user: Person, if_match: str | None = None) -> AnsweredSchedule:
        """Replace the schedule; a run that was missed under the old one is not made up for.

        The record of the change is stored with it, in one write, and copied to the audit log afterwards; whoever
        changes it next, or the timer, makes sure of the copy. Setting what is set already changes nothing.
        ``if_match``: the ETag that the newest version must have. Raises ScheduleInvalid, ScheduleChanged.
        """
        rule = wanted.checked()
        written: bytes | None = None
        while True:
            found = self._documents.read(SCHEDULE)
            old = _schedule(found)
            etag = found.etag if found else NEVER_SET
            if found is not None and found.data == written:  # the write arrived, its answer did not
                return self._logged_answer(old, etag)
            if if_match is not None and if_match != etag:
                raise ScheduleChanged
            new = StoredSchedule(**rule.model_dump(), is_active=wanted.is_active)
            changes = _changes(old if found else None, new)
            if not changes:
                return self._logged_answer(old, etag)
            new.updated_at, new.updated_by = self._clock(), user.name
            new.last_change = self._record(new.updated_at, user, changes)
            self._log_change(old)  # before it is written over
            written = new.to_bytes()
            try:
                if found is None:
                    etag = self._documents.create(SCHEDULE, written)
                else:
                    etag = self._documents.replace(SCHEDULE, written, found.etag)
            except (AlreadyExists, Changed):
                continue
            return self._logged_answer(new, etag)

    def _record(self, at: datetime, who: Person, changes: list[Change]) -> AuditRecord:
        return AuditRecord(
            id=record_id(at, self._new_id()),
            at=at,
            who=who,
            action="schedule.changed",
            target_type="schedule",
            target_id="schedule",
            target_name="schedule",
            changes=changes,
        )

    def _logged_answer(self, schedule: StoredSchedule, etag: str) -> AnsweredSchedule:
        self._log_change(schedule)
        return self._answer(schedule, etag)

    def _log_change(self, schedule: StoredSchedule) -> None:
        """Copy the record of the last change to the audit log, once for each process that meets it."""
        record = schedule.last_change
        if record is not None and record.id != self._logged:
            self._audit.append(record)
            self._logged = record.id

    # -- run -------------------------------------------------------------------------------------------------

    def run(self, now: datetime) -> list[ExportView]:
        """Start what is due at ``now``; returns the exports, those that were skipped among them.

        The exports are started first and noted as run afterwards. Whatever dies in between, or runs at the same time,
        starts them again with the same idempotency key: nothing is lost and nothing starts twice. A destination that
        fails does not hold up the others: it stays due, and its error is raised in the end.
        """
        runs = self._runs()  # before the destinations: who is in here and not among them is gone for good
        schedule = _schedule(self._documents.read(SCHEDULE))
        destinations = list(self._destinations.list())
        exports: list[ExportView] = []
        ran: list[str] = []
        failures: dict[str, Exception] = {}
        for destination in destinations:
            with kept(failures, destination.id):
                its = timetable.of_destination(destination, schedule, runs.last_run_at.get(destination.id))
                at = its.due(now) if its else None
                if at is not None:
                    exports.append(self._start(destination, at))
                    ran.append(destination.id)
        for destination_id, error in failures.items():
            log.error("schedule.startFailed", destination=destination_id, errorType=type(error).__name__)
        of_all = timetable.of_schedule(schedule, runs.last_run_at.get(ALL))
        if of_all is not None and of_all.due(now):
            ran.append(ALL)
        gone = runs.last_run_at.keys() - {ALL, *(destination.id for destination in destinations)}
        if ran or gone:
            self._move_on(runs, ran, gone, now)
        self._log_change(schedule)
        if failures:
            raise next(iter(failures.values()))
        return exports

    def _start(self, destination: Destination, at: datetime) -> ExportView:
        occurrence = at.astimezone(UTC).isoformat()
        key = f"schedule-{occurrence}"
        export = start_due(destination, self._exports, requested_by=SCHEDULER, idempotency_key=key)
        skipped = export.problem.code if export.status is Status.SKIPPED and export.problem else None
        log.event("schedule.run", occurrence=occurrence, destination=destination.id, export=export.id, skipped=skipped)
        return export

    def _move_on(self, seen: ScheduleRuns, ran: Iterable[str], gone: Iterable[str], now: datetime) -> None:
        """Note what has run, and forget the destinations that are gone.

        What somebody else noted meanwhile is left as it is: their clock may be behind ours, and then a run between
        their time and ours is still to come.
        """
        while True:
            found = self._documents.read(SCHEDULE_RUNS)
            runs = ScheduleRuns.from_bytes(found.data) if found else ScheduleRuns()
            for key in ran:
                if runs.last_run_at.get(key) == seen.last_run_at.get(key):
                    runs.last_run_at[key] = now
            for key in gone:
                runs.last_run_at.pop(key, None)
            wanted = runs.to_bytes()
            try:
                if found is None:
                    self._documents.create(SCHEDULE_RUNS, wanted)
                elif wanted != found.data:
                    self._documents.replace(SCHEDULE_RUNS, wanted, found.etag)
            except (AlreadyExists, Changed):
                continue
            return


def _schedule(found: Document | None) -> StoredSchedule:
    return StoredSchedule.from_bytes(found.data) if found else StoredSchedule()


def _next_runs(its: Timetable | None, now: datetime) -> tuple[datetime, ...]:
    return its.next_runs(now) if its else ()


def _changes(old: StoredSchedule | None, new: StoredSchedule) -> list[Change]:
    """Every property that differs, in the API's words; null where no schedule was set before."""
    before = _configuration(old) if old else {}
    return [
        Change(property=name, before=before.get(name), after=after)
        for name, after in _configuration(new).items()
        if before.get(name) != after
    ]


def _configuration(schedule: StoredSchedule) -> dict[str, Any]:
    return schedule.model_dump(mode="json", by_alias=True, include={"is_active", *Rule.model_fields})

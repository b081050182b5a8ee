"""Keeps the schedule and runs it: the app's timer calls ``run`` every minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from shared import log
from shared.destinations.model import Destination
from shared.people import SCHEDULE as SCHEDULER
from shared.people import Person
from shared.schedule.model import StoredSchedule
from shared.schedule.recurrence import next_run
from shared.schedule.requests import ScheduleRequest
from shared.schedule.run_all import Started, StartsExports, start_all
from shared.schedule.zones import open_zone
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.names import SCHEDULE


class ListsDestinations(Protocol):
    """The part of the destination service that is needed here."""

    def list(self) -> Iterable[Destination]: ...


class ScheduleService:
    """One schedule for all destinations, as Customer Insights has one system refresh."""

    def __init__(
        self,
        documents: Documents,
        destinations: ListsDestinations,
        exports: StartsExports,
        clock: Callable[[], datetime],
    ) -> None:
        self._documents = documents
        self._destinations = destinations
        self._exports = exports
        self._clock = clock

    def get(self) -> StoredSchedule:
        """The schedule; off where none was ever set."""
        found = self._documents.read(SCHEDULE)
        return StoredSchedule.from_bytes(found.data) if found else StoredSchedule()

    def put(self, wanted: ScheduleRequest, user: Person) -> StoredSchedule:
        """Replace the schedule; a run that was missed under the old one is not made up for. Raises ScheduleInvalid."""
        rule = wanted.checked()
        while True:
            found = self._documents.read(SCHEDULE)
            old = StoredSchedule.from_bytes(found.data) if found else StoredSchedule()
            now = self._clock()
            new = StoredSchedule(
                **rule.model_dump(),
                is_active=wanted.is_active,
                last_run_at=old.last_run_at,
                updated_at=now,
                updated_by=user.name,
            )
            if new.is_active:
                new.next_run_at = old.next_run_at if _same_times(old, new) else _next(new, now)
            try:
                if found is None:
                    self._documents.create(SCHEDULE, new.to_bytes())
                else:
                    self._documents.replace(SCHEDULE, new.to_bytes(), found.etag)
            except (AlreadyExists, Changed):
                continue
            return new

    def due(self, now: datetime) -> datetime | None:
        """The run that is due at ``now``: the oldest one missed, however many were; None where none is."""
        return _due(self.get(), now)

    def run(self, now: datetime) -> Started | None:
        """Start the exports of a run that is due; None where none is.

        The exports are started first and the schedule moves on afterwards. Whatever dies in between, or runs at the
        same time, starts them again with the same idempotency key: nothing is lost and nothing starts twice.
        """
        found = self._documents.read(SCHEDULE)
        if found is None:
            return None
        schedule = StoredSchedule.from_bytes(found.data)
        occurrence = _due(schedule, now)
        if occurrence is None:
            return None
        started = start_all(
            self._destinations.list(),
            self._exports,
            trigger="scheduled",
            requested_by=SCHEDULER,
            idempotency_key=f"schedule-{occurrence.astimezone(UTC).isoformat()}",
        )
        schedule.last_run_at = occurrence
        schedule.next_run_at = _next(schedule, now)
        try:
            self._documents.replace(SCHEDULE, schedule.to_bytes(), found.etag)
        except Changed:
            # Another tick moved on, or somebody set a new schedule: both know better.
            log.event("schedule.changedMeanwhile", occurrence=occurrence.isoformat())
        _log(occurrence, started)
        return started


def _due(schedule: StoredSchedule, now: datetime) -> datetime | None:
    at = schedule.next_run_at
    return at if schedule.is_active and at is not None and at <= now else None


def _next(schedule: StoredSchedule, after: datetime) -> datetime:
    return next_run(after, open_zone(schedule.time_zone), schedule.weekdays(), schedule.clock_times())


def _same_times(old: StoredSchedule, new: StoredSchedule) -> bool:
    """Whether setting the schedule changes nothing about when it runs: then a run that is due stays due."""
    return old.next_run_at is not None and all(
        getattr(old, name) == getattr(new, name) for name in ("is_active", "frequency", "time_zone", "days", "times")
    )


def _log(occurrence: datetime, started: Started) -> None:
    log.event(
        "schedule.run",
        occurrence=occurrence.isoformat(),
        started=len(started.exports),
        skipped=len(started.skipped),
    )
    for skipped in started.skipped:
        log.warning(
            "schedule.destinationSkipped",
            occurrence=occurrence.isoformat(),
            destination=skipped.destination_id,
            reason=skipped.code,
            export=skipped.export_id,
        )

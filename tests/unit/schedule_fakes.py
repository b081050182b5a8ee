"""A schedule with the real start of exports, over storage in memory that a test can watch, interrupt or cut off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord
from shared.destinations.model import (
    ChosenAudience,
    Consent,
    DataMatching,
    Destination,
    ExportUser,
    SignIn,
    SignInState,
)
from shared.exports.model import Export, Problem, Status
from shared.exports.service import ExportService
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.view import ExportView
from shared.people import Person
from shared.schedule.model import ScheduleRuns, ScheduleView
from shared.schedule.requests import DestinationScheduleRequest, ScheduleRequest
from shared.schedule.run_all import RecordsSkipped, Trigger
from shared.schedule.service import ScheduleService
from shared.storage import names
from shared.storage.documents import AlreadyExists, Document, Entry
from tests.unit.fake_documents import FakeDocuments

ADA = Person(id="11111111-1111-1111-1111-111111111111", name="ada@contoso.example")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SIX = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
"""The first 06:00 after ``NOW``."""


class Killed(BaseException):
    """The process is gone: nothing that it would have done happens."""


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class WatchedDocuments(FakeDocuments):
    """Tells ``watch`` of every call, before and after it is done. ``watch`` may call back, and may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[str, str], None] | None = None

    def step(self, call: str, name: str) -> None:
        """Not told of what ``watch`` does itself."""
        if self.watch is not None:
            watch, self.watch = self.watch, None
            try:
                watch(call, name)
            finally:
                self.watch = watch

    def read(self, name: str) -> Document | None:
        self.step("before read", name)
        return super().read(name)

    def create(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        self.step("before create", name)
        etag = super().create(name, data, metadata)
        self.step("after create", name)
        return etag

    def write(self, name: str, data: bytes) -> str:
        self.step("before write", name)
        etag = super().write(name, data)
        self.step("after write", name)
        return etag

    def replace(self, name: str, data: bytes, etag: str) -> str:
        self.step("before replace", name)
        new = super().replace(name, data, etag)
        self.step("after replace", name)
        return new

    def delete(self, name: str, etag: str | None = None) -> None:
        self.step("before delete", name)
        super().delete(name, etag)
        self.step("after delete", name)

    def list(self, prefix: str, *, metadata: bool = False) -> Iterator[Entry]:
        self.step("before list", prefix)
        yield from super().list(prefix, metadata=metadata)


class _Signals:
    """Messages of the prepare queue; sending one is a step like a call of the storage."""

    def __init__(self, documents: WatchedDocuments) -> None:
        self.sent: list[str] = []
        self._documents = documents

    def prepare(self, export_id: str) -> None:
        self._documents.step("before send", export_id)
        self.sent.append(export_id)
        self._documents.step("after send", export_id)


class Engine(ExportService):
    """The real start of exports; skipped ones are recorded as the history does it."""

    def __init__(self, documents: WatchedDocuments, clock: Clock, ids: Iterator[int]) -> None:
        self.store = ExportStore(documents.as_documents(), clock)
        self.signals = _Signals(documents)
        super().__init__(self.store, cast("Signals", self.signals), now=clock, new_id=lambda: f"{next(ids):04}")

    def record_skipped(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str,
        problem: Problem,
    ) -> ExportView:
        export_id = self._export_id(destination.id, idempotency_key)
        export = Export(
            id=export_id,
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            requested_by_id=requested_by.id,
            status=Status.SKIPPED,
            problem=problem,
            created_at=self._now(),
            ended_at=self._now(),
        )
        with suppress(AlreadyExists):
            self.store.documents.create(names.export(export_id), export.to_bytes())
        return self.get(export_id)


class _Destinations:
    """What the schedule asks of destinations; a step like the calls of storage that it stands for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def list(self) -> list[Destination]:
        self._world.documents.step("before list", "destinations")
        return [*self._world.destinations.values()]


class World:
    """One installation: its storage, its destinations, and as many instances of the app as a test wants."""

    def __init__(self, now: datetime = NOW) -> None:
        self.clock = Clock(now)
        self.documents = WatchedDocuments()
        self.audit = WatchedDocuments()
        self.destinations: dict[str, Destination] = {}
        self._ids = iter(range(1, 10_000_000))
        self.engine = Engine(self.documents, self.clock, self._ids)
        self.starter: RecordsSkipped = self.engine

    def instance(self) -> ScheduleService:
        """The schedule of another process of the app."""
        return ScheduleService(
            self.documents.as_documents(),
            _Destinations(self),
            self.starter,
            self.clock,
            audit=AuditLog(self.audit.as_documents()),
            new_id=lambda: f"r{next(self._ids)}",
        )

    def run(self, now: datetime) -> list[ExportView]:
        """The timer of a fresh process fires."""
        self.clock.now = now
        return self.instance().run(now)

    # -- set-up ----------------------------------------------------------------------------------------------

    def put(self, **changes: Any) -> ScheduleView:
        """Daily at 06:00 UTC unless ``changes`` say otherwise."""
        body = {"isActive": True, "timeZone": "UTC", "times": ["06:00"]} | changes
        return self.instance().put(ScheduleRequest.model_validate(body), ADA).view

    def ready(self, id_: str, **schedule: Any) -> Destination:
        """A destination that can run; it follows the schedule of all unless ``schedule`` says otherwise."""
        self.destinations[id_] = Destination(
            id=id_,
            display_name=f"Destination {id_}",
            consent=Consent(agreed_by="ada", agreed_at=self.clock(), text_version="1"),
            sign_in=SignIn(state=SignInState.CONNECTED, account_id="acc1", secret_name="mc-1"),
            audience=ChosenAudience(id="aud1", name="Customers"),
            data_matching=DataMatching(email="EMail"),
            segments=("Gold",),
            export_user=ExportUser(id=ADA.id, name=ADA.name, added_at=self.clock()),
            created_at=self.clock(),
            created_by="ada",
            updated_at=self.clock(),
            updated_by="ada",
        )
        if schedule:
            self.schedule(id_, **schedule)
        return self.destinations[id_]

    def schedule(self, id_: str, **schedule: Any) -> None:
        """What ``PATCH {"schedule": …}`` does."""
        wanted = DestinationScheduleRequest.model_validate(schedule).checked()
        self._reschedule(id_, schedule=wanted)

    def enable(self, id_: str, enabled: bool) -> None:
        self._reschedule(id_, enabled=enabled)

    def _reschedule(self, id_: str, **changes: Any) -> None:
        old = self.destinations[id_]
        new = old.model_copy(update=changes, deep=True)
        if new != old:
            new.scheduled_since = self.clock()
            self.destinations[id_] = new

    # -- looking ---------------------------------------------------------------------------------------------

    def scheduled(self, id_: str) -> list[Export]:
        """The scheduled exports of a destination, skipped ones among them, the oldest first."""
        return [export for export in self.exports() if export.destination_id == id_ and export.trigger == "scheduled"]

    def exports(self) -> list[Export]:
        return [
            Export.from_bytes(data)
            for name, (data, _) in sorted(self.documents.blobs.items())
            if name.startswith(names.EXPORTS_PREFIX)
        ]

    def end(self, export_id: str) -> None:
        """The export has run."""
        self.engine.store.move(export_id, Status.FINISHING)
        self.engine.store.move(export_id, Status.SUCCESSFUL)
        self.documents.delete(names.active(export_id))

    def end_all(self) -> None:
        for export in self.exports():
            if not export.ended:
                self.end(export.id)

    def last_runs(self) -> dict[str, datetime]:
        found = self.documents.blobs.get(names.SCHEDULE_RUNS)
        return ScheduleRuns.from_bytes(found[0]).last_run_at if found else {}

    def records(self) -> list[AuditRecord]:
        """The audit log, the oldest first."""
        return [AuditRecord.model_validate(json.loads(data)) for _, (data, _) in sorted(self.audit.blobs.items())]


def own(*times: str, zone: str = "UTC", days: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schedule of a destination with a rule of its own."""
    return {"mode": "ownSchedule", "rule": {"times": list(times), "timeZone": zone, "days": list(days)}}

"""A schedule with the real start of exports, over storage in memory that a test can watch, interrupt or cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
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
from shared.exports.model import Export, Status
from shared.exports.pace import Paces
from shared.exports.records import ExportRecords
from shared.exports.service import ExportService
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.view import ExportView
from shared.people import Person
from shared.schedule.model import ScheduleRuns, ScheduleView
from shared.schedule.requests import DestinationScheduleRequest, ScheduleRequest
from shared.schedule.run_all import RecordsSkipped
from shared.schedule.service import ScheduleService
from shared.storage import names
from shared.storage.documents import Document, Entry
from tests.unit.fake_documents import FakeDocuments

ADA = Person(id="11111111-1111-1111-1111-111111111111", name="ada@contoso.example")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SIX = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
"""The first 06:00 after ``NOW``."""
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Killed(BaseException):
    """The process is gone: nothing that it would have done happens."""


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Steps:
    """Tells ``watch`` of every call of a storage, before and after it is done. ``watch`` may call back, and may raise;
    it is not told of what it does itself."""

    def __init__(self) -> None:
        self.watch: Callable[[str, str], None] | None = None

    def step(self, call: str, name: str) -> None:
        if self.watch is not None:
            watch, self.watch = self.watch, None
            try:
                watch(call, name)
            finally:
                self.watch = watch


class WatchedDocuments(FakeDocuments):
    """Every call is one of ``steps``."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def read(self, name: str) -> Document | None:
        self._steps.step("before read", name)
        return super().read(name)

    def create(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        self._steps.step("before create", name)
        etag = super().create(name, data, metadata)
        self._steps.step("after create", name)
        return etag

    def write(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        self._steps.step("before write", name)
        etag = super().write(name, data, metadata)
        self._steps.step("after write", name)
        return etag

    def replace(self, name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        self._steps.step("before replace", name)
        new = super().replace(name, data, etag, metadata)
        self._steps.step("after replace", name)
        return new

    def delete(self, name: str, etag: str | None = None) -> None:
        self._steps.step("before delete", name)
        super().delete(name, etag)
        self._steps.step("after delete", name)

    def list(self, prefix: str, *, metadata: bool = False) -> Iterator[Entry]:
        self._steps.step("before list", prefix)
        yield from super().list(prefix, metadata=metadata)


class _Signals:
    """Messages of the prepare queue; sending one is a step like a call of the storage."""

    def __init__(self, steps: Steps) -> None:
        self.sent: list[str] = []
        self._steps = steps

    def prepare(self, export_id: str) -> None:
        self._steps.step("before send", export_id)
        self.sent.append(export_id)
        self._steps.step("after send", export_id)


class _Destinations:
    """What the schedule asks of destinations; a step like the calls of storage that it stands for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def list(self) -> list[Destination]:
        self._world.steps.step("before list", "destinations")
        return [*self._world.destinations.values()]


class World:
    """One installation: its storage, its destinations, and as many instances of the app as a test wants."""

    def __init__(self, now: datetime = NOW) -> None:
        self.clock = Clock(now)
        self.steps = Steps()
        self.documents = WatchedDocuments(self.steps)
        self.audit = WatchedDocuments(self.steps)
        self.destinations: dict[str, Destination] = {}
        self._ids = iter(range(1, 10_000_000))
        self.store = ExportStore(self.documents.as_documents(), self.clock)
        self.signals = _Signals(self.steps)
        self.engine = ExportService(
            self.store,
            cast("Signals", self.signals),
            ExportRecords(AuditLog(self.audit.as_documents())),
            Paces(self.documents.as_documents(), self.clock, most_lanes=8),
            now=self.clock,
            new_id=self._new_id,
        )
        self.starter: RecordsSkipped = self.engine

    def instance(self) -> ScheduleService:
        """The schedule of another process of the app."""
        return ScheduleService(
            self.documents.as_documents(),
            _Destinations(self),
            self.starter,
            self.clock,
            audit=AuditLog(self.audit.as_documents()),
            new_id=self._new_id,
        )

    def _new_id(self) -> str:
        return f"{next(self._ids):06}"

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
        self.destinations[id_] = ready_destination(id_, self.clock())
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
        self.store.move(export_id, Status.FINISHING)
        self.store.move(export_id, Status.SUCCESSFUL)
        self.documents.delete(names.active(export_id))

    def end_all(self) -> None:
        for export in self.exports():
            if not export.ended:
                self.end(export.id)

    def last_runs(self) -> dict[str, datetime]:
        found = self.documents.blobs.get(names.SCHEDULE_RUNS)
        return ScheduleRuns.from_bytes(found[0]).last_run_at if found else {}

    def records(self) -> list[AuditRecord]:
        """What the audit log holds of the schedule, the oldest first."""
        found = [AuditRecord.from_bytes(data) for _, (data, _) in sorted(self.audit.blobs.items())]
        return [record for record in found if record.target_type == "schedule"]


def ready_destination(id_: str, now: datetime) -> Destination:
    """As somebody who has completed every step leaves it."""
    return Destination(
        id=id_,
        display_name=f"Destination {id_}",
        consent=Consent(agreed_by=ADA.name, agreed_at=now, text_version="1"),
        sign_in=SignIn(state=SignInState.CONNECTED, account_id="acc1", secret_name="mc-1"),
        audience=ChosenAudience(id="aud1", name="Customers"),
        data_matching=DataMatching(email="EMail"),
        segments=("Gold",),
        export_user=ExportUser(id=ADA.id, name=ADA.name, added_at=now),
        created_at=now,
        created_by=ADA.name,
        updated_at=now,
        updated_by=ADA.name,
    )


def own(*times: str, zone: str = "UTC", days: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schedule of a destination with a rule of its own."""
    return {"mode": "ownSchedule", "rule": {"times": list(times), "timeZone": zone, "days": list(days)}}

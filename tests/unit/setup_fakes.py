"""A destination service with everything around it in memory, for tests of destinations, the schedule and the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord
from shared.destinations.authorization import Authorizations
from shared.destinations.connections import Connections
from shared.destinations.fitting import Fitting
from shared.destinations.model import Destination
from shared.destinations.readiness import ReadinessReports
from shared.destinations.removal import Removals
from shared.destinations.requests import ConsentRequest, DestinationPatch
from shared.destinations.service import DestinationService
from shared.destinations.store import DestinationStore, StoredDestination
from shared.exports.errors import (
    AlreadyResumed,
    DestinationNotReady,
    ExportEnded,
    ExportNotEnded,
    ExportNotFound,
    ExportRunning,
)
from shared.exports.history import ExportFilter
from shared.exports.model import ENDED, Books, Problem, Status
from shared.exports.refusal_table import Refusal
from shared.exports.refusals import Refusals
from shared.exports.suppressed import Suppressed
from shared.exports.view import ExportView
from shared.mailchimp.replies import Account
from shared.people import Person
from shared.secrets.store import SecretNotFound
from shared.storage import names
from tests.unit.fake_accounts import FakeAccounts
from tests.unit.fake_documents import FakeDocuments
from tests.unit.fake_segments import FakeCounts, FakeSegments

KEY = "0123456789abcdef0123456789abcdef-us19"
OTHER_KEY = "fedcba9876543210fedcba9876543210-us19"
OTHER_ACCOUNT_KEY = "00000000000000000000000000000000-us6"
ADA = Person(id="ada-id", name="ada")
GRACE = Person(id="grace-id", name="grace")
ACCOUNTS = {
    KEY: Account("acc1", "Contoso", "owner", 0, "monthly", "1"),
    OTHER_KEY: Account("acc1", "Contoso", "owner", 0, "monthly", "1"),
    OTHER_ACCOUNT_KEY: Account("acc2", "Fabrikam", "owner", 0, "monthly", "2"),
}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class FakeClock:
    """The time of day; ``pass_`` lets it go on."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class FakeIds:
    """IDs that can be foretold."""

    def __init__(self, prefix: str = "id") -> None:
        self.count = 0
        self._prefix = prefix

    def __call__(self) -> str:
        self.count += 1
        return f"{self._prefix}{self.count:06}"


class FakeSecrets:
    """A secret store that remembers what it was asked to do."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def write(self, name: str, value: str) -> None:
        assert name not in self.values
        self.values[name] = value

    def read(self, name: str) -> str:
        if name not in self.values:
            raise SecretNotFound(name)
        return self.values[name]

    def delete(self, name: str) -> None:
        self.values.pop(name, None)

    def reachable(self) -> bool:
        return True


EVERY_EXPORT = ExportFilter()


class FakeExports:
    """The export engine's interface: exports stay Queued until a test ends them."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.views: dict[str, ExportView] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.stopped: list[tuple[str, str]] = []
        self.erased: list[str] = []
        self.csv = b"email,reason\r\n"
        self.fault: Exception | None = None
        self._clock = clock

    def start(
        self,
        destination: Destination,
        *,
        trigger: Literal["onDemand", "scheduled"],
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView:
        if self.fault is not None:
            raise self.fault
        if (known := self.keys.get((destination.id, idempotency_key or ""))) is not None:
            return self.views[known]
        if steps := destination.missing_steps():
            raise DestinationNotReady(steps)
        for view in self.views.values():
            if view.destination_id == destination.id and not view.ended:
                raise ExportRunning(view.id)
        export_id = f"export-{len(self.views) + 1}"
        if idempotency_key is not None:
            self.keys[destination.id, idempotency_key] = export_id
        self.views[export_id] = ExportView(
            id=export_id,
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            status=Status.QUEUED,
            ended=False,
            created_at=self._clock(),
            books=Books(),
        )
        return self.views[export_id]

    def resume(
        self,
        export_id: str,
        destination: Destination,
        *,
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView:
        if not self.get(export_id).ended:
            raise ExportNotEnded(export_id)
        if (resumed_by := self.views[export_id].resumed_by) is not None:
            raise AlreadyResumed(export_id, resumed_by)
        key = f"resume/{export_id}/{idempotency_key}" if idempotency_key is not None else None
        view = self.start(destination, trigger="onDemand", requested_by=requested_by, idempotency_key=key)
        self.views[export_id] = self.views[export_id].model_copy(update={"resumed_by": view.id})
        self.views[view.id] = view.model_copy(update={"resumes": export_id})
        return self.views[view.id]

    def end(self, export_id: str, status: Status = Status.SUCCESSFUL) -> None:
        assert status in ENDED
        self.views[export_id] = self.views[export_id].model_copy(update={"status": status, "ended": True})

    def get(self, export_id: str) -> ExportView:
        if self.fault is not None:
            raise self.fault
        if export_id not in self.views:
            raise ExportNotFound(export_id)
        return self.views[export_id]

    def list(
        self, wanted: ExportFilter = EVERY_EXPORT, *, before: str | None = None, top: int = 50
    ) -> list[ExportView]:
        found = [
            view
            for view in reversed(self.views.values())
            if wanted.destination_id in {None, view.destination_id}
            and (not wanted.statuses or view.status in wanted.statuses)
            and wanted.trigger in {None, view.trigger}
        ]
        behind = [view.id for view in found].index(before) + 1 if before is not None else 0
        return found[behind : behind + top]

    def record_skipped(
        self,
        destination: Destination,
        *,
        trigger: Literal["onDemand", "scheduled"],
        requested_by: Person,
        idempotency_key: str,
        problem: Problem,
    ) -> ExportView:
        if (known := self.keys.get((destination.id, idempotency_key))) is not None:
            return self.views[known]
        export_id = f"export-{len(self.views) + 1}"
        self.keys[destination.id, idempotency_key] = export_id
        self.views[export_id] = ExportView(
            id=export_id,
            destination_id=destination.id,
            destination_name=destination.display_name,
            trigger=trigger,
            requested_by=requested_by.name,
            status=Status.SKIPPED,
            ended=True,
            problem=problem,
            created_at=self._clock(),
            books=Books(),
        )
        return self.views[export_id]

    def cancel(self, export_id: str, requested_by: Person) -> ExportView:
        view = self.get(export_id)
        if view.ended:
            raise ExportEnded(export_id, view.status)
        self.stopped.append((export_id, requested_by.name))
        return view

    def rejected(self, export_id: str) -> bytes:
        self.get(export_id)
        return self.csv

    def stop_for_destination(self, destination_id: str, reason: str, code: str = "destinationRemoved") -> None:
        self.stopped.append((destination_id, reason))

    def running_of(self, destination_id: str) -> str | None:
        running = [view.id for view in self.views.values() if view.destination_id == destination_id and not view.ended]
        return running[0] if running else None

    def erase_data(self, destination_id: str) -> int:
        self.erased.append(destination_id)
        return 0


class FakeRefusals:
    """Whom Mailchimp refused, by account and audience."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], list[Refusal]] = {}

    def page(
        self, account: str, audience: str, code: str | None, behind: tuple[str, int] | None, top: int
    ) -> list[Refusal]:
        def order(each: Refusal) -> tuple[str, int]:
            return each.export_id, -each.position

        found = sorted(self.held.get((account, audience), []), key=order, reverse=True)
        after = [each for each in found if behind is None or order(each) < (behind[0], -behind[1])]
        return [each for each in after if code in {None, each.code}][:top]

    def clear(self, account: str, audience: str, emails: Sequence[str] | None) -> int:
        before = self.held.get((account, audience), [])
        wanted = None if emails is None else {email.lower() for email in emails}
        kept = [each for each in before if wanted is not None and each.email.lower() not in wanted]
        self.held[account, audience] = kept
        return len(before) - len(kept)


class FakeMessages:
    """Remembers of which removals somebody was told."""

    def __init__(self) -> None:
        self.removals: list[str] = []

    def removal(self, destination_id: str) -> None:
        self.removals.append(destination_id)


class Setup:
    """A destination service with everything around it faked, and short cuts to states of a destination."""

    def __init__(self) -> None:
        self.documents = FakeDocuments()
        self.clock = FakeClock()
        self.secrets = FakeSecrets()
        self.segments = FakeSegments(NOW)
        self.mailchimp = FakeAccounts(dict(ACCOUNTS))
        self.exports = FakeExports(self.clock)
        self.audit_documents = FakeDocuments()
        self.audit = AuditLog(self.audit_documents.as_documents())
        new_id = FakeIds()
        self.store = DestinationStore(self.documents.as_documents(), self.audit, self.clock, new_id)
        self.connections = Connections(self.store, self.secrets, self.mailchimp, clock=self.clock, new_id=new_id)
        self.authorizations = Authorizations(
            self.documents.as_documents(),
            self.store,
            self.connections,
            self.secrets,
            None,
            portal_origins=(),
            clock=self.clock,
            new_id=new_id,
        )
        self.fitting = Fitting(self.segments, self.connections)
        self.service = DestinationService(
            self.store, self.connections, self.fitting, self.exports, clock=self.clock, new_id=new_id
        )
        self.counts = FakeCounts()
        self.readiness = ReadinessReports(self.fitting, self.segments, self.counts, limit=1_000_000)
        self.refusals = FakeRefusals()
        self.suppressed = Suppressed(
            lambda: cast("Refusals", self.refusals), self.store, self.audit, clock=self.clock, new_id=new_id
        )
        self.messages = FakeMessages()
        self.removals = Removals(self.store, self.secrets, self.exports, self.messages, self.clock)

    def audit_records(self) -> list[AuditRecord]:
        """Everything that was recorded, in the order of time."""
        return [AuditRecord.from_bytes(data) for _, (data, _) in sorted(self.audit_documents.blobs.items())]

    def created(self, name: str = "Newsletter") -> StoredDestination:
        return self.service.create(name, ConsentRequest(agreed=True), ADA)

    def connected(self, name: str = "Newsletter") -> StoredDestination:
        return self.connections.sign_in_with_api_key(self.created(name).destination.id, KEY, ADA)

    def ready(self, name: str = "Newsletter", segments: Sequence[str] = ("Gold",)) -> StoredDestination:
        stored = self.service.set_export_user(self.connected(name).destination.id, ADA)
        return self.patch(
            stored,
            audienceId="aud1",
            dataMatching={"email": "EMail", "firstName": "FirstName"},
            segments=list(segments),
            everyContributor=True,
        )

    def patch(self, stored: StoredDestination, /, if_match: str | None = None, **changes: Any) -> StoredDestination:
        patch = DestinationPatch.model_validate(changes)
        return self.service.patch(stored.destination.id, patch, ADA, if_match)


def with_ledger(setup: Setup) -> str:
    """A destination that has exported, as far as its ledger shows it; returns its ID."""
    made = setup.ready().destination
    setup.documents.write(names.ledger(made.id, "aud1"), b"profiles")
    return made.id

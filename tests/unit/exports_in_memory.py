"""The service of exports over documents in memory: for what needs no Mailchimp, no segments and no queue."""

from __future__ import annotations

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
from shared.exports.model import Export, Problem, Status, Trigger, new_id
from shared.exports.pace import Paces
from shared.exports.records import ExportRecords
from shared.exports.service import ExportService
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.people import Person
from tests.unit.fake_documents import FakeDocuments

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ADA = Person(id="0001", name="ada@contoso.example")
NOT_READY = Problem(code="destinationNotReady", message="The destination is not ready.")


class NoSignals:
    """Takes every message and sends none."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: None


class NotedSignals:
    """Notes what would be sent to the queues."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def prepare(self, export_id: str, *, failures: int = 0, delay_s: float = 0) -> None:
        self.sent.append(("prepare", export_id))

    def finish(self, export_id: str) -> None:
        self.sent.append(("finish", export_id))


class ExportsInMemory:
    """``now`` is the time of day; a test sets it."""

    def __init__(self) -> None:
        self.now = NOW
        self.documents = FakeDocuments()
        self.audit_documents = FakeDocuments()
        self.signals = NotedSignals()
        self.store = ExportStore(self.documents.as_documents(), lambda: self.now)
        self.records = ExportRecords(AuditLog(self.audit_documents.as_documents()))
        self._ids = 0
        self.service = ExportService(
            self.store,
            cast("Signals", self.signals),
            self.records,
            Paces(self.documents.as_documents(), lambda: self.now, most_lanes=8),
            now=lambda: self.now,
            new_id=self._new_id,
        )

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:016x}"

    def add(
        self,
        age: timedelta = timedelta(0),
        *,
        destination: str = "d1",
        status: Status = Status.SUCCESSFUL,
        trigger: Trigger = "onDemand",
    ) -> str:
        """An export that was asked for this long ago and, if its status is a last one, ended a minute later."""
        created_at = self.now - age
        export = Export(
            id=new_id(created_at, self._new_id()),
            destination_id=destination,
            destination_name=destination,
            trigger=trigger,
            requested_by=ADA.name,
            requested_by_id=ADA.id,
            created_at=created_at,
        )
        self.store.create(export)

        def end(export: Export) -> None:
            export.status = status
            export.ended_at = created_at + timedelta(minutes=1) if export.ended else None

        self.store.change(export.id, end)
        return export.id

    def audit_records(self) -> list[AuditRecord]:
        """The audit log, the oldest record first."""
        return [AuditRecord.from_bytes(data) for _, (data, _) in sorted(self.audit_documents.blobs.items())]


def ready_destination(id_: str = "d1") -> Destination:
    """A destination to which nothing is left to do."""
    return Destination(
        id=id_,
        display_name=f"Destination {id_}",
        consent=Consent(agreed_by="ada", agreed_at=NOW, text_version="1"),
        sign_in=SignIn(
            state=SignInState.CONNECTED,
            account_id="acc1",
            api_root="https://us1.api.mailchimp.com",
            secret_name="mc-d1-1",
        ),
        audience=ChosenAudience(id="aud1", name="Newsletter"),
        data_matching=DataMatching(email="EMail", first_name="FirstName"),
        segments=("Gold",),
        export_user=ExportUser(id=ADA.id, name=ADA.name, added_at=NOW),
        created_at=NOW,
        created_by="ada",
        updated_at=NOW,
        updated_by="ada",
    )

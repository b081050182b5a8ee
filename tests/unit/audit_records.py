"""Records of the audit log, made by hand, and a log over storage that counts what is read."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord, TargetType, record_id
from shared.people import Person
from tests.unit.fake_documents import FakeDocuments
from tests.unit.setup_fakes import ADA

GRACE = Person(id="grace-id", name="Grace@contoso.example")


class CountingDocuments(FakeDocuments):
    """Counts what is read, and remembers which prefixes are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.listed: list[str] = []
        self._count = threading.Lock()

    def read(self, name: str) -> Any:
        with self._count:
            self.reads += 1
        return super().read(name)

    def names(self, prefix: str) -> Any:
        self.listed.append(prefix)
        return super().names(prefix)


def record(
    at: datetime,
    unique: str = "1",
    *,
    action: str = "destination.configured",
    who: Person = ADA,
    target: tuple[TargetType, str] = ("destination", "d1"),
) -> AuditRecord:
    kind, target_id = target
    return AuditRecord(
        id=record_id(at, unique),
        at=at,
        who=who,
        action=action,
        target_type=kind,
        target_id=target_id,
        target_name="Newsletter",
    )


def log_of(*records: AuditRecord) -> tuple[AuditLog, CountingDocuments]:
    documents = CountingDocuments()
    written = AuditLog(documents)
    for each in records:
        written.append(each)
    return written, documents

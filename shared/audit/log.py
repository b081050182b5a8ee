"""Writes the audit log: one blob per record in a container of its own, created if absent and never written again."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from shared.audit.model import AuditRecord
from shared.storage.documents import AlreadyExists, Documents

_MONTH: Final = len("YYYYMM")


def blob_name(record_id: str) -> str:
    """Records lie in a folder per month, so that the newest are found without listing all."""
    return f"{record_id[:4]}-{record_id[4:_MONTH]}/{record_id}.json"


class AuditLog:
    """The log of one installation."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def append(self, record: AuditRecord) -> None:
        """Write the record, unless it is there already: after a crash the same record is written again."""
        with suppress(AlreadyExists):
            self._documents.create(blob_name(record.id), record.to_bytes())

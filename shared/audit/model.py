"""What the audit log holds: who did what, when, and what it changed. Never a secret, never a profile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from shared.people import Person
from shared.storage.json_documents import JsonDocument

TargetType = Literal["destination", "schedule", "export"]


class Change(JsonDocument):
    """One property of the configuration, in the API's words, before and after; null where there was or is none."""

    property: str
    before: Any = None
    after: Any = None


class AuditRecord(JsonDocument):
    """One entry; written once and never changed.

    ``id`` begins with the time (``YYYYMMDDTHHMMSSffffffZ-``), so that records sort by it. Whoever writes the same
    record again, after a crash say, uses the same ID.
    """

    id: str
    at: datetime
    who: Person
    action: str
    target_type: TargetType
    target_id: str
    target_name: str
    changes: list[Change] = Field(default_factory=list)
    detail: str | None = None


def time_in_ids(at: datetime) -> str:
    """The beginning of the IDs of records of that moment; compares like the time does."""
    moment = at.astimezone(UTC)
    return f"{moment.year:04}{moment:%m%dT%H%M%S%fZ}"  # %Y does not pad years before 1000


def record_id(at: datetime, unique: str) -> str:
    """The ID of a record: the time, then something that no other record of that microsecond has."""
    return f"{time_in_ids(at)}-{unique}"

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
    """Its path in the destination or schedule."""
    before: Any = None
    """Null where there was none."""
    after: Any = None
    """Null where there is none."""


class AuditRecord(JsonDocument):
    """One entry; written once and never changed. Whoever writes the same record again, after a crash say, uses the
    same ID."""

    id: str
    """Begins with the time (``YYYYMMDDTHHMMSSffffffZ-``), so that records sort by it."""
    at: datetime
    """When it happened."""
    who: Person
    """Who did it: a person, an application, or a part of this app."""
    action: str
    """What was done, e.g. `destination.configured`."""
    target_type: TargetType
    """What kind of thing it was done to."""
    target_id: str
    """Its ID."""
    target_name: str
    """Its name at that time."""
    changes: list[Change] = Field(default_factory=list)
    """What it changed; empty where nothing of a configuration changed."""
    detail: str | None = None
    """What else there is to know, in plain words."""


def time_in_ids(at: datetime) -> str:
    """The beginning of the IDs of records of that moment; compares like the time does."""
    moment = at.astimezone(UTC)
    return f"{moment.year:04}{moment:%m%dT%H%M%S%fZ}"  # %Y does not pad years before 1000


def record_id(at: datetime, unique: str) -> str:
    """The ID of a record: the time, then something that no other record of that microsecond has."""
    return f"{time_in_ids(at)}-{unique}"

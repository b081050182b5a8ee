"""What was done to a destination, for the audit log: who did what, and what it changed, without anything secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from shared.audit.model import AuditRecord, Change, record_id
from shared.destinations.model import Destination, Removal
from shared.people import Person

_CONFIGURATION: Final = {
    "display_name",
    "consent",
    "sign_in",
    "audience",
    "data_matching",
    "segments",
    "member_status",
    "export_user",
    "enabled",
    "schedule",
    "contributors",
    "every_contributor",
    "removal",
}
_NEVER: Final = {
    "sign_in": {"secret_name", "secret_hint"},
    "removal": set(Removal.model_fields) - {"requested_by", "requested_at", "tags"},
}


def record_of(
    destination: Destination,
    action: str,
    by: Person,
    at: datetime,
    unique: str,
    *,
    changed: Sequence[Change] = (),
    detail: str | None = None,
) -> AuditRecord:
    """The record of an ``action``; ``unique`` is something that no other record of that microsecond has."""
    return AuditRecord(
        id=record_id(at, unique),
        at=at,
        who=by,
        action=action,
        target_type="destination",
        target_id=destination.id,
        target_name=destination.display_name,
        changes=list(changed),
        detail=detail,
    )


def changes(before: Destination | None, after: Destination) -> list[Change]:
    """Every property of the configuration that differs, in the API's words."""
    old, new = _configuration(before), _configuration(after)
    return [
        Change(property=name, before=old.get(name), after=new.get(name))
        for name in old | new  # also what was taken away
        if old.get(name) != new.get(name)
    ]


def _configuration(destination: Destination | None) -> dict[str, Any]:
    if destination is None:
        return {}
    return destination.model_dump(
        mode="json", by_alias=True, include=_CONFIGURATION, exclude=dict(_NEVER), exclude_none=True
    )

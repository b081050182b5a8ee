"""What a change of a destination changed, for the audit log: its configuration without anything secret."""

from __future__ import annotations

from typing import Any, Final

from shared.audit.model import Change
from shared.destinations.model import Destination, Removal

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

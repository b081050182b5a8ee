"""The plan of an export, as prepare would leave it behind."""

from __future__ import annotations

from typing import Any

from shared.exports.model import Books, Plan


def a_plan(export_id: str = "e1", **different: Any) -> Plan:
    """A plan of one lane for nobody; a test says what is different."""
    plain: dict[str, Any] = {
        "destination_id": "d1",
        "account_id": "account",
        "audience_id": "audience",
        "api_root": "https://us1.api.mailchimp.com",
        "secret_name": "mc-d1-1",
        "attempt": "1",
        "lanes": (0,),
        "members": 0,
        "batches": 1,
        "tag_ids": {},
        "segments": [],
        "invalid_reasons": {},
        "books": Books(),
    }
    return Plan(export_id=export_id, **plain | different)

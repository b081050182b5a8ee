"""What goes wrong at Mailchimp: the faults of a scenario in the form that the sandbox takes (docs/sandbox.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dev.chaos.people import SLOW

_BATCH: Final = {"method": "POST", "pathPattern": r"^/3\.0/lists/[^/]+$"}
_ANY: Final[Mapping[str, Any]] = {}

MEMBERS_REFUSED: Final[Mapping[str, Mapping[str, Any]]] = {
    "compliance": {
        "detail": "is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
    },
    "signups": {},
    "misfit": {"detail": "Your merge fields were invalid."},
    "exists": {
        "detail": "is already a list member, do you want to update? please provide update_existing:true in the "
        "request body"
    },
    "other": {"detail": "Bitte prüfen Sie diesen Kontakt."},
}
"""Refusals that the sandbox does not come to by its own rules; the others of `people.REFUSALS` it does."""

POISON: Final[Sequence[dict[str, Any]]] = (
    {"action": "rowError", "name": "poison record, named", "match": {"emailContains": "poison-named"}},
    {
        "action": "problem",
        "name": "poison record, not named",
        "preset": "invalidResource",
        "match": {"emailContains": "poison-silent"},
    },
    {
        "action": "problem",
        "name": "poison record, 500",
        "preset": "internalServerError",
        "match": {"emailContains": "poison-server"},
    },
)

PASSING: Final[Mapping[str, Mapping[str, Any]]] = {
    "429 with a body": {"action": "problem", "status": 429, "title": "Too Many Requests", "match": _ANY},
    "429 without a body": {"action": "bare", "status": 429, "match": _ANY},
    "403 in HTML": {"action": "bare", "status": 403, "match": _ANY},
    **{
        f"{status} {when}": {
            "action": "problem" if status == 500 else "bare",
            "status": status,
            "applied": when == "after",
            "match": _BATCH if when == "after" else _ANY,
        }
        for status in (500, 502, 503, 504)
        for when in ("before", "after")
    },
    "reset before": {"action": "resetBefore", "match": _ANY},
    "reset after": {"action": "resetAfter", "match": _BATCH},
    "reply cut off": {"action": "truncate", "match": _BATCH},
    "connection cut off": {"action": "truncate", "closeEarly": True, "match": _BATCH},
    "malformed reply, HTML": {"action": "malformed", "match": _BATCH},
    "malformed reply, other JSON": {"action": "malformed", "body": '{"new_members": "none"}', "match": _BATCH},
    "rows not applied": {"action": "skipRows", "rows": 3, "match": _BATCH},
    "rows not reported": {"action": "hideRows", "rows": 3, "match": _BATCH},
}
"""Faults that go by, by name. They strike every so many calls."""

HANGING: Final = "no reply beyond 120 s"
HANGS_S: Final = 150.0
SLOW_MEMBER: Final = "slow member"
SLOW_S: Final = 60.0

OUTAGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "outage, 503": {"action": "bare", "status": 503},
    "outage, 502": {"action": "bare", "status": 502},
    "outage, resets": {"action": "resetBefore"},
    "outage, 403 in HTML": {"action": "bare", "status": 403},
}

RESTRICTED: Final = {"action": "problem", "name": "call of a restricted account", "preset": "complianceRelated"}


def lasting(scale: float) -> list[dict[str, Any]]:
    """Faults of people who are taken slowly, or refused: they strike whenever these are sent, from first to last."""
    slow = {"action": "hang", "name": SLOW_MEMBER, "ms": SLOW_S * 1000 / scale, "match": {"emailContains": f"{SLOW}-"}}
    refused = [
        {"action": "memberError", "name": f"refused: {kind}", **more, "match": {"emailContains": f"{kind}-p"}}
        for kind, more in MEMBERS_REFUSED.items()
    ]
    return [*refused, slow]


def passing(kinds: Mapping[str, int]) -> list[dict[str, Any]]:
    """The faults of these kinds, each with every how many-th call it strikes."""
    return [
        {**PASSING[kind], "name": kind, "match": {**PASSING[kind]["match"], "everyNth": nth}}
        for kind, nth in kinds.items()
    ]


def hanging(scale: float, count: int) -> dict[str, Any]:
    """`count` calls that are applied and never answered, within the time that the client waits."""
    return {"action": "noReply", "name": HANGING, "ms": HANGS_S * 1000 / scale, "count": count, "match": _BATCH}


def outage(kind: str) -> dict[str, Any]:
    return {**OUTAGES[kind], "name": kind}

"""Path and header parameters that several routes share, and the ETag of a changed document."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Header, Path, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from shared.api.errors import ApiError

ID_PATTERN: Final = r"^[A-Za-z0-9-]{1,64}$"
"""IDs become parts of blob names, so nothing else gets through."""

DestinationId = Annotated[
    str, Path(alias="destinationId", pattern=ID_PATTERN, description="The `id` of a destination.")
]
ExportId = Annotated[str, Path(alias="exportId", pattern=ID_PATTERN, description="The `id` of an export.")]
AudienceId = Annotated[
    str, Path(alias="audienceId", pattern=r"^[A-Za-z0-9]{1,64}$", description="The `id` of a Mailchimp audience.")
]

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="The ETag of the version that the change is made for. Without it the newest version is changed.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Any word of your choice: the same key for the same destination starts one export only.",
    ),
]


_DATE_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:")
_ZONE: Final = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$")


def _iso_8601(value: object) -> object:
    """Seconds since 1970, which pydantic would take too, are refused. A plus sign in an address means a blank."""
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("This is not a time in ISO 8601, such as 2026-11-22T06:00:00Z.")
    return _ZONE.sub(r"\1+\2", value)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("This is not between the years 1 and 9999 in UTC.") from None


_Moment = Annotated[AwareDatetime, BeforeValidator(_iso_8601), AfterValidator(_in_utc)]
From = Annotated[
    _Moment | None,
    Query(
        alias="from", description="At this moment or later: ISO 8601 with a time zone, such as 2026-11-22T06:00:00Z."
    ),
]
To = Annotated[_Moment | None, Query(alias="to", description="Before this moment: ISO 8601 with a time zone.")]


def etag_wanted(if_match: str | None) -> str | None:
    """The one ETag of an If-Match header; None where any version will do (RFC 9110, section 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    wanted = if_match.strip()
    if "," in wanted:
        raise ApiError(422, "invalidRequest", "If-Match takes one ETag, or *.", "If-Match")
    return wanted


def request_key(idempotency_key: str | None) -> str | None:
    """The key as the engine gets it: apart from the keys of the schedule, so that no caller can take one of those."""
    return None if idempotency_key is None else f"request-{idempotency_key}"

"""From an error reply to the exception that says what to do: Mailchimp's problem documents and their classes.

Mailchimp answers errors with a problem document (RFC 9457: type, title, status, detail, instance, sometimes
`errors`). In practice `type` may be missing or "about:blank", and in front of the API sit proxies that answer with
HTML or nothing. Titles and details may be localised, so the class depends on the status and on whether there is a
JSON object; words decide only where Mailchimp leaves no other sign (Mailchimp Marketing API, "Errors": glossary;
"Fundamentals": throttling).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from shared.mailchimp.errors import (
    AccessForbidden,
    AccountRestricted,
    AudienceNotFound,
    BatchRefused,
    MailchimpError,
    Problem,
    RefusedRow,
    RequestInvalid,
    SignInRefused,
    Unavailable,
    UnavailableReason,
    without_addresses,
)
from shared.mailchimp.transport import Reply

MAX_ROWS = 500
_MAX_TEXT = 1000
_MAX_RETRY_AFTER_S = 3600.0
_ROW_FIELD = re.compile(r"members(?:_to_add|_to_remove)?\.item:([0-9]{1,4})(?:\.(.*))?", re.DOTALL)


class _Document(msgspec.Struct):
    title: Any = None
    detail: Any = None
    type: Any = None
    instance: Any = None
    errors: Any = None
    error: Any = None
    error_description: Any = None


# What a decoder makes of hostile input: not JSON or not the document, not UTF-8, 100,000 brackets deep.
UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)

_document_decoder = msgspec.json.Decoder(_Document)


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for messages and for telling one 404 from another.

    doing: ends a sentence after "while", e.g. "reading the tags"; audience_id: the audience in the path, if any; rows:
    the body holds rows that can be split.
    """

    doing: str
    audience_id: str | None = None
    rows: bool = False


def text(value: object, limit: int = _MAX_TEXT) -> str:
    """`value` if it is text, on one line and at most `limit` characters; "" for anything else."""
    if not isinstance(value, str):
        return ""
    # Cut between words: half an address would no longer be known as one.
    shortened = value if len(value) <= limit else value[:limit].rpartition(" ")[0] + "…"
    return "".join(char if char.isprintable() else " " for char in shortened).strip()


def read_problem(body: bytes) -> Problem | None:
    """The problem document in an error reply; None if the body is not a JSON object (HTML, empty, cut off)."""
    try:
        document = _document_decoder.decode(body)
    except UNDECODABLE:
        return None
    entries = document.errors if isinstance(document.errors, list) else []
    return Problem(
        title=text(document.title),
        detail=text(document.detail) or text(document.error_description),
        type=text(document.type),
        instance=text(document.instance),
        fields=tuple((text(e.get("field")), text(e.get("message"))) for e in entries if isinstance(e, dict)),
        oauth_error=text(document.error),
    )


def error_for(reply: Reply, call: Call, utc_now: Callable[[], datetime]) -> MailchimpError:
    """The exception for a reply that is not a 2xx."""
    problem = read_problem(reply.body)
    status = reply.status
    if status == 401:
        return _sign_in_refused(problem or Problem())
    if status == 403 and problem:
        return _forbidden(problem)
    if status == 404 and problem and call.audience_id is not None:
        return AudienceNotFound(call.audience_id, problem)
    if status == 503 and problem and _is_compliance(problem):
        return _restricted(problem)
    reason = _pause_reason(status, problem)
    if reason:
        return _unavailable(reason, reply, problem or Problem(), call, utc_now)
    if status in (400, 413, 422) and call.rows:
        return _batch_refused(status, problem or Problem(), call)
    return _request_invalid(status, problem or Problem(), call)


def _pause_reason(status: int, problem: Problem | None) -> UnavailableReason | None:
    if status == 429:
        return "tooManyConnections"
    if status in (403, 404) and problem is None:
        # "At exceptionally high volumes, you may receive an HTTP 429 or 403 without a JSON body."
        return "blocked"
    if 300 <= status < 400:
        return "redirected"
    if status == 408 or status >= 500 or status < 200:
        return "serverError"
    return None


def _unavailable(
    reason: UnavailableReason, reply: Reply, problem: Problem, call: Call, utc_now: Callable[[], datetime]
) -> Unavailable:
    sentences: dict[UnavailableReason, str] = {
        "tooManyConnections": "Mailchimp asks to slow down",
        "blocked": "Mailchimp turned the call away",
        "redirected": "The call was redirected to another address, which this app does not follow",
    }
    sentence = sentences.get(reason, "Mailchimp reported an error of its own")
    return Unavailable(
        f"{sentence} ({reply.status}) while {call.doing}.",
        reason=reason,
        # A 3xx may follow a request that was carried out (303 See Other), so it counts with the unknown ones.
        outcome_unknown=reason in ("serverError", "redirected"),
        status=reply.status,
        retry_after_s=retry_after_s(reply.retry_after, utc_now),
        problem=problem,
    )


def _batch_refused(status: int, problem: Problem, call: Call) -> BatchRefused:
    rows = []
    for field, message in problem.fields:
        match = _ROW_FIELD.fullmatch(field)
        if match and int(match[1]) < MAX_ROWS:
            rows.append(RefusedRow(int(match[1]), match[2] or "", message))
    named = f"; it names {len({row.row for row in rows})} of its rows" if rows else ""
    return BatchRefused(
        f"Mailchimp refused the whole call ({status} {without_addresses(problem.title, 80)}) while {call.doing}"
        f"{named}.",
        refused_rows=rows,
        status=status,
        problem=problem,
    )


def _sign_in_refused(problem: Problem) -> SignInRefused:
    return SignInRefused(
        f"Mailchimp does not accept the sign-in of this destination.{_said(problem)}",
        action="Sign in to Mailchimp again for this destination, or enter a new API key.",
        status=401,
        problem=problem,
    )


def _forbidden(problem: Problem) -> AccessForbidden:
    words = f"{problem.title} {problem.detail}".lower()
    if "datacenter" in words or "data center" in words:
        action = (
            "Enter the whole API key again, including its ending (for example -us19), or sign in to Mailchimp again."
        )
    elif "deactivated" in words or "userdisabled" in words.replace(" ", ""):
        action = "Log in to Mailchimp and reactivate the account, then start the export again."
    else:
        action = "Connect the destination with a Mailchimp user who is at least a Manager of this account."
    return AccessForbidden(
        f"Mailchimp does not allow this user to do that.{_said(problem)}",
        action=action,
        status=403,
        problem=problem,
    )


def _is_compliance(problem: Problem) -> bool:
    words = f"{problem.title} {problem.type} {problem.detail}".lower()
    return "compliancerelated" in words.replace(" ", "") or "method has been disabled" in words


def _restricted(problem: Problem) -> AccountRestricted:
    return AccountRestricted(
        f"Mailchimp has restricted this account for compliance reasons.{_said(problem)}",
        action=(
            "Log in to Mailchimp and follow the notice on the dashboard, or write to Mailchimp's compliance"
            " team. Then export again."
        ),
        status=503,
        problem=problem,
    )


def _request_invalid(status: int, problem: Problem, call: Call) -> RequestInvalid:
    return RequestInvalid(
        f"Mailchimp did not accept the call ({status}) while {call.doing}.{_said(problem)}",
        action="This is a defect of the app: tell your administrator, with the time of the call.",
        status=status,
        problem=problem,
    )


def _said(problem: Problem) -> str:
    said = without_addresses(problem.detail or problem.title)
    return f' Mailchimp says: "{said}"' if said else ""


def retry_after_s(header: str | None, utc_now: Callable[[], datetime]) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 10.2.3: seconds or a date), 0 to one hour; None if it says nothing
    usable.
    """
    if not header:
        return None
    value = header.strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
            seconds = (when.replace(tzinfo=when.tzinfo or UTC) - utc_now()).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None

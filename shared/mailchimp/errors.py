"""What can go wrong between this product and Mailchimp, as one tree: the class says what to do about it.

    MailchimpError
      ├ Unavailable            pause: slow down, back off, send the same request again, hours later if need be
      │   └ ReplyUnusable      … a 200 that cannot be read or that contradicts itself: the request may have been applied
      ├ BatchRefused           batch: nothing was applied; take the named rows out, or split, and send the others again
      ├ TagNotFound            batch: the tag was deleted meanwhile; find or create it, then send the same rows again
      ├ Stop                   stop: never retried; a person has to act first (`action` says what to do)
      │   ├ SignInRefused      … the API key or the sign-in is not accepted (any more)
      │   ├ SignInNotConfigured… this app's OAuth client id or secret is not accepted
      │   ├ AccessForbidden    … the account is deactivated, or this user may not do this
      │   ├ AccountRestricted  … Mailchimp's compliance team has disabled the account's API
      │   ├ AudienceNotFound   … the audience was deleted or belongs to another account
      │   ├ TagNameRefused     … Mailchimp does not take the name as a tag
      │   ├ ApiKeyMalformed    … what was entered cannot be an API key; no call was made
      │   └ ApiRootRefused     … an address that is not Mailchimp's; no call was made
      └ RequestInvalid         defect of this product: never retried

`str(error)` and `log_fields()` are made for logs: they hold no address and no token. What Mailchimp wrote, which may
name a contact, is in `detail` and in `BatchRefused.refused_rows`, for the rejected-profiles file only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Literal

LogValue = str | int | float | bool | None

UnavailableReason = Literal[
    "notConnected",  # name not resolved, refused, no route, TLS certificate: the request was not sent
    "connectionLost",  # reset, closed or cut off after the request may have been sent
    "timeout",  # sent, and no answer within the read timeout
    "tooManyConnections",  # 429: over ten open connections of this Mailchimp user, over all applications
    "blocked",  # 403 or 404 without JSON: throttled in front of the API
    "serverError",  # 5xx, 408
    "redirected",  # 3xx: never followed, the token stays with the host it was meant for
    "replyUnusable",  # 200, but not the document that the API describes
]

_ADDRESS = re.compile(r"\S*(?:@|\uff20|%40)\S*")
_INSTANCE = re.compile(r"[0-9A-Za-z-]{1,64}")
_TITLES = frozenset(
    {
        *("API Key Invalid", "API Key Missing", "Bad Request", "Compliance Related", "Forbidden"),
        *("Forgotten Email Not Subscribed", "Internal Server Error", "Invalid Action", "Invalid Resource"),
        *("JSON Parse Error", "Member Exists", "Member In Compliance State", "Method Not Allowed"),
        *("Resource Not Found", "Too Many Requests", "User Disabled", "User action not permitted", "Wrong Datacenter"),
    }
)
"""Titles of Mailchimp's error documents (Marketing API, "Errors"). No other goes into a log: it may hold anything."""


class FailureClass(StrEnum):
    """What the sender does about a failure. (Failures of single rows come inside a 200: `replies.RowError`.)"""

    BATCH = "batch"
    PAUSE = "pause"
    STOP = "stop"
    DEFECT = "defect"


def without_addresses(text: str, limit: int = 200) -> str:
    """`text` on one line, at most `limit` characters, everything that looks like an e-mail address replaced."""
    printable = "".join(char if char.isprintable() else " " for char in text[: limit * 8])
    redacted = " ".join(_ADDRESS.sub("<address>", printable).split())
    return redacted if len(redacted) <= limit else redacted[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document of Mailchimp (RFC 9457), whatever of it was there; missing texts are "".

    oauth_error is OAuth 2's `error` (RFC 6749 5.2).
    """

    title: str = ""
    detail: str = ""
    type: str = ""
    instance: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    oauth_error: str = ""


_NO_PROBLEM: Final = Problem()


class MailchimpError(Exception):
    """The root of everything this package raises about Mailchimp.

    title, detail and instance are those of Mailchimp's problem document, where there was one; `instance` is the number
    that Mailchimp's support asks for. `detail` may name a contact: never log it.
    """

    code: ClassVar[str] = "mailchimpError"
    failure_class: ClassVar[FailureClass] = FailureClass.DEFECT

    def __init__(
        self,
        message: str,
        *,
        action: str,
        status: int | None = None,
        problem: Problem = _NO_PROBLEM,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.status = status
        self.title = problem.title
        self.detail = problem.detail
        self.instance = problem.instance if _INSTANCE.fullmatch(problem.instance) else ""

    def log_fields(self) -> dict[str, LogValue]:
        """The facts for one log line, camelCase, free of personal data and secrets."""
        return {
            "errorCode": self.code,
            "failureClass": self.failure_class.value,
            "status": self.status,
            "title": self.title if self.title in _TITLES else "another" if self.title else "",
            "mailchimpInstance": self.instance,
        }


class Unavailable(MailchimpError):
    """Mailchimp could not be reached, throttles, or is out of order. Retried: pause, back off, send the same again.

    outcome_unknown: the request may have been applied although no usable answer came. A batch is an upsert, so it is
    sent again; a caller that counts must not count it yet. False: the request certainly was not applied.
    retry_after_s: what a Retry-After header asked for, at most an hour; Mailchimp documents none, so mostly None.
    """

    code = "mailchimpUnavailable"
    failure_class = FailureClass.PAUSE

    def __init__(
        self,
        message: str,
        *,
        reason: UnavailableReason,
        outcome_unknown: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
        problem: Problem = _NO_PROBLEM,
    ) -> None:
        super().__init__(
            message,
            action="Nothing to do: the export goes on by itself as soon as Mailchimp answers again.",
            status=status,
            problem=problem,
        )
        self.reason: UnavailableReason = reason
        self.outcome_unknown = outcome_unknown
        self.retry_after_s = retry_after_s

    def log_fields(self) -> dict[str, LogValue]:
        return super().log_fields() | {
            "reason": self.reason,
            "outcomeUnknown": self.outcome_unknown,
            "retryAfterSeconds": self.retry_after_s,
        }


class ReplyUnusable(Unavailable):
    """Mailchimp answered 2xx with something that is not the described document. Retried like any unknown outcome."""

    code = "mailchimpReplyUnusable"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, reason="replyUnusable", outcome_unknown=True, status=status)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One row that a whole-call 400 names (`members.item:N.field`). row counts from 0 within the batch, 0 to 499.

    field and message are Mailchimp's; the message may be in any language and may name the contact.
    """

    row: int
    field: str
    message: str = dataclasses.field(repr=False)


class BatchRefused(MailchimpError):
    """Mailchimp refused the whole call (400, 413, 422) and applied none of it.

    Retried without the rows numbered in `rows`; if none is named, in halves until the bad row stands alone. A row
    number may lie beyond the batch that was sent (the reply is not to be trusted): check it.
    """

    code = "batchRefused"
    failure_class = FailureClass.BATCH

    def __init__(
        self,
        message: str,
        *,
        refused_rows: Sequence[RefusedRow] = (),
        status: int | None = None,
        problem: Problem = _NO_PROBLEM,
    ) -> None:
        super().__init__(
            message,
            action=(
                "Nothing to do: the members that Mailchimp does not take are in the rejected profiles, the "
                "others are sent."
            ),
            status=status,
            problem=problem,
        )
        self.refused_rows = tuple(refused_rows)

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of the named rows, each once, ascending; empty if Mailchimp named none."""
        return tuple(sorted({refused.row for refused in self.refused_rows}))

    def message_of(self, row: int) -> str:
        """Mailchimp's own words about a named row, or about the call if it is not named. May name the contact."""
        named = [f"{refused.field}: {refused.message}" for refused in self.refused_rows if refused.row == row]
        words = named or [part for part in (self.title, self.detail) if part]
        return " ".join(words) or f"Mailchimp refused the call with status {self.status}."

    def log_fields(self) -> dict[str, LogValue]:
        return super().log_fields() | {"namedRows": len(self.rows)}


class TagNotFound(MailchimpError):
    """The tag's id is gone while the audience exists: someone deleted it.

    Retried after the tag was found or created anew.
    """

    code = "tagNotFound"
    failure_class = FailureClass.BATCH

    def __init__(self, audience_id: str, tag_id: int) -> None:
        super().__init__(
            f"Tag {tag_id} no longer exists in audience {audience_id}.",
            action="Nothing to do: the tag is created again.",
            status=404,
        )
        self.audience_id = audience_id
        self.tag_id = tag_id


class Stop(MailchimpError):
    """Going on is pointless until a person has acted; `action` is the sentence that says how. Never retried."""

    code = "stopped"
    failure_class = FailureClass.STOP


class SignInRefused(Stop):
    """401, or an OAuth error: the key or token is wrong, revoked, or of another account. Sign in again."""

    code = "signInRefused"


class SignInNotConfigured(Stop):
    """Mailchimp's sign-in does not know this app: MAILCHIMP_CLIENT_ID, MAILCHIMP_CLIENT_SECRET or the redirect
    address is wrong.
    """

    code = "signInNotConfigured"


class AccessForbidden(Stop):
    """403 with a JSON document: account deactivated, wrong data centre, or the user's role does not allow the call."""

    code = "accessForbidden"


class AccountRestricted(Stop):
    """503 "ComplianceRelated": Mailchimp has disabled the method for this account.

    Not an outage: waiting does not help.
    """

    code = "accountRestricted"


class AudienceNotFound(Stop):
    """404 on the audience: deleted, or the sign-in belongs to another account."""

    code = "audienceNotFound"

    def __init__(self, audience_id: str, problem: Problem = _NO_PROBLEM) -> None:
        super().__init__(
            f"The Mailchimp account has no audience with the ID {audience_id[:64]!r}.",
            action=(
                "Check in Mailchimp whether the audience was deleted, then choose an audience for this destination."
            ),
            status=404,
            problem=problem,
        )
        self.audience_id = audience_id


class TagNameRefused(Stop):
    """Mailchimp does not take the name as a tag (too long, or taken by a segment that is not a tag)."""

    code = "tagNameRefused"

    def __init__(self, name: str, *, status: int | None = None, problem: Problem = _NO_PROBLEM) -> None:
        super().__init__(
            f"Mailchimp does not take {without_addresses(name, 100)!r} as the name of a tag.",
            action="Rename the segment: a shorter name, which no segment of the audience has. Then export again.",
            status=status,
            problem=problem,
        )
        self.name = name


class ApiKeyMalformed(Stop):
    """The text cannot be an API key or token. Raised before any call; the text itself is in no message."""

    code = "apiKeyMalformed"


class ApiRootRefused(Stop):
    """The address is neither Mailchimp's nor the configured one. Raised before any call: no token leaves for it."""

    code = "apiRootRefused"


class RequestInvalid(MailchimpError):
    """Mailchimp says that the call itself is wrong (405, 414, 426, other 4xx): a defect of this product.

    Never retried.
    """

    code = "requestInvalid"
    failure_class = FailureClass.DEFECT

"""What an export shows when something is in its way: a code, a sentence, what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

from shared.exports.model import Problem, Status
from shared.mailchimp import MailchimpError
from shared.segments.errors import SegmentError, SourceChanged, SourceMissing, SourceUnreadable

StopStatus = Literal[Status.CANCELED, Status.FAILED, Status.SKIPPED]


class Impossible(Exception):
    """Raised when the export cannot go on as it is configured; ``problem`` says why and what to do."""

    def __init__(self, problem: Problem, status: StopStatus = Status.FAILED) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.status: StopStatus = status


_CORRECT_AND_EXPORT_AGAIN: Final = (
    "Nothing was sent. Correct this at the source or in the destination, then export again."
)
_EXPORT_AGAIN: Final = "Nothing was sent. Export again when the refresh of the segment is complete."


def from_segment_error(error: SegmentError) -> Problem:
    """The problem with a source; names the file and the row where they are known."""
    file = error.file if isinstance(error, SourceMissing | SourceChanged | SourceUnreadable) else None
    row = error.row if isinstance(error, SourceUnreadable) else None
    return Problem(
        code=error.code,
        message=str(error),
        action=_EXPORT_AGAIN if isinstance(error, SourceChanged) else _CORRECT_AND_EXPORT_AGAIN,
        file=file,
        row=row,
    )


def from_mailchimp_error(error: MailchimpError) -> Problem:
    """The problem with the account, the audience or the sign-in, with what to do about it."""
    return Problem(code=error.code, message=error.message, action=error.action)


UNAVAILABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "notConnected": "Mailchimp cannot be reached.",
        "connectionLost": "The connection to Mailchimp keeps breaking off.",
        "timeout": "Mailchimp does not answer in time.",
        "tooManyConnections": "Mailchimp reports too many open connections to this account, counting every"
        " application that uses it.",
        "blocked": "Mailchimp is turning calls away, as it does when there have been too many.",
        "serverError": "Mailchimp reports an error of its own.",
        "redirected": "Calls to Mailchimp are redirected to another address, which this app does not follow.",
        "replyUnusable": "Mailchimp's answers cannot be read.",
        "lookupsBusy": "All connections that are kept for looking things up in Mailchimp are in use.",
    }
)
"""What a reader is told by the reason of the waiting: an ``UnavailableReason``, or that we use all connections."""

_UNAVAILABLE: Final = "Mailchimp is not available."


def unavailable(reason: str) -> Problem:
    """The export waits for Mailchimp. Its own words are not shown: they say nothing to a reader."""
    return Problem(
        code="mailchimpUnavailable",
        message=UNAVAILABLE.get(reason, _UNAVAILABLE),
        action="Nothing to do: the export goes on by itself as soon as Mailchimp answers again.",
    )


def waited_too_long(since: datetime, limit: timedelta, reason: str | None) -> Problem:
    """Mailchimp was not available for the whole ``limit``. ``reason``: the sentence that was shown meanwhile."""
    hours = round(limit / timedelta(hours=1))
    return Problem(
        code="waitedTooLong",
        message=(
            f"The export waited for more than {hours} {'hour' if hours == 1 else 'hours'},"
            f" since {since.astimezone(UTC):%Y-%m-%d at %H:%M} UTC. {reason or _UNAVAILABLE}"
        ),
        action="Resume the export when Mailchimp is available again: only what has not been sent is sent then.",
    )


def internal(doing: str) -> Problem:
    """A defect or a lasting fault of the platform while ``doing`` (a sentence's end, as "preparing the export")."""
    return Problem(
        code="internalError",
        message=f"Something went wrong several times while {doing}.",
        action=(
            "Export again. If it happens again, give the export's ID to your administrator: the app's log tells more."
        ),
    )


def already_running() -> Problem:
    """Two exports of a destination at a time: this one gives way."""
    return Problem(
        code="exportRunning",
        message="Another export of this destination was running.",
        action="Wait until it has ended, then export again.",
    )


def unchanged(since: datetime) -> Problem:
    """A scheduled export that has nothing to tell Mailchimp; ``since``: when the same data were last exported."""
    return Problem(
        code="unchanged",
        message=(
            "Neither the segments nor the destination have changed since they were last exported,"
            f" on {since.astimezone(UTC):%Y-%m-%d at %H:%M} UTC. Nothing was sent."
        ),
        action="Nothing to do. Export on demand to send everything again.",
    )


def consent_withdrawn(by: str | None) -> Problem:
    """The consent went while the export was being started."""
    who = f" by {by}" if by else ""
    return Problem(
        code="consentWithdrawn",
        message=f"The consent to data privacy and compliance was withdrawn{who}.",
        action="Agree to it again in the destination, then export again.",
    )


def already_resumed(by: str) -> Problem:
    """Two exports that resume the same one: this one gives way."""
    return Problem(code="alreadyResumed", message=f"Export '{by}' has already resumed it.", action=None)


def newer_sent(newer: str) -> Problem:
    """Sending what is left would set people back to older data."""
    return Problem(
        code="newerExportSent",
        message=f"Export '{newer}' of this destination is newer and has already sent something.",
        action="Export again: resuming the older one would overwrite newer data.",
    )


def target_changed() -> Problem:
    """The destination leads somewhere else since the export that is to be resumed."""
    return Problem(
        code="resumeTargetChanged",
        message="The destination now has another Mailchimp account or audience than the export that was to be resumed.",
        action="Export again. Nothing was sent.",
    )


def remainder_gone() -> Problem:
    """What is to be sent has been deleted."""
    return Problem(
        code="resumeExpired",
        message="What the export that was to be resumed had left unsent is no longer kept.",
        action="Export again. Nothing was sent.",
    )


def removed() -> Problem:
    """The destination is gone, or going."""
    return Problem(code="destinationRemoved", message="The destination was removed.", action=None)


def not_ready(steps: Sequence[str]) -> Problem:
    """``steps`` of the set-up are missing."""
    return Problem(
        code="destinationNotReady",
        message=f"The destination is not ready. Still to do: {'; '.join(steps)}.",
        action="Complete the destination, then export again.",
    )


def merge_field_gone(tag: str) -> Problem:
    """The audience lost a merge field that is matched."""
    return Problem(
        code="mergeFieldMissing",
        message=f"The audience no longer has the merge field {tag}, which the data matching uses.",
        action="Add the merge field in Mailchimp, or take it out of the data matching. Nothing was sent.",
    )


def merge_field_changed(tag: str, type_: str) -> Problem:
    """A merge field is of a type now that its matching does not fit."""
    return Problem(
        code="mergeFieldTypeChanged",
        message=f"The merge field {tag} is now of type {type_}, which does not fit what is matched to it.",
        action="Match the field again in the destination. Nothing was sent.",
    )

"""Turns errors of segments and of Mailchimp into what an export shows: a code, a sentence, what to do."""

from __future__ import annotations

from shared.exports.model import Problem
from shared.mailchimp import MailchimpError
from shared.segments.errors import SegmentError, SourceChanged, SourceMissing, SourceUnreadable


def from_segment_error(error: SegmentError) -> Problem:
    """The problem with a source; names the file and the row where they are known."""
    file = error.file if isinstance(error, SourceMissing | SourceChanged | SourceUnreadable) else None
    row = error.row if isinstance(error, SourceUnreadable) else None
    return Problem(
        code=error.code,
        message=str(error),
        action="Nothing was sent. Mend this at the source or at the destination, then export again.",
        file=file,
        row=row,
    )


def from_mailchimp_error(error: MailchimpError) -> Problem:
    """The problem with the account, the audience or the sign-in, with what to do about it."""
    return Problem(code=error.code, message=error.message, action=error.action)


def unavailable() -> Problem:
    """Mailchimp does not answer. Its own words are not shown: they say nothing to a reader."""
    return Problem(
        code="mailchimpUnavailable",
        message="Mailchimp does not answer at the moment.",
        action="Nothing to do: the export goes on by itself as soon as Mailchimp answers again.",
    )


def internal(doing: str) -> Problem:
    """A defect or a lasting fault of the platform while ``doing`` (a sentence's end, as "preparing the export")."""
    return Problem(
        code="internalError",
        message=f"Something went wrong several times while {doing}.",
        action="Export again. If it happens again, look up the export's ID in the logs of the app.",
    )

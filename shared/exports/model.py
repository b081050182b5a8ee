"""What an export is: its states, its books, its document. Plain data; the work is done elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field

from shared.people import Person
from shared.segments.formats import PinnedSegment
from shared.storage.json_documents import JsonDocument
from shared.trace import Traceparent

MEMBERS_PER_BATCH: Final = 500
"""Members of one call (Marketing API, POST /lists/{list_id}: "Up to 500 members")."""

_TIME_OF_ID: Final = "%Y%m%dT%H%M%S%fZ"

Trigger = Literal["onDemand", "scheduled"]

BATCHES_PER_PACK: Final = 10
"""Request bodies of a lane that lie in one blob: a million members are 2,000 bodies and 200 blobs of about 1 MB."""


class Status(StrEnum):
    """The status words of Customer Insights, and ``Waiting`` while Mailchimp is unavailable."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    SENDING = "Sending"
    WAITING = "Waiting"
    FINISHING = "Finishing"
    SUCCESSFUL = "Successful"
    COMPLETED_WITH_ERRORS = "CompletedWithErrors"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELED = "Canceled"


ENDED: Final = frozenset(
    {Status.SUCCESSFUL, Status.COMPLETED_WITH_ERRORS, Status.FAILED, Status.SKIPPED, Status.CANCELED}
)

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.PREPARING, Status.FINISHING}),
        Status.PREPARING: frozenset({Status.WAITING, Status.SENDING, Status.FINISHING}),
        Status.WAITING: frozenset({Status.PREPARING, Status.SENDING, Status.FINISHING}),
        Status.SENDING: frozenset({Status.WAITING, Status.FINISHING}),
        Status.FINISHING: frozenset(
            {Status.SUCCESSFUL, Status.COMPLETED_WITH_ERRORS, Status.FAILED, Status.SKIPPED, Status.CANCELED}
        ),
        **{ended: frozenset() for ended in ENDED},
    }
)
"""The state machine. Everything that began ends through Finishing, so that its books are closed."""


class Problem(JsonDocument):
    """Why an export stopped or waits: a word for programs, a sentence for people, and what to do about it."""

    code: str
    """For programs."""
    message: str
    """For people: what happened."""
    action: str | None = None
    """What to do about it."""
    file: str | None = None
    """The file of the segment that it is about."""
    row: int | None = None
    """The row in that file, counted as a spreadsheet does."""


class Stop(JsonDocument):
    """The export is to end early as ``status``: somebody canceled it (``by``), or going on is impossible."""

    status: Literal[Status.CANCELED, Status.FAILED, Status.SKIPPED]
    problem: Problem
    at: datetime
    by: Person | None = None


class Books(JsonDocument):
    """The account of an export: every row read ends in exactly one column. All figures count profiles."""

    rows_read: int = 0
    """Rows of the chosen segments."""
    invalid: int = 0
    """Without a usable address, or with a value that does not fit its merge field."""
    duplicates: int = 0
    """The same address again in the same segment."""
    merged: int = 0
    """The same person again in another segment: one member with several tags."""
    members: int = 0
    """People to export: rowsRead less the three before."""
    unchanged: int = 0
    """Sent by an earlier export just as they are now; always 0 in this version."""
    suppressed: int = 0
    """Left alone: archived in Mailchimp by somebody, or refused for good by Mailchimp in an earlier export."""
    sent: int = 0
    """Handed over to Mailchimp."""
    not_sent: int = 0
    """Not reached, because the export ended early."""
    created: int = 0
    """New in the audience."""
    updated: int = 0
    """In the audience already."""
    rejected: int = 0
    """Refused by Mailchimp, with a reason each."""

    def outcomes(self) -> dict[str, int]:
        """The rows read by the column in which they ended, as far as there are any; those that are handed over by what
        Mailchimp answered."""
        columns = self.model_dump(by_alias=True, exclude={"rows_read", "members", "sent"})
        return {name: profiles for name, profiles in columns.items() if profiles}

    def imbalances(self) -> list[str]:
        """The equations that do not hold, written out; empty when the books balance."""
        sums = {
            "rowsRead = invalid + duplicates + merged + members": (
                self.rows_read,
                self.invalid + self.duplicates + self.merged + self.members,
            ),
            "members = unchanged + suppressed + sent + notSent": (
                self.members,
                self.unchanged + self.suppressed + self.sent + self.not_sent,
            ),
            "sent = created + updated + rejected": (self.sent, self.created + self.updated + self.rejected),
        }
        negative = [name for name, value in self.model_dump(by_alias=True).items() if value < 0]
        return [f"{name} ({left} and {right})" for name, (left, right) in sums.items() if left != right] + [
            f"{name} is negative" for name in negative
        ]


class SegmentCount(JsonDocument):
    """What became of the rows of one segment."""

    name: str
    tag: str
    """The tag in Mailchimp."""
    rows: int = 0
    """Rows read."""
    invalid: int = 0
    """As in the books."""
    duplicates: int = 0
    """As in the books."""
    merged: int = 0
    """As in the books."""
    members: int = 0
    """People whom this segment brought in first."""
    tagged: int = 0
    """All members that carry its tag."""


class Tally(JsonDocument):
    """Sums over results of batches. ``statuses`` counts the members that Mailchimp took by their status there."""

    batches: int = 0
    rows: int = 0
    created: int = 0
    updated: int = 0
    rejected: int = 0
    calls: int = 0
    resent: int = 0
    repaired_tags: int = 0
    untagged: int = 0
    statuses: dict[str, int] = Field(default_factory=dict)

    def add(self, other: Tally) -> None:
        for name in (
            "batches",
            "rows",
            "created",
            "updated",
            "rejected",
            "calls",
            "resent",
            "repaired_tags",
            "untagged",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.statuses = dict(Counter(self.statuses) + Counter(other.statuses))


class LeftOut(JsonDocument):
    """Whom an export left out because Mailchimp refuses them for good, or has learnt of that: what keeps them out."""

    until: datetime
    """When the first of them may be sent again."""
    memory: str
    """The version of what is remembered of the audience (shared/exports/refusals.py); empty if people were taken off
    it since the export left them out."""


class Export(JsonDocument):
    """One run for one destination; stored at ``exports/{id}.json`` and changed with ETag only.

    ``id`` begins with ``created_at`` (``new_id``). ``configuration`` is the fingerprint of what was configured when
    its members were written (shared/exports/fingerprints.py).
    """

    id: str
    destination_id: str
    destination_name: str
    trigger: Trigger
    requested_by: str
    requested_by_id: str = ""
    status: Status = Status.QUEUED
    problem: Problem | None = None
    stop: Stop | None = None
    created_at: datetime
    traceparent: Traceparent = None
    """The trace of the call that started it."""
    started_at: datetime | None = None
    sending_at: datetime | None = None
    finishing_at: datetime | None = None
    waiting_since: datetime | None = None
    """Since when Mailchimp has been unavailable for this export; None once something was sent, or the end began."""
    resume_at: datetime | None = None
    """While preparing waits for Mailchimp: when its next message comes."""
    ended_at: datetime | None = None
    resumes: str | None = None
    """The ID of the export that it resumes."""
    continues: str | None = None
    """The ID of the export whose plan it goes on with; None where it reads the segments."""
    resumed_by: str | None = None
    """The ID of the export that resumes it."""
    resumable_until: datetime | None = None
    """Until when what it has not sent is kept; None where nothing is left, or it has been deleted."""
    account_id: str | None = None
    audience_id: str | None = None
    configuration: str | None = None
    sources: list[PinnedSegment] = Field(default_factory=list)
    segments: list[SegmentCount] = Field(default_factory=list)
    invalid_reasons: dict[str, int] = Field(default_factory=dict)
    suppressed_reasons: dict[str, int] = Field(default_factory=dict)
    rejected_reasons: dict[str, int] = Field(default_factory=dict)
    contact_statuses: dict[str, int] = Field(default_factory=dict)
    books: Books = Field(default_factory=Books)
    calls: int = 0
    resent_batches: int = 0
    repaired_tags: int = 0
    untagged: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def requester(self) -> Person:
        """Who, or what, started it."""
        return Person(id=self.requested_by_id, name=self.requested_by)


def seconds_between(start: datetime, end: datetime) -> float:
    """How long something took, in seconds. Two hosts may have looked at their clocks: it never took less than none."""
    return max(0.0, (end - start).total_seconds())


def new_id(at: datetime, unique: str) -> str:
    """The ID of an export that was asked for at this moment: IDs sort by time."""
    return f"{at.astimezone(UTC):{_TIME_OF_ID}}-{unique}"


def time_of(export_id: str) -> datetime:
    """The moment in an export's ID. Raises ValueError for anything else."""
    return datetime.strptime(export_id.partition("-")[0], _TIME_OF_ID).replace(tzinfo=UTC)


class Plan(JsonDocument):
    """What prepare decided: immutable, created once; the lanes and finish work from it alone."""

    export_id: str
    destination_id: str
    account_id: str
    audience_id: str
    api_root: str
    secret_name: str
    attempt: str
    """Which delivery of the prepare message wrote the bodies."""
    configuration: str | None = None
    traceparent: Traceparent = None
    """The export's."""
    lanes: tuple[int, ...]
    members: int
    """Members to send; the books' members less those that are suppressed."""
    batches: int
    tag_ids: dict[str, int]
    segments: list[SegmentCount]
    invalid_reasons: dict[str, int]
    suppressed_reasons: dict[str, int] = Field(default_factory=dict)
    left_out: LeftOut | None = None
    books: Books

    def books_with(self, tally: Tally) -> Books:
        """The books after the results of ``tally``; whoever has none counts as not sent.

        ``sent`` is what was handed over, the other three are what Mailchimp answered: their balance is a check.
        """
        sent = {
            "sent": tally.rows,
            "not_sent": self.members - tally.rows,
            "created": tally.created,
            "updated": tally.updated,
            "rejected": tally.rejected,
        }
        return self.books.model_copy(update=sent)

    def batches_of(self, lane: int) -> range:
        """The batches of a lane: dealt round-robin, so that all lanes end at about the same time."""
        return range(self.lanes.index(lane), self.batches, len(self.lanes))

    def place_of(self, batch: int) -> tuple[int, int]:
        """The pack of its lane in which the body of ``batch`` lies, and the line there, both from 0."""
        return divmod(batch // len(self.lanes), BATCHES_PER_PACK)


class RejectedRow(JsonDocument):
    """A member that Mailchimp refused. ``position`` counts within the batch from 0."""

    position: int | None
    email: str
    code: str
    message: str
    action: str
    retryable: bool


class BatchResult(JsonDocument):
    """What became of one batch; created once, so that nothing is counted twice."""

    batch: int
    lane: int
    rows: int
    created: int
    updated: int
    rejected: list[RejectedRow]
    statuses: dict[str, int] = Field(default_factory=dict)
    calls: int
    repaired_tags: int = 0
    untagged: int = 0
    resent: bool = False
    sent_at: datetime
    ended_at: datetime

    def tally(self) -> Tally:
        return Tally(
            batches=1,
            rows=self.rows,
            created=self.created,
            updated=self.updated,
            rejected=len(self.rejected),
            calls=self.calls,
            resent=int(self.resent),
            repaired_tags=self.repaired_tags,
            untagged=self.untagged,
            statuses=self.statuses,
        )

"""What the portal sees of an export: its document plus progress, speed and time left."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from shared.exports.model import Books, Export, Problem, SegmentCount, Status, seconds_between
from shared.exports.resume import is_resumable
from shared.exports.waiting import WaitView, wait_of
from shared.segments.formats import PinnedSegment
from shared.storage.json_documents import JsonDocument


class Progress(JsonDocument):
    """How far the sending is."""

    members_done: int
    """Members sent so far."""
    members_total: int
    """Members to send."""
    percent: float
    """0 to 100."""
    members_per_second: float | None = None
    """Null while nothing can be said."""
    seconds_left: float | None = None
    """Null while nothing can be said, and while Mailchimp is unavailable."""
    batches_done: int
    """Batches of up to 500 members sent so far."""
    batches_total: int
    """Batches to send."""


class PaceView(JsonDocument):
    """How fast members are sent to the Mailchimp account at the moment, over all its exports."""

    lanes: int
    """Connections that may send now."""
    most_lanes: int
    """Connections that may send at best."""
    rows_per_call: int
    """Members that a call may hold now."""
    slowed_down_at: datetime | None = None
    """When Mailchimp asked for less; null when that is long ago."""
    reason: str | None = None
    """Why it was slowed down: `tooManyConnections`, `blocked` or `serverError`."""


class ExportView(JsonDocument):
    """One export: where it stands, and what became of every row."""

    id: str
    destination_id: str
    """The destination's ID."""
    destination_name: str
    """Its display name when the export began."""
    trigger: str
    """`onDemand` or `scheduled`."""
    requested_by: str
    """Who started it, or `schedule`."""
    status: Status
    """Where it stands."""
    ended: bool
    """Whether it has ended: then nothing changes any more."""
    problem: Problem | None = None
    """Why it stopped, waits or was skipped; null while all is well."""
    waiting: WaitView | None = None
    """Null unless it waits for Mailchimp."""
    created_at: datetime
    """When it was started."""
    started_at: datetime | None = None
    """When it began to read the segments."""
    ended_at: datetime | None = None
    """Null while it runs."""
    resumes: str | None = None
    """The ID of the export whose rest it sends."""
    resumed_by: str | None = None
    """The ID of the export that sends its rest."""
    resumable_until: datetime | None = None
    """Until when it can be resumed; null where it cannot be."""
    seconds: float | None = None
    """From `createdAt` to its end, or to now."""
    audience_id: str | None = None
    """Mailchimp's ID of the audience that it sends to."""
    segments: list[SegmentCount] = Field(default_factory=list)
    """What became of the rows of each segment."""
    sources: list[PinnedSegment] = Field(default_factory=list)
    """The version of each segment that was read."""
    progress: Progress | None = None
    """Null before anything is sent, when it has ended, and in lists."""
    pace: PaceView | None = None
    """Null before anything is sent, when it has ended, and in lists."""
    books: Books
    """The account of all rows."""
    invalid_reasons: dict[str, int] = Field(default_factory=dict)
    """By reason, how many rows were not usable."""
    suppressed_reasons: dict[str, int] = Field(default_factory=dict)
    """By reason, how many members were left alone."""
    rejected_reasons: dict[str, int] = Field(default_factory=dict)
    """By reason, how many members Mailchimp refused."""
    contact_statuses: dict[str, int] = Field(default_factory=dict)
    """By status in Mailchimp, how many members it took."""
    calls: int = 0
    """Calls to Mailchimp that it made."""
    resent_batches: int = 0
    """Batches of which a call was made again because its outcome was unknown."""
    repaired_tags: int = 0
    """Tags that had to be set with a further call."""
    untagged: int = 0
    """Tags that could not be set; the members themselves arrived."""


def view_of(
    export: Export,
    progress: Progress | None,
    now: datetime,
    pace: PaceView | None = None,
    next_try_at: datetime | None = None,
) -> ExportView:
    """The view of ``export``; ``seconds`` runs until now while it has not ended. ``next_try_at``: when its lanes try
    Mailchimp next, if they rest."""
    problem = export.stop.problem if export.stop is not None and not export.ended else export.problem
    return ExportView(
        **export.model_dump(
            include=set(ExportView.model_fields) & set(Export.model_fields) - {"problem", "resumable_until"}
        ),
        resumable_until=export.resumable_until if is_resumable(export, now) else None,
        ended=export.ended,
        problem=problem,
        waiting=wait_of(export, next_try_at, now),
        seconds=round(seconds_between(export.created_at, export.ended_at or now), 3),
        progress=progress,
        pace=pace,
    )

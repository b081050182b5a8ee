"""What the portal sees of an export: its document plus progress, speed and time left."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from shared.exports.model import Books, Export, Problem, SegmentCount, Status
from shared.segments.formats import PinnedSegment
from shared.storage.json_documents import JsonDocument


class Progress(JsonDocument):
    """How far the sending is. ``members_per_second`` and ``seconds_left`` are null while nothing can be said."""

    members_done: int
    members_total: int
    percent: float
    members_per_second: float | None = None
    seconds_left: float | None = None
    batches_done: int
    batches_total: int


class ExportView(JsonDocument):
    """One export as the API answers it.

    ``requested_by``: who started it, or ``schedule``. ``sources``: the version of each segment that was read.
    ``seconds``: from ``created_at`` to its end, or to now. ``problem``: why it stopped, waits or was skipped.
    """

    id: str
    destination_id: str
    destination_name: str
    trigger: str
    requested_by: str
    status: Status
    ended: bool
    problem: Problem | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    audience_id: str | None = None
    segments: list[SegmentCount] = Field(default_factory=list)
    sources: list[PinnedSegment] = Field(default_factory=list)
    progress: Progress | None = None
    books: Books
    invalid_reasons: dict[str, int] = Field(default_factory=dict)
    rejected_reasons: dict[str, int] = Field(default_factory=dict)
    contact_statuses: dict[str, int] = Field(default_factory=dict)
    calls: int = 0
    resent_batches: int = 0
    repaired_tags: int = 0
    untagged: int = 0


def view_of(export: Export, progress: Progress | None, now: datetime) -> ExportView:
    """The view of ``export``; ``seconds`` runs until now while it has not ended."""
    problem = export.stop.problem if export.stop is not None and not export.ended else export.problem
    return ExportView(
        **export.model_dump(include=set(ExportView.model_fields) & set(Export.model_fields) - {"problem"}),
        ended=export.ended,
        problem=problem,
        seconds=round(((export.ended_at or now) - export.created_at).total_seconds(), 3),
        progress=progress,
    )

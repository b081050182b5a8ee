"""Segments in memory, and what earlier exports counted in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.destinations.model import Destination
from shared.segments.catalog import SegmentDetail, SegmentSummary, SourceFile
from shared.segments.errors import SegmentNotFound
from shared.segments.formats import PinnedSegment
from shared.segments.matching import SegmentField, suggest_matching


class FakeSegments:
    """Segments by name, each with the names of its fields."""

    def __init__(self, refreshed_at: datetime) -> None:
        self._refreshed_at = refreshed_at
        self.fields = {
            "Gold": ["CustomerId", "EMail", "FirstName", "LastName", "City"],
            "Silver": ["CustomerId", "EMail", "FirstName"],
        }
        self.reasons: dict[str, str] = {}
        self.faults: dict[str, Exception] = {}

    def list(self) -> list[SegmentSummary]:
        if "" in self.faults:
            raise self.faults[""]
        return [self.describe(name).summary for name in sorted(self.fields)]

    def pin(self, names: Sequence[str]) -> Sequence[PinnedSegment]:
        for name in names:
            self.describe(name)
        return [PinnedSegment(name=name, kind="csv", model=None, columns=None, files=()) for name in names]

    def describe(self, name: str) -> SegmentDetail:
        if name in self.faults:
            raise self.faults[name]
        if name not in self.fields:
            raise SegmentNotFound(name)
        reason = self.reasons.get(name)
        fields = tuple(SegmentField(each, "string") for each in self.fields[name])
        return SegmentDetail(
            SegmentSummary(name, "csv", reason is None, reason, self._refreshed_at, 1, 1000),
            fields,
            (SourceFile(f"{name}/data.csv", 1000, self._refreshed_at),),
            suggest_matching(fields),
        )


class FakeCounts:
    """What earlier exports counted, as a test says."""

    def __init__(self) -> None:
        self.rows_of: dict[str, int] = {}
        self.distinct: int | None = None

    def rows(self, pinned: PinnedSegment) -> int | None:
        return self.rows_of.get(pinned.name)

    def members(self, destination: Destination, pinned: Sequence[PinnedSegment]) -> int | None:
        return self.distinct

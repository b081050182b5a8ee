"""Routes of segments: what there is to export."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path

from shared.api.answers import READS_SEGMENTS, errors
from shared.api.auth import Viewer
from shared.api.services import Services
from shared.storage.json_documents import JsonDocument

if TYPE_CHECKING:
    from shared.segments.catalog import SegmentDetail, SegmentSummary


class SegmentView(JsonDocument):
    """A segment in a list; ``reason`` says why it is not exportable. ``sizeBytes`` is of its files as stored."""

    name: str
    kind: str
    exportable: bool
    reason: str | None = None
    refreshed_at: datetime | None = None
    file_count: int
    size_bytes: int | None = None


class FieldView(JsonDocument):
    """A field of a segment; ``semanticType`` is what its source says that it means."""

    name: str
    data_type: str
    semantic_type: str | None = None


class FileView(JsonDocument):
    """A file of a segment; ``name`` is that of the blob in its container."""

    name: str
    size_bytes: int
    last_modified: datetime


class SuggestionView(JsonDocument):
    """The fields that look like Email, First name and Last name; null where none does."""

    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class SegmentDetailView(SegmentView):
    """A segment with its fields and files, and a data matching to begin with."""

    fields: list[FieldView]
    files: list[FileView]
    suggested_data_matching: SuggestionView


class SegmentList(JsonDocument):
    """All segments that were found, by name."""

    value: list[SegmentView]


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/segments``."""
    router = APIRouter(prefix="/api/segments", tags=["segments"])

    @router.get("", responses=errors(*READS_SEGMENTS))
    def list_segments(_: Viewer) -> SegmentList:
        """The segments in storage, when they were last refreshed, and their size."""
        return SegmentList(value=[_summary(segment) for segment in services.segments.list()])

    @router.get("/{name}", responses=errors("segmentNotFound", *READS_SEGMENTS))
    def get_segment(
        name: Annotated[str, Path(min_length=1, max_length=512, description="The `name` of a segment.")], _: Viewer
    ) -> SegmentDetailView:
        """One segment: its fields, its files, and which fields look like Email, First name and Last name."""
        return _detail(services.segments.describe(name))

    return router


def _summary(segment: SegmentSummary) -> SegmentView:
    return SegmentView(
        name=segment.name,
        kind=segment.kind,
        exportable=segment.exportable,
        reason=segment.reason,
        refreshed_at=segment.refreshed_at,
        file_count=segment.files,
        size_bytes=segment.size_bytes,
    )


def _detail(detail: SegmentDetail) -> SegmentDetailView:
    suggested = detail.suggested_matching
    return SegmentDetailView(
        **_summary(detail.summary).model_dump(),
        fields=[FieldView(name=f.name, data_type=f.data_type, semantic_type=f.semantic_type) for f in detail.fields],
        files=[FileView(name=f.name, size_bytes=f.size_bytes, last_modified=f.last_modified) for f in detail.files],
        suggested_data_matching=SuggestionView(
            email=suggested.email, first_name=suggested.first_name, last_name=suggested.last_name
        ),
    )

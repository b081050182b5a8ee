"""Routes of segments: what there is to export."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request

from shared.api.answers import READS_SEGMENTS, errors
from shared.api.auth import Viewer
from shared.api.paging import DEFAULT_TOP, After, Key, Page, Top, behind, cut_page, decode
from shared.api.services import Services
from shared.storage.json_documents import JsonDocument

if TYPE_CHECKING:
    from shared.segments.catalog import SegmentDetail, SegmentSummary


class SegmentView(JsonDocument):
    """A segment in storage."""

    name: str
    kind: str
    """How it is written: `commonDataModel`, `csv` or `parquet`."""
    exportable: bool
    """Whether a destination can export it."""
    reason: str | None = None
    """Why it cannot be exported; null where it can."""
    refreshed_at: datetime | None = None
    """When its source wrote it last."""
    file_count: int
    """Files that make it up."""
    size_bytes: int | None = None
    """Of its files as stored; null where that is not known."""


class FieldView(JsonDocument):
    """A field of a segment."""

    name: str
    data_type: str
    """As its source calls it, e.g. string, int64."""
    semantic_type: str | None = None
    """What its source says that it means, e.g. `Identity.Service.Email`."""


class FileView(JsonDocument):
    """A file of a segment."""

    name: str
    """Of the blob in its container."""
    size_bytes: int
    """As stored."""
    last_modified: datetime
    """When the blob was written."""


class SuggestionView(JsonDocument):
    """The fields that look like Email, First name and Last name."""

    email: str | None = None
    """Looks like the e-mail address; null where no field does."""
    first_name: str | None = None
    """Looks like the first name; null where no field does."""
    last_name: str | None = None
    """Looks like the last name; null where no field does."""


class SegmentDetailView(SegmentView):
    """A segment with its fields and files, and a data matching to begin with."""

    fields: list[FieldView]
    """In the order of the source."""
    files: list[FileView]
    """Every file of it."""
    suggested_data_matching: SuggestionView
    """A data matching to begin with."""


class SegmentList(Page):
    """Segments that were found, by name."""

    value: list[SegmentView]
    """Ordered by name."""


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/segments``."""
    router = APIRouter(prefix="/api/segments", tags=["segments"])

    @router.get("", responses=errors(*READS_SEGMENTS))
    def list_segments(_: Viewer, request: Request, top: Top = DEFAULT_TOP, after: After = None) -> SegmentList:
        """The segments in storage by name, when they were last refreshed, and their size."""
        found = behind(services.segments.list(), _key, decode(after, 1))
        page = cut_page(found, _key, top=top, request=request, public_url=services.settings.public_url)
        return SegmentList(value=[_summary(each) for each in page.items], next_link=page.next_link)

    @router.get("/{name:path}", responses=errors("segmentNotFound", *READS_SEGMENTS))
    def get_segment(
        name: Annotated[str, Path(min_length=1, max_length=512, description="The `name` of a segment.")], _: Viewer
    ) -> SegmentDetailView:
        """One segment: its fields, its files, and which fields look like Email, First name and Last name.

        A name may hold slashes: two segments of one name are told apart by their folders.
        """
        return _detail(services.segments.describe(name))

    return router


def _key(segment: SegmentSummary) -> Key:
    return (segment.name,)


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

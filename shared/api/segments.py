"""Routes of segments: what there is to export."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from shared.api.auth import Viewer
from shared.api.services import Services
from shared.segments.formats import SegmentDescription, SegmentSummary
from shared.storage.json_documents import JsonDocument


class SegmentList(JsonDocument):
    """All segments that were found."""

    value: list[SegmentSummary]


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/segments``."""
    router = APIRouter(prefix="/api/segments", tags=["segments"])

    @router.get("")
    def list_segments(_: Viewer) -> SegmentList:
        """The segments in storage, when they were last refreshed, and their size."""
        return SegmentList(value=list(services.segments.list()))

    @router.get("/{name}")
    def get_segment(name: Annotated[str, Path(min_length=1, max_length=512)], _: Viewer) -> SegmentDescription:
        """One segment: its fields, its files, and which fields look like Email, First name and Last name."""
        return services.segments.describe(name)

    return router

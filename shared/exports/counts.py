"""What earlier exports have counted."""

from __future__ import annotations

from collections.abc import Sequence

from shared.destinations.model import Destination
from shared.exports.store import ExportStore
from shared.segments.formats import PinnedSegment
from shared.storage.documents import Documents


class KnownCounts:
    """Counts of the present version of segments, as far as exports have made them."""

    def __init__(self, documents: Documents, store: ExportStore) -> None:
        self._documents = documents
        self._store = store

    def rows(self, pinned: PinnedSegment) -> int | None:
        return None

    def members(self, destination: Destination, pinned: Sequence[PinnedSegment]) -> int | None:
        return None

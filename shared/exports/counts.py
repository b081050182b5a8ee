"""How many rows a version of a segment has, and how many people a destination's segments hold: known from exports.

Prepare writes both when it has loaded the segments, also when the export then fails. So the size of an export can be
told before it starts, without reading the segments once more, as long as nothing has changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from shared.destinations.model import Destination
from shared.exports import fingerprints
from shared.exports.store import ExportStore
from shared.segments.formats import PinnedSegment
from shared.storage import names
from shared.storage.documents import AlreadyExists, Documents
from shared.storage.json_documents import JsonDocument

_WRITES_AT_ONCE: Final = 8


class _Count(JsonDocument):
    count: int


def known_rows(documents: Documents, pinned: PinnedSegment) -> int | None:
    """How many rows this version of the segment has; None when no export of the retention time has read it."""
    return _read(documents, names.segment_rows(fingerprints.of_segment(pinned)))


def last_members(store: ExportStore, destination: Destination, pinned: Sequence[PinnedSegment]) -> int | None:
    """How many people the destination's newest export found (``books.members``) in exactly these versions of its
    segments, ``pinned`` in their order, with the same Email field; None when none of the retention time has."""
    name = names.destination_members(destination.id, fingerprints.of_people(destination, pinned))
    return _read(store.documents, name)


class KnownCounts:
    """The counts as the readiness report asks for them."""

    def __init__(self, store: ExportStore) -> None:
        self._store = store

    def rows(self, pinned: PinnedSegment) -> int | None:
        return known_rows(self._store.documents, pinned)

    def members(self, destination: Destination, pinned: Sequence[PinnedSegment]) -> int | None:
        return last_members(self._store, destination, pinned)


def remember_rows(documents: Documents, pinned: Sequence[PinnedSegment], rows: Sequence[int]) -> None:
    """Note the rows of each segment. A version never changes, so the first note stays."""

    def note(segment: PinnedSegment, count: int) -> None:
        with suppress(AlreadyExists):
            documents.create(names.segment_rows(fingerprints.of_segment(segment)), _Count(count=count).to_bytes())

    with ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="counts") as pool:
        list(pool.map(note, pinned, rows))


def remember_members(
    documents: Documents, destination: Destination, pinned: Sequence[PinnedSegment], members: int
) -> None:
    """Note the people of an export; the newest note stays, because the audience's merge fields have a say in it."""
    name = names.destination_members(destination.id, fingerprints.of_people(destination, pinned))
    documents.write(name, _Count(count=members).to_bytes())


def _read(documents: Documents, name: str) -> int | None:
    found = documents.read(name)
    return _Count.from_bytes(found.data).count if found else None

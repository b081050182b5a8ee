"""Short texts that tell whether something is still the same: the version of a segment, and what is configured.

They are SHA-256 of JSON, so they can be part of a blob's name, and tell nothing to who reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from shared.destinations.model import Destination
from shared.segments.formats import PinnedSegment


def of_segment(pinned: PinnedSegment) -> str:
    """Which bytes are read for a segment, and how: its name, its columns, and the version of each file.

    The version of ``model.json`` is not in it: it names other segments too, and changes when one of those does.
    """
    files = [
        (file.name, file.snapshot, file.etag, file.csv.model_dump() if file.csv else None) for file in pinned.files
    ]
    return _hash(["segment", pinned.name, pinned.kind, pinned.columns, files])


def of_sources(pinned: Sequence[PinnedSegment]) -> str:
    """The segments of an export, in their order: of several rows of one person the first counts."""
    return _hash(["sources", [of_segment(each) for each in pinned]])


def of_people(destination: Destination, pinned: Sequence[PinnedSegment]) -> str:
    """What decides how many people the segments hold: the segments, and the field with the address."""
    email = destination.data_matching.email if destination.data_matching else None
    return _hash(["people", of_sources(pinned), email])


def of_configuration(destination: Destination) -> str:
    """What decides what is sent, beside the data: account, audience, data matching, segments, member status."""
    matching = destination.data_matching
    return _hash(
        [
            "configuration",
            destination.sign_in.account_id,
            destination.audience.id if destination.audience else None,
            matching.model_dump() if matching else None,
            destination.segments,
            destination.member_status,
        ]
    )


def _hash(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

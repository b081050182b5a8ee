"""What an upgrade and a roll back rely on: stored documents of version 0.1 are read, and what is unknown is ignored.

A test fails here if a property became required, was renamed, or changed its type: give a new one a default, and keep
reading the old one. tests/unit/stored/version_0_1.json follows the code until 0.1 is released. From then on it never
changes, and later versions get a file of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.audit.model import AuditRecord
from shared.destinations.authorization import Authorization
from shared.destinations.loose_secrets import LooseSecret
from shared.destinations.model import Destination
from shared.exports.closed_books import ClosedBooks
from shared.exports.messages import ExportMessage, RemovalMessage, WakeMessage
from shared.exports.model import BatchResult, Export, Plan
from shared.exports.refusals import MemoryNote
from shared.exports.store import CurrentExport
from shared.exports.unchanged import Sent
from shared.exports.untag_progress import Progress
from shared.schedule.model import ScheduleRuns, StoredSchedule
from shared.storage.json_documents import JsonDocument

STORED: dict[str, type[JsonDocument]] = {
    kind.__name__: kind
    for kind in (
        AuditRecord,
        Authorization,
        BatchResult,
        ClosedBooks,
        CurrentExport,
        Destination,
        Export,
        ExportMessage,
        LooseSecret,
        MemoryNote,
        Plan,
        RemovalMessage,
        ScheduleRuns,
        Sent,
        StoredSchedule,
        WakeMessage,
    )
} | {"UntagProgress": Progress}
DOCUMENTS: dict[str, Any] = json.loads((Path(__file__).parent / "stored/version_0_1.json").read_text(encoding="utf-8"))

every_document = pytest.mark.parametrize("name", sorted(DOCUMENTS))


def with_something_new(value: Any) -> Any:
    """The document as a later version may write it: each object of ours has a property that nobody knows yet."""
    match value:
        case dict() if any(key[:1].islower() for key in value):
            return {**{key: with_something_new(item) for key, item in value.items()}, "fromALaterVersion": {"v": 2}}
        case list():
            return [with_something_new(item) for item in value]
        case _:
            return value


COUNTS = {
    "invalidReasons",
    "suppressedReasons",
    "rejectedReasons",
    "contactStatuses",
    "statuses",
    "lastRunAt",
    "folded",
}
"""Objects whose keys are data: a later version adds no property to them."""


def without_new_counts(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: {name: n for name, n in item.items() if name != "fromALaterVersion"}
                if key in COUNTS
                else without_new_counts(item)
                for key, item in value.items()
            }
        case list():
            return [without_new_counts(item) for item in value]
        case _:
            return value


def held(expected: Any, found: Any) -> bool:
    """Whether everything of ``expected`` is in ``found``, which may hold more."""
    match expected:
        case dict():
            return isinstance(found, dict) and all(key in found and held(expected[key], found[key]) for key in expected)
        case list():
            return isinstance(found, list) and len(found) == len(expected) and all(map(held, expected, found))
        case _:
            return bool(expected == found)


def test_every_kind_of_stored_document_has_its_example() -> None:
    assert set(DOCUMENTS) == set(STORED)


@every_document
def test_a_document_of_version_0_1_is_read_and_nothing_of_it_is_lost(name: str) -> None:
    document = STORED[name].from_bytes(json.dumps(DOCUMENTS[name]).encode())
    assert held(DOCUMENTS[name], json.loads(document.to_bytes()))


@every_document
def test_a_document_of_a_later_version_is_read_without_what_is_new(name: str) -> None:
    later = without_new_counts(with_something_new(DOCUMENTS[name]))
    assert "fromALaterVersion" in later
    document = STORED[name].from_bytes(json.dumps(later).encode())
    assert document == STORED[name].from_bytes(json.dumps(DOCUMENTS[name]).encode())

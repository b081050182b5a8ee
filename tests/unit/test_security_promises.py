"""Promises of docs/security.md that no other area's tests speak of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.api.auth import Principal, Role, require_open
from shared.api.errors import ApiError
from shared.audit.log import AuditLog, blob_name
from shared.audit.model import AuditRecord
from shared.destinations.model import Consent, Destination
from shared.people import Person
from tests.unit.fake_documents import FakeDocuments

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADA, EVE = Person(id="1", name="ada"), Person(id="2", name="eve")


def destination(*contributors: Person, every: bool = False) -> Destination:
    return Destination(
        id="d1",
        display_name="Spring",
        consent=Consent(agreed_by="ada", agreed_at=NOW, text_version="1"),
        contributors=contributors,
        every_contributor=every,
        created_at=NOW,
        created_by="ada",
        updated_at=NOW,
        updated_by="ada",
    )


def test_a_contributor_cannot_use_a_destination_that_was_not_given_to_them() -> None:
    with pytest.raises(ApiError) as refusal:
        require_open(destination(ADA), Principal(EVE, Role.CONTRIBUTOR))
    assert (refusal.value.status, refusal.value.code) == (403, "notShared")
    require_open(destination(ADA), Principal(ADA, Role.CONTRIBUTOR))
    require_open(destination(every=True), Principal(EVE, Role.CONTRIBUTOR))
    require_open(destination(), Principal(EVE, Role.ADMINISTRATOR))


def test_a_caller_without_an_object_id_is_given_nothing_by_the_empty_one() -> None:
    nameless = Person(id="", name="ada")
    with pytest.raises(ApiError):
        require_open(destination(nameless), Principal(nameless, Role.CONTRIBUTOR))


def test_a_record_of_the_audit_log_cannot_be_written_again() -> None:
    documents = FakeDocuments()
    log = AuditLog(documents.as_documents())
    record = AuditRecord(
        id="20260301T000000000000Z-1",
        at=NOW,
        who=EVE,
        action="destination.removed",
        target_type="destination",
        target_id="d1",
        target_name="Spring",
    )
    log.append(record)
    log.append(record.model_copy(update={"who": ADA}))
    (kept,) = documents.blobs.values()
    assert AuditRecord.from_bytes(kept[0]).who == EVE
    assert list(documents.blobs) == [blob_name(record.id)]

"""The audit log: what a change leaves, whatever dies in between, and that nothing takes it away again."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.audit.log import AppendOnly, AuditLog
from shared.destinations.errors import DestinationChanged, DestinationError
from shared.destinations.requests import ConsentRequest, DestinationPatch
from tests.unit.audit_records import GRACE, log_of, record
from tests.unit.setup_fakes import ADA, KEY, NOW, Setup

# -- what a change leaves ------------------------------------------------------------------------------------------


def test_a_change_leaves_who_what_when_before_and_after() -> None:
    setup = Setup()
    stored = setup.created()
    setup.clock.pass_(seconds=5)
    setup.service.patch(stored.destination.id, DestinationPatch.model_validate({"displayName": "Weekly"}), GRACE)
    left = setup.audit_records()[-1]
    assert (left.who, left.action, left.at) == (GRACE, "destination.configured", NOW + timedelta(seconds=5))
    assert (left.target_type, left.target_id, left.target_name) == ("destination", stored.destination.id, "Weekly")
    (change,) = left.changes
    assert (change.property, change.before, change.after) == ("displayName", "Newsletter", "Weekly")


@pytest.mark.parametrize(("name", "cleared"), [("audience", "audienceId"), ("dataMatching", "dataMatching")])
def test_what_is_taken_away_is_recorded_too(name: str, cleared: str) -> None:
    setup = Setup()
    stored = setup.ready()
    setup.patch(stored, **{cleared: None})
    (change,) = setup.audit_records()[-1].changes
    assert (change.property, change.after) == (name, None)
    assert change.before


def test_a_change_that_changes_nothing_leaves_nothing() -> None:
    setup = Setup()
    stored = setup.ready()
    before = setup.audit_records()
    setup.patch(stored, segments=["Gold"])
    setup.service.set_export_user(stored.destination.id, ADA)
    assert setup.audit_records() == before


def test_a_refused_or_conflicting_change_leaves_nothing() -> None:
    setup = Setup()
    stored = setup.ready()
    setup.created("Other")
    before = setup.audit_records()
    for refused in ({"segments": ["Nope"]}, {"displayName": "Other"}, {"audienceId": "nope"}):
        with pytest.raises(DestinationError):
            setup.patch(stored, **refused)
    with pytest.raises(DestinationChanged):
        setup.patch(stored, if_match='"0x0"', enabled=False)
    with pytest.raises(DestinationError):
        setup.service.create("Without consent", None, ADA)
    assert setup.audit_records() == before


def test_no_record_holds_the_key_its_end_or_where_it_lies() -> None:
    setup = Setup()
    stored = setup.ready()
    setup.connections.sign_in_with_api_key(stored.destination.id, KEY, GRACE)
    secret = setup.store.get(stored.destination.id).destination.sign_in
    assert secret.secret_name
    assert secret.secret_hint
    for data, _ in setup.audit_documents.blobs.values():
        assert KEY.encode() not in data
        assert KEY[-9:].encode() not in data
        assert secret.secret_name.encode() not in data


# -- a crash between the change and its record ---------------------------------------------------------------------


class DiesBeforeTheRecord:
    """While it is in use, no new record gets into the log; those that are there already do no harm."""

    def __init__(self, setup: Setup) -> None:
        self._documents = setup.audit_documents
        self._create = setup.audit_documents.create
        self._replaced = patch.object(self._documents, "create", self._die)

    def __enter__(self) -> None:
        self._replaced.start()

    def __exit__(self, *_: object) -> None:
        self._replaced.stop()

    def _die(self, name: str, data: bytes, metadata: Any = None) -> str:
        if name in self._documents.blobs:
            return self._create(name, data)
        raise ServiceRequestError("the container does not answer")


def test_a_record_that_a_crash_kept_from_the_log_is_written_by_the_timer_once() -> None:
    setup = Setup()
    stored = setup.created()
    with DiesBeforeTheRecord(setup), pytest.raises(ServiceRequestError):
        setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), ADA)
    assert setup.store.get(stored.destination.id).destination.consent.withdrawn_by == ADA.name
    assert len(setup.audit_records()) == 1
    for _ in range(3):
        setup.store.log_recent_changes()
    assert [each.action for each in setup.audit_records()] == ["destination.created", "destination.consentWithdrawn"]


def test_the_timer_looks_after_a_change_however_long_ago_it_was_but_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    stored = setup.created()
    setup.audit_documents.blobs.clear()
    setup.clock.pass_(days=30)
    written: list[str] = []
    create = setup.audit_documents.create

    def counted(name: str, data: bytes) -> str:
        written.append(name)
        return create(name, data)

    monkeypatch.setattr(setup.audit_documents, "create", counted)
    for _ in range(3):
        setup.store.log_recent_changes()
    assert len(written) == 1
    assert len(setup.audit_records()) == 1
    setup.patch(stored, displayName="Weekly")
    written.clear()
    for _ in range(3):
        setup.store.log_recent_changes()
    assert len(written) == 1


def test_the_next_change_makes_sure_of_the_record_of_the_one_before() -> None:
    setup = Setup()
    stored = setup.created()
    with DiesBeforeTheRecord(setup), pytest.raises(ServiceRequestError):
        setup.patch(stored, displayName="Weekly")
    setup.patch(stored, displayName="Monthly")
    names = [each.after for left in setup.audit_records() for each in left.changes if each.property == "displayName"]
    assert names == ["Newsletter", "Weekly", "Monthly"]


def test_nothing_is_changed_while_the_record_before_cannot_be_written() -> None:
    setup = Setup()
    stored = setup.created()
    setup.audit_documents.blobs.clear()
    setup.audit_documents.fault = ServiceRequestError("the container does not answer")
    with pytest.raises(ServiceRequestError):
        setup.patch(stored, displayName="Weekly")
    assert setup.store.get(stored.destination.id) == stored


# -- append only ---------------------------------------------------------------------------------------------------


def test_the_log_knows_no_way_to_change_or_delete_a_record() -> None:
    def public(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}

    assert public(AuditLog) == {"append", "newest"}
    assert public(AppendOnly) == {"create", "read", "names", "beginnings"}
    assert set(inspect.signature(AuditLog.__init__).parameters) == {"self", "documents"}


def test_a_record_is_never_written_over() -> None:
    first = record(NOW)
    audit, documents = log_of(first)
    kept = dict(documents.blobs)
    audit.append(first.model_copy(update={"action": "destination.removed", "who": GRACE}))
    assert documents.blobs == kept

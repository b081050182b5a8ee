"""Removals: what is done at once, what has to wait, and what is told of it, with everything around them in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.audit.model import AuditRecord
from shared.destinations.errors import DestinationBeingRemoved, DestinationNotFound, TagsAreKept
from shared.destinations.model import Removal, TagsOnRemoval
from shared.destinations.removal import Left
from shared.destinations.view import view_of
from shared.exports.messages import MessageInvalid, RemovalMessage, read_message
from shared.people import Person
from shared.secrets.store import SecretStoreError
from shared.storage import names
from tests.unit.setup_fakes import ADA, GRACE, KEY, NOW, Setup, with_ledger

REMOVE, KEEP = TagsOnRemoval.REMOVE, TagsOnRemoval.KEEP


def exporting(setup: Setup) -> tuple[str, str]:
    """A destination and its running export."""
    made = setup.ready().destination
    export = setup.exports.start(made, trigger="onDemand", requested_by=ADA)
    return made.id, export.id


def removal_of(setup: Setup, destination_id: str) -> Removal:
    found = setup.store.get(destination_id).destination.removal
    assert found is not None
    return found


def record_of(setup: Setup) -> AuditRecord:
    """The one record that something was removed."""
    [record] = [record for record in setup.audit_records() if record.action == "destination.removed"]
    return record


# -- what is done at once, and what has to wait --------------------------------------------------------------------


def test_nothing_is_left_when_nothing_runs(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    setup.documents.write(names.idempotency(destination_id, "abc"), b"{}")
    setup.documents.write(names.current_export(destination_id), b"{}")
    assert setup.removals.remove(destination_id, ADA) is None
    assert setup.exports.erased == [destination_id]
    assert not setup.secrets.values
    assert not setup.documents.blobs
    assert record_of(setup).who == ADA
    assert record_of(setup).target_id == destination_id


def test_a_running_export_is_waited_for_without_its_sign_in(setup: Setup) -> None:
    destination_id, export_id = exporting(setup)
    assert setup.removals.remove(destination_id, ADA) is not None
    assert setup.exports.stopped == [(destination_id, "The destination was removed by ada.")]
    assert not setup.secrets.values
    assert removal_of(setup, destination_id).waits_for == export_id
    setup.exports.end(export_id)
    assert setup.removals.go_on(destination_id) is Left.NOTHING
    assert not setup.documents.blobs


def test_with_its_tags_the_sign_in_stays_until_they_are_taken_away(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    assert setup.removals.remove(destination_id, ADA, tags=REMOVE) is not None
    assert setup.messages.removals == [destination_id]
    assert list(setup.secrets.values.values()) == [KEY]
    assert setup.exports.erased == []

    setup.removals.note(destination_id, lambda removal: setattr(removal, "untagged", True))
    assert setup.removals.go_on(destination_id) is Left.NOTHING
    assert not setup.secrets.values
    assert not setup.documents.blobs


def test_the_same_word_again_changes_nothing(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    first = setup.removals.remove(destination_id, ADA, tags=REMOVE)
    for again in (REMOVE, None):
        assert setup.removals.remove(destination_id, GRACE, '"stale"', again) == first
    assert [record.action for record in setup.audit_records()].count("destination.removalStarted") == 1


def test_keep_gives_up_and_says_who_did(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    setup.removals.remove(destination_id, ADA, tags=REMOVE)
    setup.removals.note(destination_id, lambda removal: setattr(removal, "tags_left", 1200))
    assert setup.removals.remove(destination_id, GRACE, tags=KEEP) is None
    assert record_of(setup).detail == (
        "Removed in Mailchimp: 0 tags on contacts. Not removed: 1,200 tags on contacts, because "
        "grace chose to keep them."
    )


def test_remove_comes_too_late_once_the_sign_in_is_deleted(setup: Setup) -> None:
    destination_id, _ = exporting(setup)
    setup.removals.remove(destination_id, ADA)
    with pytest.raises(TagsAreKept):
        setup.removals.remove(destination_id, ADA, tags=REMOVE)
    assert removal_of(setup, destination_id).tags is KEEP


@pytest.mark.parametrize("fault", [ServiceRequestError("the vault is down"), SecretStoreError("not let in")])
def test_a_secret_store_that_does_not_answer_is_told_and_the_choice_is_still_open(
    setup: Setup, fault: Exception
) -> None:
    destination_id = with_ledger(setup)

    def fail(name: str) -> None:
        raise fault

    with patch.object(setup.secrets, "delete", fail):
        stored = setup.removals.remove(destination_id, ADA)
    assert stored is not None
    removal = view_of(stored.destination).removal
    assert removal is not None
    assert "did not answer" in (removal.problem or "")
    assert removal.left[0] == "The stored Mailchimp sign-in has to be deleted."
    assert setup.removals.remove(destination_id, ADA, tags=REMOVE) is not None
    assert removal_of(setup, destination_id).problem is None
    assert setup.messages.removals == [destination_id]


def test_nobody_changes_a_destination_that_is_being_removed(setup: Setup) -> None:
    destination_id, _ = exporting(setup)
    setup.removals.remove(destination_id, ADA)
    with pytest.raises(DestinationBeingRemoved):
        setup.service.set_export_user(destination_id, GRACE)
    setup.store.mark_needs_authentication(destination_id, "revoked")


def test_the_records_of_a_removal_hold_neither_its_progress_nor_a_secret(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    setup.removals.remove(destination_id, ADA, tags=REMOVE)
    records = len(setup.audit_records())
    setup.removals.note(destination_id, lambda removal: setattr(removal, "tags_left", 5))
    assert len(setup.audit_records()) == records
    [change] = setup.audit_records()[-1].changes
    assert set(change.after) == {"requestedBy", "requestedAt", "tags"}


def test_two_that_complete_it_at_the_same_time_write_one_record(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    destination_id = with_ledger(setup)
    erase = setup.exports.erase_data
    inner: list[Left] = []

    def erase_twice(destination_id: str) -> int:
        monkeypatch.undo()
        inner.append(setup.removals.go_on(destination_id))
        return erase(destination_id)

    monkeypatch.setattr(setup.exports, "erase_data", erase_twice)
    assert setup.removals.remove(destination_id, ADA) is None
    assert inner == [Left.NOTHING]
    assert record_of(setup).detail == "Contacts and tags in Mailchimp were left as they are."
    assert not setup.documents.blobs


def test_what_began_before_it_was_gone_is_deleted_when_it_ends_after_that(setup: Setup) -> None:
    setup.documents.write(names.ledger("gone", "aud1"), b"profiles")
    setup.documents.write(names.current_export("gone"), b"{}")
    assert setup.removals.go_on("gone") is Left.NOTHING
    assert not setup.documents.blobs
    assert setup.exports.erased == ["gone"]


def test_a_removal_is_recorded_with_the_person(setup: Setup) -> None:
    destination_id = with_ledger(setup)
    eve = Person(id="eve-id", name="eve@contoso.example")
    setup.removals.remove(destination_id, eve, tags=REMOVE)
    assert removal_of(setup, destination_id).requested_by == eve
    with pytest.raises(DestinationNotFound):
        setup.removals.remove("unknown", eve)


# -- the timer -----------------------------------------------------------------------------------------------------


def test_the_timer_sends_a_message_for_what_stands_still_and_for_nothing_else(setup: Setup) -> None:
    setup.ready("Untouched")
    destination_id = with_ledger(setup)
    setup.removals.remove(destination_id, ADA, tags=REMOVE)
    setup.messages.removals.clear()
    assert setup.removals.finish_removals() == 0, "its message may be on its way"
    setup.clock.pass_(minutes=2)
    assert setup.removals.finish_removals() == 1
    assert setup.messages.removals == [destination_id]
    resting = (NOW + timedelta(minutes=5)).isoformat()
    setup.documents.create(names.removal(destination_id), b"{}", {"wakeAt": resting})
    assert setup.removals.finish_removals() == 0, "a message comes when Mailchimp may be back"
    setup.clock.pass_(minutes=5)
    assert setup.removals.finish_removals() == 1


def test_the_timer_asks_an_export_again_to_end(setup: Setup) -> None:
    destination_id, _ = exporting(setup)
    setup.removals.remove(destination_id, ADA)
    setup.clock.pass_(minutes=2)
    assert setup.removals.finish_removals() == 0
    assert len(setup.exports.stopped) == 2


def test_the_timer_finds_what_lies_there_for_nobody(setup: Setup) -> None:
    kept = with_ledger(setup)
    setup.documents.write(names.ledger("gone", "aud1"), b"profiles")
    setup.documents.write(names.removal("gone-too"), b"{}")
    assert setup.removals.finish_removals() == 2
    for destination_id in setup.messages.removals:
        setup.removals.go_on(destination_id)
    assert setup.removals.finish_removals() == 0
    assert setup.documents.exists(names.ledger(kept, "aud1"))


# -- told ----------------------------------------------------------------------------------------------------------

FINALLY = "The stored profiles and the configuration have to be deleted."
SIGN_IN = "The stored Mailchimp sign-in has to be deleted."


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ({}, [SIGN_IN, FINALLY]),
        (
            {"sign_in_deleted": True, "waits_for": "e1"},
            ["The running export 'e1' has to end; it was asked to.", FINALLY],
        ),
        ({"tags": REMOVE}, ["The tags have to be counted, and removed in Mailchimp.", SIGN_IN, FINALLY]),
        (
            {"tags": REMOVE, "tags_left": 37500},
            ["Still to be removed in Mailchimp: 37,500 tags on contacts.", SIGN_IN, FINALLY],
        ),
        (
            {"tags": REMOVE, "tags_left": 1},
            ["Still to be removed in Mailchimp: 1 tag on a contact.", SIGN_IN, FINALLY],
        ),
        ({"tags": REMOVE, "tags_left": 9, "untagged": True, "sign_in_deleted": True}, [FINALLY]),
    ],
)
def test_what_is_left_is_told_in_plain_words(setup: Setup, state: dict[str, Any], left: list[str]) -> None:
    destination = setup.ready().destination
    destination.removal = Removal(requested_by=ADA, requested_at=NOW, **state)
    view = view_of(destination)
    assert view.removal is not None
    assert view.removal.left == left
    assert not view.ready


def test_a_message_names_a_destination_and_nothing_else() -> None:
    assert read_message(RemovalMessage, b'{"v":1,"destinationId":"d1"}').destination_id == "d1"
    for text in (b'{"v":1}', b'{"v":1,"destinationId":"../d1"}', b'{"v":2,"destinationId":"d1"}', b"d1"):
        with pytest.raises(MessageInvalid):
            read_message(RemovalMessage, text)

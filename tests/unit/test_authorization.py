"""Sign-ins to Mailchimp between their beginning and their end: stages, interference, tokens that have to wait."""

from __future__ import annotations

from collections.abc import Mapping
from unittest.mock import patch

import pytest

from shared.destinations.authorization import Authorization, Stage
from shared.destinations.errors import (
    AuthorizationDenied,
    AuthorizationExpired,
    AuthorizationInProgress,
    AuthorizationUnknown,
    AuthorizationUsed,
)
from shared.destinations.model import SignInState
from shared.mailchimp import SignInRefused, Unavailable
from shared.storage import names
from shared.storage.documents import Changed
from tests.unit.authorization_fakes import ADA, DOWN, STORAGE_DOWN, Parts


@pytest.fixture
def parts() -> Parts:
    return Parts()


# -- stages --------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_was_completed_is_used_and_holds_no_token(parts: Parts) -> None:
    state = parts.begun()
    assert parts.come_back(state).sign_in.state is SignInState.CONNECTED
    stored = parts.stored(state)
    assert (stored.stage, stored.parked) == (Stage.USED, None)
    assert list(parts.secrets.values.values()) == ["token-of-code-1"]
    with pytest.raises(AuthorizationUsed):
        parts.come_back(state)


def test_of_two_who_read_the_same_version_one_gets_it(parts: Parts) -> None:
    state = parts.begun()
    one, two = (parts.authorizations.find(state, ADA) for _ in range(2))
    parts.authorizations.complete(one, "code-1")
    with pytest.raises(AuthorizationUsed):
        parts.authorizations.complete(two, "code-2")
    with pytest.raises(AuthorizationUsed):
        parts.authorizations.refuse(two, "access_denied")
    assert parts.provider.used == ["code-1"]


def test_the_loser_of_a_race_does_not_ask_mailchimp(parts: Parts) -> None:
    state = parts.begun()
    late = parts.authorizations.find(state, ADA)
    losers: list[type[Exception]] = []

    def meanwhile(call: str) -> None:
        if call == "token":
            with pytest.raises(AuthorizationInProgress) as caught:
                parts.authorizations.complete(late, "code-2")
            losers.append(caught.type)

    parts.provider.before = meanwhile
    parts.come_back(state)
    assert losers == [AuthorizationInProgress]
    assert parts.provider.used == ["code-1"]


def test_a_sign_in_whose_process_died_can_be_taken_over_after_two_minutes(parts: Parts) -> None:
    state = parts.begun()

    def die(_: str) -> None:
        raise SystemExit

    parts.provider.before = die
    with pytest.raises(SystemExit):
        parts.come_back(state)
    parts.provider.before = lambda _: None
    parts.clock.pass_(seconds=119)
    with pytest.raises(AuthorizationInProgress):
        parts.come_back(state)
    parts.clock.pass_(seconds=1)
    assert parts.come_back(state).sign_in.state is SignInState.CONNECTED


def test_a_write_whose_answer_was_lost_is_known_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    real = parts.documents.replace

    def lose_the_answer(name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        monkeypatch.undo()
        real(name, data, etag, metadata)
        raise Changed(name)  # what the repeated request finds

    monkeypatch.setattr(parts.documents, "replace", lose_the_answer)
    parts.authorizations.complete(found, "code-1")
    assert parts.stored(state).stage is Stage.USED


def test_a_sign_in_that_is_deleted_at_the_last_moment_is_not_known(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    parts.documents.before_replace = parts.documents.delete
    with pytest.raises(AuthorizationUnknown):
        parts.authorizations.complete(found, "code-1")
    assert parts.provider.used == []


def test_who_denied_late_is_told_that_it_was_late(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    with pytest.raises(AuthorizationDenied):
        parts.authorizations.refuse(found, "access_denied")
    other = parts.authorizations.find(parts.begun(), ADA)
    parts.clock.pass_(minutes=10)
    with pytest.raises(AuthorizationExpired):
        parts.authorizations.refuse(other, "access_denied")


def test_a_connected_destination_tells_its_account_role_plan_and_data_centre(parts: Parts) -> None:
    parts.come_back(parts.begun())
    found = parts.connections.verify("d1")
    assert found.data_centre == "us19"
    account = found.account
    assert (account.account_name, account.role, account.pricing_plan) == ("Contoso", "owner", "monthly")


# -- tokens that wait ----------------------------------------------------------------------------------------------


def test_a_token_waits_in_the_secret_store_and_not_in_the_document(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    stored = parts.stored(state)
    assert stored.stage is Stage.OPEN
    assert stored.parked is not None
    assert parts.secrets.values == {stored.parked.secret_name: "token-of-code-1"}
    document, _ = parts.documents.blobs[names.authorization(state)]
    assert b"token-of" not in document
    assert b"code-1" not in document


def test_a_token_that_waits_goes_when_the_sign_in_ends_in_whatever_way(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    with pytest.raises(AuthorizationDenied):
        parts.authorizations.refuse(parts.authorizations.find(state, ADA), "access_denied")
    assert parts.secrets.values == {}


def test_a_token_that_waits_and_was_deleted_by_hand_is_asked_for_anew(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    parts.provider.faults.clear()
    parts.secrets.values.clear()
    with pytest.raises(SignInRefused):  # the code was used: Mailchimp says so, and the person begins again
        parts.come_back(state)


def test_a_secret_store_that_is_down_too_leaves_the_sign_in_open(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN

    def broken(name: str, value: str) -> None:
        raise STORAGE_DOWN

    with patch.object(parts.secrets, "write", broken), pytest.raises(Unavailable):
        parts.come_back(state)
    parts.provider.faults.clear()
    assert parts.stored(state).stage is Stage.OPEN
    assert parts.come_back(state, "code-2").sign_in.state is SignInState.CONNECTED
    assert list(parts.secrets.values.values()) == ["token-of-code-2"]


def test_storage_that_fails_at_the_end_does_not_turn_a_success_into_a_failure(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    real = parts.documents.replace

    def fail_at_the_end(name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        if name == found.name and Authorization.from_bytes(data).stage is Stage.USED:
            raise STORAGE_DOWN
        return real(name, data, etag, metadata)

    with patch.object(parts.documents, "replace", fail_at_the_end):
        done = parts.authorizations.complete(found, "code-1")
    assert done.destination.sign_in.state is SignInState.CONNECTED
    with pytest.raises(AuthorizationInProgress):
        parts.come_back(state)


def test_an_old_secret_that_cannot_be_deleted_does_not_undo_the_sign_in(parts: Parts) -> None:
    parts.come_back(parts.begun())

    def broken(name: str) -> None:
        raise STORAGE_DOWN

    with patch.object(parts.secrets, "delete", broken):
        destination = parts.come_back(parts.begun(), "code-2")
    assert parts.secrets.read(destination.sign_in.secret_name or "") == "token-of-code-2"


def test_the_timer_deletes_what_waits_for_a_sign_in_that_expired(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    parts.clock.pass_(minutes=10)
    assert parts.authorizations.delete_expired() == 1
    assert parts.secrets.values == {}
    with pytest.raises(AuthorizationUnknown):
        parts.authorizations.find(state, ADA)

"""Writes that arrive while their answers do not: the storage library tries again by itself, and is then told of its own
first try as if somebody else had written (shared/storage/documents.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from azure.core.exceptions import AzureError, ServiceResponseError

from shared.secrets.local import LocalSecretStore
from shared.storage.documents import AlreadyExists, Changed
from shared.storage.names import AUTHORIZATIONS_PREFIX, DESTINATIONS_PREFIX, SECRETS_PREFIX
from tests.unit.authorization_fakes import Parts
from tests.unit.fake_documents import FakeDocuments
from tests.unit.setup_fakes import ADA, GRACE, KEY, OTHER_KEY, Setup

TOLD_OF_ITSELF = Changed("told of itself")
NO_ANSWER = ServiceResponseError("the connection broke off")


def lose_answer(documents: FakeDocuments, write: str, prefix: str, error: Exception) -> None:
    """The next ``write`` of a blob under ``prefix`` arrives, and ends with ``error`` all the same."""
    real: Callable[..., Any] = getattr(documents, write)

    def once(name: str, *args: Any, **options: Any) -> Any:
        answer = real(name, *args, **options)
        if not name.startswith(prefix):
            return answer
        setattr(documents, write, real)
        raise error

    setattr(documents, write, once)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def assert_connected_with(setup: Setup, destination_id: str, key: str) -> None:
    """The destination points to a secret that is there."""
    sign_in = setup.store.get(destination_id).destination.sign_in
    assert sign_in.secret_name is not None
    assert setup.secrets.values.get(sign_in.secret_name) == key


# -- sign-ins --------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_is_told_of_its_own_write_keeps_its_secret_and_deletes_the_one_before(setup: Setup) -> None:
    destination_id = setup.connected().destination.id
    lose_answer(setup.documents, "replace", DESTINATIONS_PREFIX, TOLD_OF_ITSELF)
    setup.connections.sign_in_with_api_key(destination_id, OTHER_KEY, ADA)
    assert_connected_with(setup, destination_id, OTHER_KEY)
    assert list(setup.secrets.values.values()) == [OTHER_KEY]


def test_a_sign_in_that_was_written_over_before_it_knew_keeps_its_secret(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination_id = setup.connected().destination.id
    real = setup.documents.replace

    def arrives_and_is_written_over(name: str, *args: Any, **options: Any) -> str:
        real(name, *args, **options)
        monkeypatch.undo()
        setup.service.set_export_user(destination_id, GRACE)
        raise TOLD_OF_ITSELF

    monkeypatch.setattr(setup.documents, "replace", arrives_and_is_written_over)
    setup.connections.sign_in_with_api_key(destination_id, OTHER_KEY, ADA)
    assert_connected_with(setup, destination_id, OTHER_KEY)


def test_a_sign_in_that_never_got_an_answer_keeps_its_secret(setup: Setup) -> None:
    destination_id = setup.connected().destination.id
    lose_answer(setup.documents, "replace", DESTINATIONS_PREFIX, NO_ANSWER)
    with pytest.raises(AzureError):
        setup.connections.sign_in_with_api_key(destination_id, OTHER_KEY, ADA)
    assert_connected_with(setup, destination_id, OTHER_KEY)
    setup.clock.pass_(days=1)
    setup.connections.loose_secrets.delete_left_over()
    assert_connected_with(setup, destination_id, OTHER_KEY)
    assert list(setup.secrets.values.values()) == [OTHER_KEY], "the timer deletes the one before"


def test_a_secret_that_no_destination_got_is_deleted_by_the_timer(setup: Setup) -> None:
    destination_id = setup.connected().destination.id

    def does_not_arrive(*_args: Any, **_options: Any) -> str:
        raise NO_ANSWER

    with patch.object(setup.documents, "replace", does_not_arrive), pytest.raises(AzureError):
        setup.connections.sign_in_with_api_key(destination_id, OTHER_KEY, ADA)
    setup.clock.pass_(days=1)
    setup.connections.loose_secrets.delete_left_over()
    assert_connected_with(setup, destination_id, KEY)
    assert list(setup.secrets.values.values()) == [KEY]


def test_a_sign_in_with_oauth_begins_although_its_note_is_told_of_itself() -> None:
    parts = Parts()
    lose_answer(parts.documents, "create", AUTHORIZATIONS_PREFIX, AlreadyExists("told of itself"))
    assert parts.come_back(parts.begun()).sign_in.secret_name in parts.secrets.values


def test_a_local_secret_that_is_told_of_itself_is_stored() -> None:
    documents = FakeDocuments()
    store = LocalSecretStore(documents.as_documents(), "a long random text")
    lose_answer(documents, "create", SECRETS_PREFIX, AlreadyExists("told of itself"))
    store.write("mc-d1-1", KEY)
    assert store.read("mc-d1-1") == KEY


# -- destinations ----------------------------------------------------------------------------------------------------


def test_a_destination_that_is_told_of_itself_is_created(setup: Setup) -> None:
    lose_answer(setup.documents, "create", DESTINATIONS_PREFIX, AlreadyExists("told of itself"))
    created = setup.created()
    assert setup.store.get(created.destination.id) == created
    assert [record.action for record in setup.audit_records()] == ["destination.created"]


def test_a_change_with_if_match_that_is_told_of_itself_was_made(setup: Setup) -> None:
    stored = setup.created()
    lose_answer(setup.documents, "replace", DESTINATIONS_PREFIX, TOLD_OF_ITSELF)
    changed = setup.patch(stored, stored.etag, displayName="Customers")
    assert changed == setup.store.get(stored.destination.id)
    assert changed.destination.display_name == "Customers"
    assert [record.action for record in setup.audit_records()] == ["destination.created", "destination.configured"]

"""What every secret store does alike: the encrypted one of a local run, and Key Vault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dev.sandbox.control import SandboxControl
from shared.secrets.cached import CACHE_SECONDS, CachedSecretStore
from shared.secrets.key_vault import KeyVaultSecretStore, open_vault
from shared.secrets.local import LocalSecretStore
from shared.secrets.store import SecretNotFound, SecretStore, SecretStoreError
from shared.settings import StorageConnection
from shared.storage.clients import blob_service
from shared.storage.documents import Documents
from shared.storage.names import SECRETS_PREFIX, STATE_CONTAINER
from tests.integration.key_vault_server import Credential, start_vault, transport_to
from tests.integration.sign_in_desk import Desk, open_desk
from tests.support import StorageAccount

SECRET = "0123456789abcdef0123456789abcdef-us19"
NAME = "mc-d1-0001"

_hosts = count()


class Place:
    """Where secrets are kept: opens a store as each process does, and looks inside without it."""

    def __init__(self, opened: Callable[[], SecretStore], held: Callable[[], set[str]]) -> None:
        self.open = opened
        self.held = held


@pytest.fixture(params=["local", "keyVault"])
def place(request: pytest.FixtureRequest, storage_account: StorageAccount, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        service = blob_service(StorageConnection(connection_string=storage_account.connection_string))
        documents = Documents(service.get_container_client(STATE_CONTAINER))
        documents.ensure_container()
        yield Place(
            lambda: LocalSecretStore(documents, "a key for tests only, not a secret"),
            lambda: {entry.name.removeprefix(SECRETS_PREFIX) for entry in documents.list(SECRETS_PREFIX)},
        )
        return
    with start_vault(f"kv-all-{next(_hosts)}.vault.azure.net", tmp_path) as vault:
        vault.deletion_s = 0.2

        def opened() -> SecretStore:
            credential = Credential()
            client = open_vault(vault.url, credential, transport_to(vault, []))
            return KeyVaultSecretStore(vault.url, credential, client)

        yield Place(opened, lambda: {*vault.secrets, *vault.deleted})


def test_a_secret_is_read_back_by_another_process(place: Place) -> None:
    place.open().write(NAME, SECRET)
    assert place.open().read(NAME) == SECRET


@pytest.mark.parametrize("secret", ["x", "a" * 512, "".join(chr(code) for code in range(33, 127)), 'é\n"\\'])
def test_a_secret_comes_back_as_it_was(place: Place, secret: str) -> None:
    store = place.open()
    store.write(NAME, secret)
    assert store.read(NAME) == secret


def test_a_secret_that_was_never_written_is_not_found(place: Place) -> None:
    with pytest.raises(SecretNotFound, match="Sign in to Mailchimp again") as caught:
        place.open().read(NAME)
    assert NAME not in str(caught.value), "the sentence is shown on the destination"


def test_a_deleted_secret_is_gone_for_every_process_and_nothing_of_it_is_left(place: Place) -> None:
    place.open().write(NAME, SECRET)
    place.open().delete(NAME)
    with pytest.raises(SecretNotFound):
        place.open().read(NAME)
    assert place.held() == set()


def test_deleting_what_is_not_there_is_no_error(place: Place) -> None:
    store = place.open()
    store.delete(NAME)
    store.write(NAME, SECRET)
    store.delete(NAME)
    store.delete(NAME)


def test_deleting_one_secret_leaves_the_others(place: Place) -> None:
    store = place.open()
    for name in (NAME, f"{NAME}-2"):
        store.write(name, SECRET)
    store.delete(NAME)
    assert store.read(f"{NAME}-2") == SECRET


@pytest.mark.parametrize("name", ["", "../destinations/1", "a/b", "a" * 128, "a_b", "a?api-version=1"])
def test_a_name_that_no_vault_takes_is_refused(place: Place, name: str) -> None:
    store = place.open()
    for ask in (store.read, store.delete, lambda wrong: store.write(wrong, SECRET)):
        with pytest.raises(SecretStoreError, match="1 to 127"):
            ask(name)


def test_a_store_that_answers_is_reachable(place: Place) -> None:
    assert place.open().reachable()


def test_a_secret_is_cached_for_minutes_and_then_asked_for_again(place: Place) -> None:
    now = 0.0
    store = CachedSecretStore(place.open(), lambda: now)
    store.write(NAME, SECRET)
    assert store.read(NAME) == SECRET
    place.open().delete(NAME)  # another process
    now = CACHE_SECONDS - 1
    assert store.read(NAME) == SECRET
    now = CACHE_SECONDS
    with pytest.raises(SecretNotFound):
        store.read(NAME)


# -- in the product ----------------------------------------------------------------------------------------------


@pytest.fixture
def kept(
    place: Place, storage_account: StorageAccount, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A desk whose secrets are kept at the place. (The real one of a deployment needs a managed identity.)"""
    monkeypatch.setattr("shared.bootstrap.open_secret_store", lambda *_: CachedSecretStore(place.open()))
    return open_desk(storage_account.connection_string, sandbox)


def test_each_sign_in_has_a_secret_under_a_name_that_was_never_used(kept: Desk, place: Place) -> None:
    one, two = kept.created("One"), kept.created("Two")
    seen: list[str] = []
    for destination_id in (one, two, one, one):
        assert kept.signed_in(destination_id).status == 200
        (new,) = place.held().difference(seen)
        assert new.startswith(f"mc-{destination_id}-")
        seen.append(new)
    assert len(place.held()) == 2, "the secrets that were replaced are deleted"


def test_removing_a_destination_deletes_its_secret(kept: Desk, place: Place) -> None:
    destination_id = kept.created()
    kept.signed_in(destination_id)
    assert len(place.held()) == 1
    assert kept.call("DELETE", f"/api/destinations/{destination_id}").status < 300
    assert place.held() == set()


def test_a_secret_that_somebody_deleted_by_hand_needs_authentication(kept: Desk, place: Place) -> None:
    destination_id = kept.created()
    kept.signed_in(destination_id)
    (secret,) = place.held()
    place.open().delete(secret)
    verified = kept.call("POST", f"/api/destinations/{destination_id}/verify")
    assert (verified.status, verified.json["error"]["code"]) == (409, "notConnected")
    sign_in = kept.destination(destination_id)["signIn"]
    assert sign_in["state"] == "needsAuthentication"
    assert "no longer in the secret store" in sign_in["problem"]
    assert kept.signed_in(destination_id).status == 200
    assert kept.call("POST", f"/api/destinations/{destination_id}/verify").status == 200


def test_sharing_a_sign_in_whose_secret_was_deleted_needs_authentication_too(kept: Desk, place: Place) -> None:
    destination_id = kept.created()
    kept.signed_in(destination_id)
    (secret,) = place.held()
    place.open().delete(secret)
    body = {"displayName": "Copy", "consent": {"agreed": True}, "shareSignIn": True}
    reply = kept.call("POST", f"/api/destinations/{destination_id}/duplicate", body)
    assert (reply.status, reply.json["error"]["code"]) == (409, "notConnected")
    assert kept.sign_in_state(destination_id) == "needsAuthentication"
    assert len(kept.call("GET", "/api/destinations").json["value"]) == 1, "nothing is half made"

"""The local secret store and the cache: what is kept where, and what is said when it cannot be.

What every store does alike is in tests/integration/test_secret_stores.py, Key Vault in test_key_vault.py there.
"""

from __future__ import annotations

import pytest

from shared.secrets.cached import CachedSecretStore
from shared.secrets.local import LocalSecretStore
from shared.secrets.open import open_secret_store
from shared.secrets.store import SecretNotFound, SecretStoreError
from shared.settings import SettingsError, read_settings
from tests.unit.fake_documents import FakeDocuments

SECRET = "0123456789abcdef0123456789abcdef-us19"


def local_store(documents: FakeDocuments, key: str | None = "a long random text") -> LocalSecretStore:
    return LocalSecretStore(documents.as_documents(), key)


def test_a_local_secret_is_read_back_by_another_process_with_the_same_key() -> None:
    documents = FakeDocuments()
    local_store(documents).write("mc-1-a", SECRET)
    assert local_store(documents).read("mc-1-a") == SECRET


def test_a_local_secret_lies_encrypted_in_its_blob() -> None:
    documents = FakeDocuments()
    local_store(documents).write("mc-1-a", SECRET)
    assert list(documents.blobs) == ["secrets/mc-1-a"]
    assert SECRET.encode() not in documents.blobs["secrets/mc-1-a"][0]


def test_another_local_key_is_said_to_be_wrong_without_showing_the_secret() -> None:
    documents = FakeDocuments()
    local_store(documents).write("mc-1-a", SECRET)
    with pytest.raises(SecretStoreError, match="another LOCAL_SECRET_KEY") as caught:
        local_store(documents, "another text").read("mc-1-a")
    assert SECRET not in str(caught.value)


def test_without_a_local_key_nothing_is_kept_and_the_setting_is_named() -> None:
    documents = FakeDocuments()
    store = local_store(documents, None)
    with pytest.raises(SecretStoreError, match="LOCAL_SECRET_KEY is missing"):
        store.write("mc-1-a", SECRET)
    assert not documents.blobs
    assert not store.reachable()


def test_a_deleted_local_secret_is_gone_and_may_be_deleted_again() -> None:
    store = local_store(FakeDocuments())
    store.write("mc-1-a", SECRET)
    store.delete("mc-1-a")
    store.delete("mc-1-a")
    with pytest.raises(SecretNotFound, match="Sign in to Mailchimp again"):
        store.read("mc-1-a")


@pytest.mark.parametrize("name", ["", "../destinations/1", "a/b", "a" * 128, "a_b"])
def test_a_name_that_no_vault_takes_is_refused(name: str) -> None:
    with pytest.raises(SecretStoreError, match="1 to 127"):
        local_store(FakeDocuments()).read(name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cached_secret_is_read_anew_after_five_minutes() -> None:
    documents, clock = FakeDocuments(), Clock()
    inner = local_store(documents)
    inner.write("mc-1-a", SECRET)
    store = CachedSecretStore(inner, clock)
    assert store.read("mc-1-a") == SECRET
    inner.delete("mc-1-a")
    clock.now = 299.0
    assert store.read("mc-1-a") == SECRET
    clock.now = 300.0
    with pytest.raises(SecretNotFound):
        store.read("mc-1-a")


def test_forgetting_and_deleting_empty_the_cache() -> None:
    inner = local_store(FakeDocuments())
    store = CachedSecretStore(inner, Clock())
    store.write("mc-1-a", SECRET)
    store.read("mc-1-a")
    inner.delete("mc-1-a")
    store.forget("mc-1-a")
    with pytest.raises(SecretNotFound):
        store.read("mc-1-a")
    store.write("mc-1-a", SECRET)
    store.read("mc-1-a")
    store.delete("mc-1-a")
    with pytest.raises(SecretNotFound):
        store.read("mc-1-a")


def test_a_missing_secret_is_asked_for_again_each_time() -> None:
    inner = local_store(FakeDocuments())
    store = CachedSecretStore(inner, Clock())
    with pytest.raises(SecretNotFound):
        store.read("mc-1-a")
    inner.write("mc-1-a", SECRET)
    assert store.read("mc-1-a") == SECRET


STORAGE = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}


def test_the_local_store_is_opened_without_a_vault() -> None:
    documents = FakeDocuments()
    settings = read_settings(STORAGE | {"LOCAL_SECRET_KEY": "a long random text"})
    store = open_secret_store(settings, documents.as_documents())
    store.write("mc-1-a", SECRET)
    assert store.read("mc-1-a") == SECRET
    assert list(documents.blobs) == ["secrets/mc-1-a"]


def test_the_local_store_is_not_opened_in_azure() -> None:
    settings = read_settings(STORAGE).model_copy(update={"site_name": "app-1"})
    with pytest.raises(SettingsError, match="KEY_VAULT_URL"):
        open_secret_store(settings, FakeDocuments().as_documents())


def test_the_vault_is_opened_where_it_is_configured() -> None:
    documents = FakeDocuments()
    settings = read_settings(STORAGE | {"KEY_VAULT_URL": "https://kv-1.vault.azure.net", "LOCAL_SECRET_KEY": "a"})
    assert "KeyVault" in repr(vars(open_secret_store(settings, documents.as_documents())))
    assert not documents.blobs

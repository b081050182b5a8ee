"""The secret store of a deployment, against a vault that speaks the real protocol with the real client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError

from shared.secrets.key_vault import (
    CONNECT_TIMEOUT_S,
    PURGE_WITHIN_S,
    READ_TIMEOUT_S,
    KeyVaultSecretStore,
    open_vault,
)
from shared.secrets.store import SecretNotFound, SecretStoreError
from tests.integration.key_vault_server import TENANT, Credential, Fault, Vault, start_vault, transport_to
from tests.support import wait_for

SECRET = "0123456789abcdef0123456789abcdef-us19"
NAME = "mc-d1-0001"

_hosts = count()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault of a name of its own: the client remembers by name how a vault wants to be asked."""
    with start_vault(f"kv-test-{next(_hosts)}.vault.azure.net", tmp_path) as running:
        yield running


class Waiting:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Opened:
    """A store with its client, its transport, its identity, and its clock."""

    def __init__(self, vault: Vault, read_timeout_s: float = 60) -> None:
        self.credential = Credential()
        self.slept: list[float] = []
        self.transport = transport_to(vault, self.slept, read_timeout_s)
        self.waiting = Waiting()
        self.store = KeyVaultSecretStore(
            vault.url,
            self.credential,
            open_vault(vault.url, self.credential, self.transport),
            monotonic=self.waiting.monotonic,
            sleep=self.waiting.sleep,
        )


def test_the_vaults_challenge_is_answered_with_a_token_of_the_identity(vault: Vault) -> None:
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    assert opened.store.read(NAME) == SECRET
    assert opened.credential.asked == [(("https://vault.azure.net/.default",), TENANT)]
    assert vault.bodies_without_token == [b""], "the secret was not sent before the vault had asked for a token"


def test_a_deleted_secret_is_purged_where_the_vault_allows_it(vault: Vault) -> None:
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    opened.store.delete(NAME)
    assert (vault.secrets, vault.deleted) == ({}, {})


def test_a_deletion_that_takes_a_moment_is_waited_for_before_the_purge(vault: Vault) -> None:
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    vault.deletion_s = 600
    real = opened.waiting.sleep

    def sleep(seconds: float) -> None:
        real(seconds)
        if opened.waiting.now >= 2:  # the vault is done
            vault.deleted[NAME] = 0

    store = KeyVaultSecretStore(
        vault.url,
        opened.credential,
        open_vault(vault.url, opened.credential, opened.transport),
        monotonic=opened.waiting.monotonic,
        sleep=sleep,
    )
    store.delete(NAME)
    assert vault.deleted == {}
    assert opened.waiting.now == 2


def test_a_deletion_that_takes_too_long_is_left_to_the_vault(vault: Vault) -> None:
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    vault.deletion_s = 600
    opened.store.delete(NAME)
    assert opened.waiting.now == PURGE_WITHIN_S <= 5
    assert list(vault.deleted) == [NAME]
    with pytest.raises(SecretNotFound):
        opened.store.read(NAME)


@pytest.mark.parametrize("level", ["Recoverable", "CustomizedRecoverable", "Recoverable+ProtectedSubscription"])
def test_with_purge_protection_no_purge_is_tried(vault: Vault, level: str) -> None:
    vault.recovery_level = level
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    opened.store.delete(NAME)
    assert list(vault.deleted) == [NAME]
    assert vault.asked("DELETE deletedsecrets") == 0
    assert opened.waiting.now == 0


def test_without_the_right_to_purge_the_secret_stays_soft_deleted_and_nobody_waits(vault: Vault) -> None:
    vault.may_purge = False
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    opened.store.delete(NAME)
    assert list(vault.deleted) == [NAME]
    assert (vault.asked("DELETE deletedsecrets"), opened.waiting.now) == (1, 0)


def test_a_vault_without_soft_delete_has_nothing_to_purge(vault: Vault) -> None:
    vault.recovery_level = "Purgeable"
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    opened.store.delete(NAME)
    assert vault.asked("DELETE deletedsecrets") == 0


@pytest.mark.parametrize("status", [404, 409, 429, 500, 503])
def test_a_purge_that_fails_does_not_make_the_deletion_fail(vault: Vault, status: int) -> None:
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    vault.faults = [Fault(status, "DELETE", "deletedsecrets")] * 40
    opened.store.delete(NAME)
    assert list(vault.deleted) == [NAME]
    assert opened.waiting.now <= PURGE_WITHIN_S


def test_deleting_again_purges_what_an_interrupted_deletion_left(vault: Vault) -> None:
    opened = Opened(vault)
    vault.deleted[NAME] = 0
    opened.store.delete(NAME)
    opened.store.delete(NAME)
    assert vault.deleted == {}
    assert opened.waiting.now == 0


def test_the_name_of_a_deleted_secret_stays_taken(vault: Vault) -> None:
    """Why every sign-in writes its secret under a new name."""
    vault.recovery_level = "CustomizedRecoverable"
    opened = Opened(vault)
    opened.store.write(NAME, SECRET)
    opened.store.delete(NAME)
    with pytest.raises(AzureError):
        opened.store.write(NAME, SECRET)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_vault_that_is_busy_for_a_moment_is_asked_again(vault: Vault, status: int) -> None:
    opened = Opened(vault)
    vault.secrets[NAME] = SECRET
    vault.faults = [Fault(status, retry_after="1")] * 2
    assert opened.store.read(NAME) == SECRET
    assert opened.slept == [1.0, 1.0]


def test_a_vault_that_stays_busy_is_given_up_after_three_tries(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(429)] * 10
    with pytest.raises(AzureError) as caught:
        opened.store.read(NAME)
    assert getattr(caught.value, "status_code", None) == 429
    assert vault.asked("GET secrets") == 3
    assert sum(opened.slept) < 5


def test_a_vault_that_asks_to_come_back_much_later_is_not_waited_for(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(429, retry_after="600")]
    with pytest.raises(AzureError):
        opened.store.read(NAME)
    assert opened.slept == []


def test_a_vault_that_does_not_answer_is_given_up(vault: Vault) -> None:
    Opened(vault).store.reachable()  # so that the client knows what the vault asks, and each call is for the secret
    opened = Opened(vault, read_timeout_s=1)
    vault.faults, vault.calls = [Fault(500, hang_s=60)] * 10, []
    began = time.monotonic()
    with pytest.raises(AzureError):
        opened.store.read(NAME)
    assert time.monotonic() - began < 60
    wait_for(lambda: vault.asked("GET secrets") == 3, "the last of three tries")
    assert (CONNECT_TIMEOUT_S, READ_TIMEOUT_S) < (30, 30)


def test_a_vault_that_is_not_there_is_given_up(vault: Vault) -> None:
    vault.address = ("127.0.0.1", 9)
    opened = Opened(vault)
    with pytest.raises(AzureError):
        opened.store.read(NAME)
    assert not opened.store.reachable()


def test_readiness_does_not_wait_for_a_busy_vault(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(503)] * 10
    assert not opened.store.reachable()
    assert (vault.asked("GET secrets"), opened.slept) == (1, [])
    vault.faults = []
    assert opened.store.reachable()


def test_a_vault_that_does_not_let_us_in_names_the_role(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(403, code="ForbiddenByRbac")] * 4
    for ask in (opened.store.read, opened.store.delete, lambda name: opened.store.write(name, SECRET)):
        with pytest.raises(SecretStoreError, match="Key Vault Secrets Officer") as caught:
            ask(NAME)
        assert SECRET not in str(caught.value)
        assert not isinstance(caught.value, SecretNotFound)
    assert not opened.store.reachable()


def test_an_identity_that_gets_no_token_is_said_to_be_let_in_nowhere(vault: Vault) -> None:
    identity = Credential(ClientAuthenticationError("no managed identity endpoint found"))
    store = KeyVaultSecretStore(vault.url, identity, open_vault(vault.url, identity, transport_to(vault, [])))
    with pytest.raises(SecretStoreError, match="Give the app's identity the role"):
        store.read(NAME)


def test_a_secret_is_in_no_error_of_the_vault(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(500)] * 10
    with pytest.raises(AzureError) as caught:
        opened.store.write(NAME, SECRET)
    assert SECRET not in f"{caught.value} {caught.value!r}"


def test_a_write_that_is_repeated_stores_the_same_secret(vault: Vault) -> None:
    opened = Opened(vault)
    vault.faults = [Fault(503, "PUT")]
    opened.store.write(NAME, SECRET)
    assert vault.secrets == {NAME: SECRET}

"""Fixtures that tests of every area share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from dev.azurite import Azurite, start_azurite
from tests.support import StorageAccount

# Machines are shared and noisy: no example fails for being slow.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

_ACCOUNTS = 500


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The storage emulator: one process for the whole run, in memory, with many accounts.

    Logs are named after accounts, so those of processes that run tests at the same time have different ones."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "")
    with start_azurite([f"devstoreaccount{process}n{number}" for number in range(_ACCOUNTS)]) as running:
        yield running


@pytest.fixture(scope="session")
def _unused_accounts(azurite: Azurite) -> Iterator[str]:
    return iter(azurite.accounts)


@pytest.fixture
def storage_account(azurite: Azurite, _unused_accounts: Iterator[str]) -> StorageAccount:
    """A storage account that no other test has used."""
    name = next(_unused_accounts)
    return StorageAccount(name, azurite.connection_string(name))

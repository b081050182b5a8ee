"""Fixtures of the integration tests: a Mailchimp sandbox, and the engine on a storage account of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient

from dev.sandbox.control import SandboxControl, start_sandbox
from tests.integration.engine import Engine, build_engine
from tests.integration.login_server import LoginServer, start_login_server
from tests.integration.sign_in_desk import Desk, open_desk
from tests.support import StorageAccount


@pytest.fixture(scope="session")
def _sandbox_process() -> Iterator[SandboxControl]:
    with start_sandbox() as control:
        yield control


@pytest.fixture
def sandbox(_sandbox_process: SandboxControl) -> SandboxControl:
    """The Mailchimp sandbox as it is after a start."""
    _sandbox_process.reset()
    return _sandbox_process


@pytest.fixture
def engine(storage_account: StorageAccount, sandbox: SandboxControl) -> Engine:
    return build_engine(storage_account.connection_string, sandbox)


@pytest.fixture
def desk(storage_account: StorageAccount, sandbox: SandboxControl) -> Desk:
    """The whole product in this process, with people who call it."""
    return open_desk(storage_account.connection_string, sandbox)


@pytest.fixture
def login(sandbox: SandboxControl) -> Iterator[LoginServer]:
    """Mailchimp's sign-in host, which a test may disturb."""
    with start_login_server(sandbox.address) as server:
        yield server


@pytest.fixture
def disturbed(storage_account: StorageAccount, sandbox: SandboxControl, login: LoginServer) -> Desk:
    """A desk whose sign-in to Mailchimp goes through ``login``."""
    return open_desk(storage_account.connection_string, sandbox, MAILCHIMP_LOGIN_URL=login.address)


@pytest.fixture
def container(storage_account: StorageAccount) -> Iterator[ContainerClient]:
    """An empty container of segments."""
    with BlobServiceClient.from_connection_string(storage_account.connection_string) as service:
        yield service.create_container("segments")

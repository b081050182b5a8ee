"""Fixtures of the integration tests: a Mailchimp sandbox, and the engine on a storage account of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient

from dev.sandbox.control import SandboxControl, start_sandbox
from tests.integration.engine import Engine, build_engine
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
def container(storage_account: StorageAccount) -> Iterator[ContainerClient]:
    """An empty container of segments."""
    with BlobServiceClient.from_connection_string(storage_account.connection_string) as service:
        yield service.create_container("segments")

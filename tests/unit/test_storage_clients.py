"""How long the product waits for storage that does not answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import AzureError

from dev.azurite import PUBLISHED_KEY
from shared.settings import StorageConnection
from shared.storage import clients


@pytest.fixture
def silent_account() -> Iterator[StorageConnection]:
    """Storage that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        root = f"http://127.0.0.1:{listener.getsockname()[1]}/silent"
        yield StorageConnection(
            connection_string=f"DefaultEndpointsProtocol=http;AccountName=silent;AccountKey={PUBLISHED_KEY};"
            f"BlobEndpoint={root};QueueEndpoint={root};"
        )


def _read_blob(account: StorageConnection) -> None:
    with clients.blob_service(account) as service:
        service.get_blob_client("state", "any").download_blob(retry_total=0)


def _send_message(account: StorageConnection) -> None:
    with clients.queue_service(account) as service:
        service.get_queue_client("lanes").send_message("any", retry_total=0)


@pytest.mark.parametrize("call", [_read_blob, _send_message])
def test_a_silent_storage_account_is_given_up_after_the_time_out(
    silent_account: StorageConnection, monkeypatch: pytest.MonkeyPatch, call: Callable[[StorageConnection], None]
) -> None:
    assert clients.READ_TIMEOUT_S <= 30
    monkeypatch.setattr(clients, "READ_TIMEOUT_S", 0.2)
    began = time.monotonic()
    with pytest.raises(AzureError):
        call(silent_account)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("open_service", [clients.blob_service, clients.queue_service])
def test_the_first_repetition_comes_soon(
    silent_account: StorageConnection,
    open_service: Callable[[StorageConnection], Any],
) -> None:
    retry = open_service(silent_account)._config.retry_policy
    assert retry.initial_backoff == 1

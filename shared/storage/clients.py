"""Clients of blob and queue storage for a connection: by connection string, or by account name and identity."""

from __future__ import annotations

from typing import Any, Final

import requests
from azure.core.credentials import TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient, ExponentialRetry
from azure.storage.queue import QueueServiceClient
from requests.adapters import HTTPAdapter

from shared.settings import StorageConnection


def credential(client_id: str | None) -> TokenCredential:
    """The app's managed identity. Imported late: a local start needs none and saves 120 ms."""
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id) if client_id else ManagedIdentityCredential()


_CONNECTIONS: Final = 32
"""Kept alive per account: eight lanes, their renewals, and the uploads of prepare at the same time."""


_PIECE_BYTES: Final = 256 * 1024
"""Read from a download at a time. The library's 4 kB cost 5 ms of CPU a megabyte more (docs/performance.md)."""


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from looking for a .netrc file at every call, whose entry would replace our Authorization."""
    return request


def _transport() -> RequestsTransport:
    session = requests.Session()
    session.auth = _as_signed
    session.mount("https://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
    session.mount("http://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return RequestsTransport(session=session, connection_data_block_size=_PIECE_BYTES)


def _options() -> dict[str, Any]:
    """Short first waits: a lane that holds a connection must not sleep 15 s (the library's default) on one fault."""
    return {
        "transport": _transport(),
        "retry_policy": ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=4),
    }


def blob_service(connection: StorageConnection) -> BlobServiceClient:
    if connection.connection_string is not None:
        return BlobServiceClient.from_connection_string(connection.connection_string, **_options())
    url = f"https://{connection.account_name}.blob.core.windows.net"
    return BlobServiceClient(url, credential=credential(connection.client_id), **_options())


def queue_service(connection: StorageConnection) -> QueueServiceClient:
    if connection.connection_string is not None:
        return QueueServiceClient.from_connection_string(connection.connection_string)
    url = f"https://{connection.account_name}.queue.core.windows.net"
    return QueueServiceClient(url, credential=credential(connection.client_id))

"""Clients of blob and queue storage for a connection: by connection string, or by account name and identity."""

from __future__ import annotations

from typing import Any

from azure.core.credentials import TokenCredential
from azure.storage.blob import BlobServiceClient, ExponentialRetry
from azure.storage.queue import QueueServiceClient

from shared.settings import StorageConnection


def credential(client_id: str | None) -> TokenCredential:
    """The app's managed identity. Imported late: a local start needs none and saves 120 ms."""
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id) if client_id else ManagedIdentityCredential()


def _retries() -> dict[str, Any]:
    """Short first waits: a lane that holds a connection must not sleep 15 s (the library's default) on one fault."""
    return {"retry_policy": ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=4)}


def blob_service(connection: StorageConnection) -> BlobServiceClient:
    if connection.connection_string is not None:
        return BlobServiceClient.from_connection_string(connection.connection_string, **_retries())
    url = f"https://{connection.account_name}.blob.core.windows.net"
    return BlobServiceClient(url, credential=credential(connection.client_id), **_retries())


def queue_service(connection: StorageConnection) -> QueueServiceClient:
    if connection.connection_string is not None:
        return QueueServiceClient.from_connection_string(connection.connection_string)
    url = f"https://{connection.account_name}.queue.core.windows.net"
    return QueueServiceClient(url, credential=credential(connection.client_id))

"""Reads blobs of the segments container: listing, versions, and the bytes of exactly one version.

What the service says about a blob becomes an error of this package (missing, changed); its faults stay as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobProperties, ContainerClient

from .errors import ContainerMissing, SourceChanged, SourceMissing, SourceUnreadable

CHUNK_BYTES = 8 * 1024 * 1024
_AHEAD = 2  # chunks that are fetched while one is used


@dataclass(frozen=True, slots=True)
class BlobVersion:
    """A blob, or a snapshot of one, as it was at some moment. `etag` as HTTP writes it, in quotation marks."""

    name: str
    snapshot: str | None
    etag: str
    size: int
    last_modified: datetime


def list_versions(container: ContainerClient, prefix: str, *, snapshots: bool = False) -> list[BlobVersion]:
    """All blobs whose names start with `prefix`, with their snapshots on demand. Raises ContainerMissing."""
    include = ["snapshots"] if snapshots else None
    try:
        return [_version(blob) for blob in container.list_blobs(name_starts_with=prefix or None, include=include)]
    except ResourceNotFoundError:
        raise ContainerMissing(container.container_name) from None


def head_version(container: ContainerClient, name: str) -> BlobVersion | None:
    """One blob, None if it does not exist."""
    try:
        return _version(container.get_blob_client(name).get_blob_properties())
    except ResourceNotFoundError:
        return None


def read_whole(container: ContainerClient, name: str, limit: int) -> tuple[bytes, BlobVersion]:
    """The first `limit` bytes of a blob's present version. Raises SourceMissing."""
    with _errors_of(name, container):
        stream = container.get_blob_client(name).download_blob(offset=0, length=limit)
        return stream.readall(), _version(stream.properties)


def read_range(container: ContainerClient, version: BlobVersion, offset: int, length: int) -> bytes:
    """Bytes of exactly this version; less than `length` at its end. Raises SourceMissing, SourceChanged."""
    length = min(length, version.size - offset)
    with _errors_of(version.name, container):
        client = container.get_blob_client(version.name, snapshot=version.snapshot)
        if length <= 0:  # an empty range is an error to the service; the version is checked all the same
            client.get_blob_properties(etag=version.etag, match_condition=MatchConditions.IfNotModified)
            return b""
        return _download(client, version, offset, length)


def read_chunks(container: ContainerClient, version: BlobVersion) -> Iterator[bytes]:
    """All bytes of exactly this version, in order, some chunks fetched ahead. Raises as `read_range` does, and
    SourceChanged if fewer bytes come than the version has."""
    received = 0
    offsets = iter(range(0, max(version.size, 1), CHUNK_BYTES))
    ahead: deque[Future[bytes]] = deque()
    executor = ThreadPoolExecutor(_AHEAD, thread_name_prefix="segment-range")
    try:
        while True:
            while len(ahead) < _AHEAD and (offset := next(offsets, None)) is not None:
                ahead.append(executor.submit(read_range, container, version, offset, CHUNK_BYTES))
            if not ahead:
                break
            chunk = ahead.popleft().result()
            received += len(chunk)
            yield chunk
    finally:
        executor.shutdown(cancel_futures=True)
    if received != version.size:
        raise SourceChanged(version.name)


def _download(client: BlobClient, version: BlobVersion, offset: int, length: int) -> bytes:
    stream = client.download_blob(
        offset=offset, length=length, etag=version.etag, match_condition=MatchConditions.IfNotModified
    )
    return stream.readall()


def _version(blob: BlobProperties) -> BlobVersion:
    etag = f'"{str(blob.etag).strip(chr(34))}"'  # lists have it bare, headers in quotation marks
    size = blob.size if blob.size is not None else 0
    return BlobVersion(blob.name, blob.snapshot, etag, size, blob.last_modified)


@contextmanager
def _errors_of(file: str, container: ContainerClient) -> Iterator[None]:
    try:
        yield
    except ResourceNotFoundError as error:
        if str(getattr(error, "error_code", "")) in ("ContainerNotFound", "ContainerBeingDeleted"):
            raise ContainerMissing(container.container_name) from None
        raise SourceMissing(file) from None
    except ResourceModifiedError:
        if head_version(container, file) is None:  # Azurite looks at the condition before it misses the blob
            raise SourceMissing(file) from None
        raise SourceChanged(file) from None
    except HttpResponseError as error:
        if error.status_code == 416:  # shorter than it was, on a service that looks at the range first
            raise SourceChanged(file) from None
        if str(getattr(error, "error_code", "")) == "BlobArchived":
            raise SourceUnreadable(
                file, None, "is in the archive tier of the storage account; rehydrate it first."
            ) from None
        raise

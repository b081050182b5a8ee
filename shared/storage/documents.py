"""Small blobs with optimistic concurrency: created if absent, changed with ETag, listed by prefix.

A request whose answer was lost is repeated by the client library, so ``AlreadyExists`` and ``Changed`` may speak of our
own first try. Callers therefore either do not mind, or compare what they find with what they wanted to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobLeaseClient, BlobPrefix, BlobProperties, ContainerClient

_DELETED: Final = frozenset({202, 404})
"""What the service answers for a blob of a batch that is gone now, or was gone already."""


class DocumentError(Exception):
    """The blob is not in the state that the write asked for."""


class AlreadyExists(DocumentError):
    """Raised by ``create`` when the blob is there already."""


class Changed(DocumentError):
    """Raised by a conditional write when somebody else wrote in between, or the blob is gone."""


@dataclass(frozen=True, slots=True)
class Document:
    """The bytes of a blob and the ETag under which they were read."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a blob that was downloaded."""

    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One blob of a listing; ``metadata`` is filled when it was asked for."""

    name: str
    etag: str
    size: int
    changed_at: datetime
    metadata: Mapping[str, str]
    leased: bool


@contextmanager
def _changed(name: str, *statuses: int) -> Iterator[None]:
    """Raise Changed where the service answers with one of ``statuses``."""
    try:
        yield
    except HttpResponseError as error:
        if error.status_code in statuses:
            raise Changed(name) from error
        raise


class Documents:
    """The blobs of one container."""

    def __init__(self, container: ContainerClient) -> None:
        self.container = container

    def ensure_container(self) -> None:
        with suppress(ResourceExistsError):
            self.container.create_container()

    def read(self, name: str) -> Document | None:
        """The blob, or None where there is none."""
        try:
            stream = self.container.download_blob(name)
            return Document(stream.readall(), str(stream.properties.etag))
        except ResourceNotFoundError:
            return None

    def download(self, name: str, path: Path) -> Version | None:
        """Write the blob to the file ``path``; None where there is no blob."""
        while True:
            try:
                stream = self.container.download_blob(name)
                with path.open("wb") as file:
                    stream.readinto(file)
            except ResourceNotFoundError:
                return None
            except ResourceModifiedError:  # a large one, which somebody wrote over between two of its pieces
                continue
            return Version(str(stream.properties.etag), dict(stream.properties.metadata or {}))

    def upload(self, name: str, path: Path) -> None:
        """Write the file ``path`` to the blob, whatever is there."""
        with path.open("rb") as file:
            self.container.get_blob_client(name).upload_blob(file, overwrite=True)

    def upload_over(self, name: str, path: Path, etag: str | None, metadata: Mapping[str, str]) -> None:
        """Write the file ``path`` over the version ``etag`` of the blob, or to a new blob where that is None. Raises
        Changed."""
        blob = self.container.get_blob_client(name)
        condition: dict[str, Any] = {}
        if etag is not None:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            with path.open("rb") as file:
                blob.upload_blob(file, overwrite=etag is not None, metadata=dict(metadata), **condition)
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
            raise Changed(name) from error

    def exists(self, name: str) -> bool:
        return self.container.get_blob_client(name).exists()

    def create(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        """Write a new blob and return its ETag. Raises AlreadyExists and leaves the one that is there."""
        blob = self.container.get_blob_client(name)
        given = dict(metadata) if metadata else None
        try:
            answer = self._made(lambda: blob.upload_blob(data, overwrite=False, metadata=given))
        except ResourceExistsError as error:
            raise AlreadyExists(name) from error
        return str(answer["etag"])

    def write(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        """Write the blob whatever is there, and return its ETag. Raises Changed where somebody leases it."""
        blob = self.container.get_blob_client(name)
        given = dict(metadata) if metadata else None
        with _changed(name, 412):
            answer = self._made(lambda: blob.upload_blob(data, overwrite=True, metadata=given))
        return str(answer["etag"])

    def _made(self, write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``write`` returns, in a container that is made on the first write of a new installation."""
        try:
            return write()
        except ResourceNotFoundError:
            self.ensure_container()
            return write()

    def replace(self, name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        """Write over the version ``etag``, its metadata too, and return the new ETag. Raises Changed."""
        given = dict(metadata) if metadata else None
        try:
            answer = self.container.get_blob_client(name).upload_blob(
                data, overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified, metadata=given
            )
        except (ResourceModifiedError, ResourceNotFoundError) as error:
            raise Changed(name) from error
        return str(answer["etag"])

    def update(
        self,
        name: str,
        change: Callable[[bytes], bytes | None],
        metadata: Callable[[bytes], Mapping[str, str]] | None = None,
    ) -> bytes | None:
        """Read, change and write until nobody interferes; returns what is stored then, None where there is no blob.

        ``change`` may run more than once and must be idempotent; it returns None to leave the blob as it is.
        ``metadata`` tells the blob's metadata from its new content.
        """
        while True:
            found = self.read(name)
            if found is None:
                return None
            wanted = change(found.data)
            if wanted is None or wanted == found.data:
                return found.data
            with suppress(Changed):
                self.replace(name, wanted, found.etag, metadata(wanted) if metadata else None)
                return wanted

    def delete(self, name: str, etag: str | None = None) -> None:
        """Delete the blob, if it is there. Raises Changed where ``etag`` no longer holds, or somebody leases it."""
        blob = self.container.get_blob_client(name)
        with suppress(ResourceNotFoundError), _changed(name, 412):
            if etag is None:
                blob.delete_blob()
            else:
                blob.delete_blob(etag=etag, match_condition=MatchConditions.IfNotModified)

    def replace_leased(self, name: str, data: bytes, lease: BlobLeaseClient, metadata: Mapping[str, str]) -> None:
        """Write the blob under the lease. Raises Changed where the lease is no longer held, or the blob is gone."""
        blob = self.container.get_blob_client(name)
        with _changed(name, 404, 409, 412):
            blob.upload_blob(data, overwrite=True, lease=lease, metadata=dict(metadata))

    def delete_all(self, prefix: str) -> int:
        """Delete every blob under ``prefix``, 256 a call as the service allows; returns how many there were.

        Raises HttpResponseError when one of them could not be deleted: it may hold profiles.
        """
        names = [entry.name for entry in self.list(prefix)]
        for start in range(0, len(names), 256):
            for answer in self.container.delete_blobs(*names[start : start + 256], raise_on_any_failure=False):
                if answer.status_code not in _DELETED:
                    raise HttpResponseError(f"a blob could not be deleted ({answer.status_code})", response=answer)
        return len(names)

    def list(self, prefix: str, *, metadata: bool = False) -> Iterator[Entry]:
        """The blobs under ``prefix`` in the order of their names."""
        include = "metadata" if metadata else None
        for blob in self._blobs(prefix, include):
            yield Entry(
                name=blob.name,
                etag=str(blob.etag),
                size=int(blob.size or 0),
                changed_at=blob.last_modified,
                metadata=dict(blob.metadata or {}),
                leased=blob.lease.state == "leased",
            )

    def beginnings(self, prefix: str, end: str) -> Iterator[str]:
        """How the names under ``prefix`` begin, up to and with the first ``end`` after it: each once, in order."""
        try:
            for found in self.container.walk_blobs(name_starts_with=prefix, delimiter=end):
                if isinstance(found, BlobPrefix):
                    yield found.name
        except ResourceNotFoundError:
            return  # no container yet, so no blobs

    def _blobs(self, prefix: str, include: str | None) -> Iterator[BlobProperties]:
        try:
            yield from self.container.list_blobs(name_starts_with=prefix, include=include)
        except ResourceNotFoundError:
            return  # no container yet, so no blobs

    def names(self, prefix: str) -> Iterator[str]:
        """The names under ``prefix`` in their order, 5,000 a call; for those who need nothing else of the blobs."""
        try:
            yield from self.container.list_blob_names(name_starts_with=prefix)
        except ResourceNotFoundError:
            return  # no container yet, so no blobs

    def reachable(self) -> bool:
        """Whether the container answers; a new installation makes it here."""
        try:
            if not self.container.exists():
                self.ensure_container()
        except AzureError:
            return False
        return True

"""Documents in memory, with the ETags, the errors and the order of listing of the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from azure.storage.blob import BlobProperties

from shared.storage.documents import AlreadyExists, Changed, Document, Documents, Entry, Version


@dataclass(frozen=True)
class FakeBlob:
    """One blob, for whoever asks the client library itself for its metadata."""

    name: str
    metadata: dict[str, Mapping[str, str]]

    def get_blob_properties(self) -> BlobProperties:
        return BlobProperties(metadata=self.metadata.get(self.name, {}))


@dataclass(frozen=True)
class FakeContainer:
    metadata: dict[str, Mapping[str, str]]

    def get_blob_client(self, name: str) -> FakeBlob:
        return FakeBlob(name, self.metadata)


class FakeDocuments:
    """Implements the interface of ``Documents``; ``before_replace`` lets a test interfere just before a write."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[bytes, str]] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.container = FakeContainer(self.metadata)
        self.before_replace: Callable[[str], None] | None = None
        self.fault: Exception | None = None
        self._lock = threading.RLock()
        self._version = 0
        self.changed_at = datetime(2026, 1, 1, tzinfo=UTC)
        """When every blob was changed, for all it says, but for those in ``changed``."""
        self.changed: dict[str, datetime] = {}
        self.leased: set[str] = set()
        """What somebody else holds the lease of."""

    def as_documents(self) -> Documents:
        return cast("Documents", self)

    def ensure_container(self) -> None:
        self._check()

    def read(self, name: str) -> Document | None:
        self._check()
        found = self.blobs.get(name)
        return Document(*found) if found else None

    def download(self, name: str, path: Path) -> Version | None:
        found = self.read(name)
        if found is None:
            return None
        path.write_bytes(found.data)
        return Version(found.etag, self.metadata.get(name, {}))

    def upload_over(self, name: str, path: Path, etag: str | None, metadata: Mapping[str, str]) -> None:
        try:
            if etag is None:
                self.create(name, path.read_bytes(), metadata)
            else:
                self.replace(name, path.read_bytes(), etag, metadata)
        except AlreadyExists as error:
            raise Changed(name) from error

    def exists(self, name: str) -> bool:
        return self.read(name) is not None

    def create(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        self._check()
        with self._lock:
            if name in self.blobs:
                raise AlreadyExists(name)
            self.metadata[name] = metadata or {}
            return self._put(name, data)

    def write(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        self._check()
        with self._lock:
            if name in self.leased:
                raise Changed(name)
            self.metadata[name] = metadata or {}
            return self._put(name, data)

    def replace(self, name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        self._check()
        if self.before_replace is not None:
            interfere, self.before_replace = self.before_replace, None
            interfere(name)
        with self._lock:
            if name not in self.blobs or self.blobs[name][1] != etag:
                raise Changed(name)
            self.metadata[name] = metadata or {}
            return self._put(name, data)

    def replace_leased(self, name: str, data: bytes, lease: object, metadata: Mapping[str, str]) -> None:
        assert lease is not None, "only who holds the blob may write over what it says"
        if name in self.leased:
            raise Changed(name)
        self.metadata[name] = metadata
        self._put(name, data)

    def update(
        self,
        name: str,
        change: Callable[[bytes], bytes | None],
        metadata: Callable[[bytes], Mapping[str, str]] | None = None,
    ) -> bytes | None:
        return Documents.update(self.as_documents(), name, change, metadata)

    def delete(self, name: str, etag: str | None = None) -> None:
        self._check()
        with self._lock:
            if name not in self.blobs:
                return
            if name in self.leased or (etag is not None and self.blobs[name][1] != etag):
                raise Changed(name)
            del self.blobs[name]

    def delete_all(self, prefix: str) -> int:
        names = [entry.name for entry in self.list(prefix)]
        for name in names:
            self.delete(name)
        return len(names)

    def list(self, prefix: str, *, metadata: bool = False) -> Iterator[Entry]:
        self._check()
        for name in sorted(self.blobs):
            if name.startswith(prefix):
                data, etag = self.blobs[name]
                shown = self.metadata.get(name, {}) if metadata else {}
                changed_at = self.changed.get(name, self.changed_at)
                yield Entry(name, etag, len(data), changed_at, shown, leased=name in self.leased)

    def names(self, prefix: str) -> Iterator[str]:
        yield from (entry.name for entry in self.list(prefix))

    def beginnings(self, prefix: str, end: str) -> Iterator[str]:
        self._check()
        rests = [name.removeprefix(prefix) for name in sorted(self.blobs) if name.startswith(prefix)]
        yield from dict.fromkeys(f"{prefix}{rest.split(end)[0]}{end}" for rest in rests if end in rest)

    def reachable(self) -> bool:
        return self.fault is None

    def _put(self, name: str, data: bytes) -> str:
        self._version += 1
        etag = f'"0x{self._version:X}"'
        self.blobs[name] = (bytes(data), etag)
        return etag

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

"""Blob leases as locks: held while a thread renews them, lost by themselves when the process dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobLeaseClient, ContainerClient


class LeaseLost(Exception):
    """Raised when work is to go on under a lease that is no longer ours for certain."""


@dataclass(slots=True)
class HeldLease:
    """A lease that this process holds. ``certain_until`` is in seconds of the given monotonic clock."""

    client: BlobLeaseClient
    duration_s: int
    clock: Callable[[], float]
    certain_until: float
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def id(self) -> str:
        return str(self.client.id)

    def check(self, margin_s: float = 0) -> None:
        """Raise LeaseLost unless the lease is ours for ``margin_s`` seconds more, whatever storage does meanwhile."""
        if self.clock() + margin_s >= self.certain_until:
            raise LeaseLost("the lease ran out before it could be renewed")

    def renew(self) -> None:
        asked_at = self.clock()  # the service's time starts later than this, so we always give up first
        self.client.renew()
        self.certain_until = asked_at + self.duration_s

    def keep(self) -> None:
        """Renew at a third of the duration until stopped. A fault is tried again while the lease still runs."""
        wait = self.duration_s / 3
        while not self.stopped.wait(wait):
            try:
                self.renew()
                wait = self.duration_s / 3
            except HttpResponseError as error:
                if error.status_code in {404, 409, 412}:
                    self.certain_until = 0
                    return
                wait = 1
            except AzureError:
                wait = 1


class Leases:
    """Takes leases on blobs of one container."""

    def __init__(self, container: ContainerClient, clock: Callable[[], float], duration_s: int = 30) -> None:
        self._container = container
        self._clock = clock
        self._duration_s = duration_s

    @contextmanager
    def take(self, name: str, *, create: bool = True) -> Iterator[HeldLease | None]:
        """Hold the lease of ``name`` inside the block; None when somebody else holds it.

        An absent blob is created, or with ``create=False`` counts as held by somebody else.
        """
        lease = self._acquire(name, create)
        if lease is None:
            yield None
            return
        keeper = threading.Thread(target=lease.keep, name=f"lease {name}", daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            lease.stopped.set()
            keeper.join()
            with suppress(AzureError):  # it ends by itself
                lease.client.release()

    def _acquire(self, name: str, create: bool) -> HeldLease | None:
        blob = self._container.get_blob_client(name)
        client = BlobLeaseClient(blob)
        asked_at = self._clock()
        try:
            client.acquire(lease_duration=self._duration_s)
        except ResourceNotFoundError:
            if not create:
                return None
            with suppress(ResourceExistsError, HttpResponseError):
                blob.upload_blob(b"", overwrite=False)
            try:
                asked_at = self._clock()
                client.acquire(lease_duration=self._duration_s)
            except (ResourceExistsError, ResourceNotFoundError):
                return None
        except ResourceExistsError:
            return None
        return HeldLease(client, self._duration_s, self._clock, asked_at + self._duration_s)

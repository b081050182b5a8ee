"""Timer triggers: due by their schedule, run by one host process at a time, caught up when missed.

Per function there is one blob in `azure-webjobs-hosts`: its lease says who runs now, its content when it last ran.
All hosts of a storage account wait for the same moment; who gets the lease runs the function, the others wait until
that is done, and take over if that host dies. (The real host elects one instance per listener instead; what a function
sees is the same: one run per moment, no overlap, IsPastDue when a moment was missed while no host was up.)
Source: "Timer trigger for Azure Functions".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.storage.blob import BlobClient, BlobLeaseClient, ContainerClient

from dev.host.errors import InvocationError
from dev.host.invocations import Invoker
from dev.host.loading import LoadedFunction, TimerTrigger
from dev.host.logs import log
from dev.host.queues import wait_unless
from dev.host.storage import Storage

T = TypeVar("T")

_LEASE_SECONDS = 15  # the shortest that a blob lease can be
_RENEWAL_SECONDS = 5
_RETRY_SECONDS = 1.0
# "use_monitor" is for schedules whose moments are at least this far apart.
_MONITOR_FROM = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class TimerStatus:
    """What is kept of a timer between runs and hosts. Moments in UTC."""

    schedule: str
    last: datetime | None
    next: datetime

    @classmethod
    def from_json(cls, text: str) -> TimerStatus:
        """Reads what `to_json` wrote."""
        document = json.loads(text)
        last = document["Last"]
        return cls(
            document["Schedule"],
            None if last is None else datetime.fromisoformat(last),
            datetime.fromisoformat(document["Next"]),
        )

    def to_json(self) -> str:
        """The blob's content; property names are the real host's."""
        last = None if self.last is None else self.last.isoformat()
        return json.dumps({"Schedule": self.schedule, "Last": last, "Next": self.next.isoformat()})


class TimerListener:
    """Runs one timer function when it is due. `run` ends when `stopping` is set."""

    def __init__(
        self,
        function: LoadedFunction,
        trigger: TimerTrigger,
        storage: Storage,
        invoker: Invoker,
        stopping: asyncio.Event,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._function = function
        self._trigger = trigger
        self._storage = storage
        self._invoker = invoker
        self._stopping = stopping
        self._clock = clock
        self._container: ContainerClient = storage.host_container(f"the timer function {function.name}")
        self._blob: BlobClient = self._container.get_blob_client(f"timers/{function.name}/status")

    async def run(self) -> None:
        """Waits for each due moment and runs it, until the host stops. Faults of the storage are outlived."""
        due = await self._outlive_faults(self._first_due)
        if self._trigger.run_on_startup:
            await self._outlive_faults(self._run_at_startup)
        while due is not None and not await self._wait_until(due):
            due = await self._outlive_faults(partial(self._occurrence, due))

    async def run_by_hand(self) -> None:
        """Runs the function now, outside its schedule (POST /admin/functions/{name})."""
        await self._invoke(past_due=False, status=None, reason="by hand")

    async def _first_due(self) -> datetime:
        """When to run first: the remembered moment, or the next one. Remembers it if nothing was."""
        upcoming = self._next()
        await self._create_status(upcoming)
        status = await self._status()
        if status.schedule != self._trigger.schedule.text or not self._monitored(upcoming):
            return upcoming
        return status.next

    async def _occurrence(self, due: datetime) -> datetime | None:
        """Sees to it that the moment `due` is run by some host; the moment after it, None when the host stops."""
        while not self._stopping.is_set():
            async with self._lease() as lease:
                status = await self._status()
                if status.last is not None and status.last >= due:
                    return self._next(status.last)
                if lease is not None:
                    return await self._run_holding(lease, due, status)
            await wait_unless(self._stopping, _RETRY_SECONDS)
        return None

    async def _run_holding(self, lease: BlobLeaseClient, due: datetime, status: TimerStatus) -> datetime:
        past_due = self._clock() - due > timedelta(seconds=_RETRY_SECONDS)
        await self._invoke(past_due=past_due, status=status, reason=f"due {due.isoformat()}")
        after = TimerStatus(self._trigger.schedule.text, due, self._next(due))
        await self._storage.call(_write_status, self._blob, after, lease)
        return after.next

    async def _run_at_startup(self) -> None:
        async with self._lease() as lease:
            if lease is not None:  # else another host is running it now
                await self._invoke(past_due=False, status=None, reason="startup")

    async def _invoke(self, *, past_due: bool, status: TimerStatus | None, reason: str) -> None:
        schedule_status = None if status is None else json.loads(status.to_json())
        value = {"IsPastDue": past_due, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": schedule_status}
        try:
            await self._invoker.run(self._function, Datum(json.dumps(value), "json"), {}, reason=reason)
        except InvocationError:
            return  # logged; a timer has no retry but its next moment

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[BlobLeaseClient | None]:
        """The right to run, renewed while the block runs; None when another host has it."""
        try:
            lease: BlobLeaseClient = await self._storage.call(self._blob.acquire_lease, _LEASE_SECONDS)
        except ResourceExistsError:
            yield None
            return
        renewal = asyncio.create_task(self._renew(lease))
        try:
            yield lease
        finally:
            renewal.cancel()
            try:
                await self._storage.call(lease.release)
            except (AzureError, OSError) as error:
                self._log_fault(error)

    async def _renew(self, lease: BlobLeaseClient) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            try:
                await self._storage.call(lease.renew)
            except (AzureError, OSError) as error:
                self._log_fault(error)

    async def _status(self) -> TimerStatus:
        return TimerStatus.from_json(await self._storage.call(_read, self._blob))

    def _next(self, after: datetime | None = None) -> datetime:
        """The moment after now, or after a later moment that has been run already."""
        now = self._clock()
        return self._trigger.schedule.next(now if after is None else max(now, after))

    def _monitored(self, upcoming: datetime) -> bool:
        return self._trigger.use_monitor and self._trigger.schedule.next(upcoming) - upcoming >= _MONITOR_FROM

    async def _wait_until(self, due: datetime) -> bool:
        """Waits for the moment; True when the host stops before. Looks at the clock now and then: machines sleep."""
        while (left := (due - self._clock()).total_seconds()) > 0:
            if await wait_unless(self._stopping, min(left, 30)):
                return True
        return self._stopping.is_set()

    async def _create_status(self, upcoming: datetime) -> None:
        status = TimerStatus(self._trigger.schedule.text, None, upcoming)
        await self._storage.call(_create_container, self._container)
        await self._storage.call(_create_status, self._blob, status)

    async def _outlive_faults(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """Repeats a step until the storage lets it pass, or the host stops (None)."""
        while not self._stopping.is_set():
            try:
                return await step()
            except ResourceNotFoundError:  # somebody emptied the storage account under us
                step = partial(self._create_again, step)
            except (AzureError, OSError) as error:
                self._log_fault(error)
                await wait_unless(self._stopping, _RETRY_SECONDS)
        return None

    async def _create_again(self, step: Callable[[], Awaitable[T]]) -> T:
        await self._create_status(self._next())
        return await step()

    def _log_fault(self, error: Exception) -> None:
        log(
            "timer.storage_fault",
            logging.WARNING,
            function=self._function.name,
            reason=str(error).split("\n", 1)[0],
        )


def _create_container(container: ContainerClient) -> None:
    try:
        container.create_container()
    except ResourceExistsError:
        return


def _create_status(blob: BlobClient, status: TimerStatus) -> None:
    try:
        blob.upload_blob(status.to_json(), overwrite=False)
    except ResourceExistsError:
        return


def _write_status(blob: BlobClient, status: TimerStatus, lease: BlobLeaseClient) -> None:
    blob.upload_blob(status.to_json(), overwrite=True, lease=lease)


def _read(blob: BlobClient) -> str:
    return blob.download_blob().readall().decode()

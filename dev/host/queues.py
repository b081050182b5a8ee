"""Queue triggers: fetch, run, delete, redeliver, poison.

What the real host does with a message (azure-sdk-for-net, Microsoft.Azure.WebJobs.Extensions.Storage.Queues, classes
QueueListener and QueueProcessor):

- It fetches `batchSize` messages whenever `newBatchThreshold` or fewer of this function are under way.
- A fetched message is hidden for ten minutes and hidden again at half time for as long as its function runs. The
  message of a host that was killed therefore comes back after ten minutes at most.
- Success deletes it. Failure shows it again after `visibilityTimeout`; the failure of delivery number
  `maxDequeueCount`, and text that cannot be decoded, moves it to `<queue>-poison`.
- An empty queue is asked again after 100 ms, then less and less often, up to `maxPollingInterval`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.storage.queue import QueueClient, QueueMessage

from dev.host.config import QueueOptions
from dev.host.errors import InvocationError
from dev.host.invocations import Invoker
from dev.host.loading import LoadedFunction, QueueTrigger
from dev.host.logs import log
from dev.host.storage import Storage, create_queue, send_message

T = TypeVar("T")

DEFAULT_LEASE_SECONDS = 600
_MIN_POLLING_INTERVAL = 0.1
_FAULT_PAUSE = 2.0
_MAX_MESSAGES = 32


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """host.json's queue options, and how long a fetched message stays hidden (600 s in the real host)."""

    options: QueueOptions
    lease_seconds: int = DEFAULT_LEASE_SECONDS


class QueueListener:
    """Feeds one queue-triggered function. `run` ends when `stopping` is set; `invoker` drains what is under way."""

    def __init__(
        self,
        function: LoadedFunction,
        trigger: QueueTrigger,
        storage: Storage,
        invoker: Invoker,
        settings: QueueSettings,
        stopping: asyncio.Event,
    ) -> None:
        needed_by = f"the function {function.name}"
        self._function = function
        self._storage = storage
        self._invoker = invoker
        self._settings = settings
        self._stopping = stopping
        self._queue = storage.queue(trigger.connection, trigger.queue, needed_by)
        self._poison = storage.queue(trigger.connection, f"{trigger.queue}-poison", needed_by)
        self._under_way = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Fetches and starts messages until the host stops. Faults of the storage are logged and outlived."""
        pause = _MIN_POLLING_INTERVAL
        await self._outlive_faults("create", lambda: self._storage.call(create_queue, self._queue))
        while not self._stopping.is_set():
            if self._under_way > self._settings.options.fetch_at:
                self._room.clear()
                await _first_of(self._room, self._stopping)
                continue
            messages = await self._fetch()
            if messages is None:
                await wait_unless(self._stopping, _FAULT_PAUSE)
            elif messages:
                pause = _MIN_POLLING_INTERVAL
                for message in messages:
                    self._start(message)
            else:
                await wait_unless(self._stopping, pause * random.uniform(0.8, 1.2))
                pause = min(pause * 2, self._settings.options.max_polling_interval)

    async def run_by_hand(self, text: str) -> None:
        """Runs the function with a message that never was in the queue (POST /admin/functions/{name})."""
        metadata = {"Id": _string("by-hand"), "DequeueCount": _string("1")}
        try:
            await self._invoker.run(self._function, _string(text), metadata, reason="by hand")
        except InvocationError:
            return  # logged; there is no message to give back

    async def _fetch(self) -> list[QueueMessage] | None:
        """The next messages, hidden for the lease; None after a fault."""
        try:
            return await self._storage.call(_receive, self._queue, self._settings)
        except ResourceNotFoundError:
            await self._outlive_faults("create", lambda: self._storage.call(create_queue, self._queue))
            return []
        except (AzureError, OSError) as error:
            self._log_fault("receive", error)
            return None

    def _start(self, message: QueueMessage) -> None:
        if self._stopping.is_set():
            self._invoker.start(self._show_again(message.id, message.pop_receipt or "", 0))
            return
        self._under_way += 1
        self._invoker.start(self._process(message)).add_done_callback(self._done)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._under_way -= 1
        self._room.set()

    async def _process(self, message: QueueMessage) -> None:
        deliveries = message.dequeue_count or 1
        limit = self._settings.options.max_dequeue_count
        try:
            content = self._storage.decode(message.content)
        except ValueError as error:
            await self._to_poison(message, message.pop_receipt or "", f"its text cannot be decoded ({error})")
            return
        if deliveries > limit:  # hosts were killed while they had it
            await self._to_poison(message, message.pop_receipt or "", f"delivered {limit} times")
            return
        lease = _Lease(self, message)
        succeeded = True
        try:
            reason = f"message {message.id}, delivery {deliveries}"
            await self._invoker.run(self._function, _string(content), _metadata(message), reason=reason)
        except InvocationError:
            succeeded = False
        finally:
            receipt = await lease.end()
        if succeeded:
            await self._outlive_faults("delete", lambda: self._delete(message.id, receipt))
        elif deliveries >= limit:
            await self._to_poison(message, receipt, f"failed {deliveries} times")
        else:
            await self._show_again(message.id, receipt, self._settings.options.visibility_timeout)

    async def _to_poison(self, message: QueueMessage, receipt: str, reason: str) -> None:
        """Copies the message to the poison queue and then deletes it: a crash in between leaves two, never none."""
        log(
            "queue.poison",
            logging.WARNING,
            function=self._function.name,
            queue=self._queue.queue_name,
            messageId=message.id,
            reason=reason,
        )
        if await self._outlive_faults(
            "poison", lambda: self._storage.call(send_message, self._poison, message.content)
        ):
            await self._outlive_faults("delete", lambda: self._delete(message.id, receipt))

    async def _show_again(self, message_id: str, receipt: str, after: float) -> None:
        await self._outlive_faults(
            "show", lambda: self._storage.call(_hide, self._queue, message_id, receipt, round(after))
        )

    async def _delete(self, message_id: str, receipt: str) -> None:
        await self._storage.call(self._queue.delete_message, message_id, receipt)

    async def _outlive_faults(self, operation: str, attempt: Callable[[], Awaitable[object]]) -> bool:
        """Makes one storage call (the client repeats it a few times); False when it failed.

        A message whose end could not be written down is delivered again: at least once is what queues promise.
        """
        try:
            await attempt()
        except (AzureError, OSError) as error:
            self._log_fault(operation, error)
            return False
        return True

    def _log_fault(self, operation: str, error: Exception) -> None:
        log(
            "queue.storage_fault",
            logging.WARNING,
            function=self._function.name,
            queue=self._queue.queue_name,
            operation=operation,
            reason=str(error).split("\n", 1)[0],
        )

    async def hide_longer(self, message_id: str, receipt: str) -> str | None:
        """Extends a message's lease; its new pop receipt, or None after a fault."""
        try:
            return await self._storage.call(_hide, self._queue, message_id, receipt, self._settings.lease_seconds)
        except (AzureError, OSError) as error:
            self._log_fault("renew", error)
            return None

    @property
    def renewal_interval(self) -> float:
        """Seconds between renewals of a message's lease."""
        return self._settings.lease_seconds / 2


class _Lease:
    """Keeps one message hidden while its function runs, and knows the pop receipt that is valid at the end."""

    def __init__(self, listener: QueueListener, message: QueueMessage) -> None:
        self._listener = listener
        self._message_id = message.id
        self._receipt = message.pop_receipt or ""
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._renew())

    async def end(self) -> str:
        """Stops renewing and returns the pop receipt. A renewal under way is waited for: it changes the receipt."""
        self._ended.set()
        await self._task
        return self._receipt

    async def _renew(self) -> None:
        while not await wait_unless(self._ended, self._listener.renewal_interval):
            self._receipt = await self._listener.hide_longer(self._message_id, self._receipt) or self._receipt


async def wait_unless(event: asyncio.Event, seconds: float) -> bool:
    """Waits `seconds`, or until the event is set; True when it is."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _receive(queue: QueueClient, settings: QueueSettings) -> list[QueueMessage]:
    count = min(settings.options.batch_size, _MAX_MESSAGES)
    pages = queue.receive_messages(messages_per_page=count, visibility_timeout=settings.lease_seconds).by_page()
    return list(next(pages, []))  # one page is one request


def _hide(queue: QueueClient, message_id: str, receipt: str, seconds: int) -> str:
    """Hides a fetched message for `seconds` from now; its new pop receipt. Its content stays as it is."""
    return queue.update_message(message_id, receipt, visibility_timeout=seconds).pop_receipt or receipt


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    values: dict[str, Any] = {
        "Id": message.id,
        "DequeueCount": message.dequeue_count,
        "PopReceipt": message.pop_receipt,
        "InsertionTime": _iso(message.inserted_on),
        "ExpirationTime": _iso(message.expires_on),
        "NextVisibleTime": _iso(message.next_visible_on),
    }
    return {name: _string(str(value)) for name, value in values.items() if value is not None}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _string(text: str) -> Datum:
    return Datum(text, "string")

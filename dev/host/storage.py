"""The host's way to the storage account: SDK clients, called from a pool of threads so that the host never blocks."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContainerClient
from azure.storage.queue import QueueClient

from dev.host.config import connection_string

P = ParamSpec("P")
T = TypeVar("T")

HOST_CONTAINER = "azure-webjobs-hosts"
# The SDK's first retry waits 15 s; against an emulator next door a fault is either short or worth a log line.
_CLIENT: dict[str, Any] = {
    "initial_backoff": 0.2,
    "increment_base": 2,
    "random_jitter_range": 0.1,
    "retry_total": 3,
    "connection_timeout": 5,
    "read_timeout": 30,
}


class Storage:
    """Opens queues and containers by connection setting; `call` runs a blocking SDK call in a thread."""

    def __init__(self, env: Mapping[str, str], message_encoding: str, threads: int = 16) -> None:
        self._env = env
        self._base64 = message_encoding == "base64"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="storage")

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` in a thread of the pool and waits for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs))

    def queue(self, connection: str | None, name: str, needed_by: str) -> QueueClient:
        """A queue; message texts go through it as they are (see `encode`, `decode`). Raises HostError."""
        account = connection_string(connection, self._env, needed_by)
        return QueueClient.from_connection_string(account, name, **_CLIENT)

    def host_container(self, needed_by: str) -> ContainerClient:
        """The container in which hosts keep locks and schedules. Raises HostError."""
        account = connection_string(None, self._env, needed_by)
        return ContainerClient.from_connection_string(account, HOST_CONTAINER, **_CLIENT)

    def encode(self, content: bytes) -> str:
        """A message's content as its text in the queue, by host.json messageEncoding."""
        return base64.b64encode(content).decode() if self._base64 else content.decode()

    def decode(self, text: str) -> str:
        """The content of a message's text in the queue; ValueError when it is not in the encoding of host.json."""
        # .NET, in which the real host is written, replaces what is not UTF-8.
        return base64.b64decode(text, validate=True).decode(errors="replace") if self._base64 else text


def create_queue(queue: QueueClient) -> None:
    """Makes the queue if it does not exist."""
    try:
        queue.create_queue()
    except ResourceExistsError:
        return


def send_message(queue: QueueClient, text: str) -> None:
    """Sends one message; makes the queue first when it is missing, as the host's output binding does."""
    try:
        queue.send_message(text)
    except ResourceNotFoundError:
        create_queue(queue)
        queue.send_message(text)

"""A proxy between the hosts and Azurite that fails on demand: before a request is applied, and after.

It reads a request as a whole, decides, passes it on as it is and reads the answer as a whole. Shared keys sign path
and headers and not the address of the server, so a connection string with the proxy's addresses works as it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from dev.azurite import DEFAULT_ACCOUNT, PUBLISHED_KEY

_HOST: Final = "127.0.0.1"
_LATEST_COPY_S: Final = 20.0
_SILENCE_S: Final = 40.0
"""Longer than the product and the host wait for an answer of storage."""
_ERRORS: Final = {500: "InternalError", 503: "ServerBusy"}

ANY_REQUEST: Final = (
    "storage 500 before",
    "storage 500 after",
    "storage 503 before",
    "storage 503 after",
    "storage reset before",
    "storage reset after",
    "storage time-out before",
    "storage time-out after",
    "storage silent",
    "storage slow",
)
MESSAGES: Final = ("message copied", "message deleted in vain", "message late")
"""Copied: the same text is put on the queue again, up to 20 s later. Deleted in vain: it is delivered twice. Late: the
answer that brings it is lost, so it comes when its time of being hidden is over."""


@dataclass(slots=True)
class _Request:
    method: str
    target: str
    raw: bytes

    @property
    def message_fault(self) -> str | None:
        """Which of MESSAGES this request may meet."""
        path = self.target.partition("?")[0]
        if path.endswith("/messages") and not path.endswith("-poison/messages"):
            if self.method == "POST":
                return "message copied"
            return "message late" if self.method == "GET" and "peekonly" not in self.target else None
        return "message deleted in vain" if self.method == "DELETE" and "/messages/" in path else None


class StorageProxy:
    """A running proxy. `struck` counts the faults by name; `passed` the requests that were left alone."""

    def __init__(self, seed: int) -> None:
        self.struck: Counter[str] = Counter()
        self.passed = 0
        self._random = Random(f"storage {seed}")
        self._rates: Mapping[str, float] = {}
        self._paused = False
        self._under_way = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._upstream: dict[str, int] = {}
        self._ports: dict[str, int] = {}

    @property
    def connection_string(self) -> str:
        """The account as the hosts are to see it."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={DEFAULT_ACCOUNT};AccountKey={PUBLISHED_KEY};"
            f"BlobEndpoint=http://{_HOST}:{self._ports['blob']}/{DEFAULT_ACCOUNT};"
            f"QueueEndpoint=http://{_HOST}:{self._ports['queue']}/{DEFAULT_ACCOUNT};"
        )

    def arm(self, rates: Mapping[str, float]) -> None:
        """From now on each fault strikes with its probability (0 to 1); of several, one at a time."""
        self._rates = dict(rates)

    def disarm(self) -> None:
        """No faults from now on; copies that are on their way still arrive."""
        self._rates = {}

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside the block every connection is refused, and nothing is under way: Azurite may be restarted."""
        self._paused = True
        try:
            deadline = time.monotonic() + 20
            while self._under_way and time.monotonic() < deadline:
                time.sleep(0.02)
            yield
        finally:
            self._paused = False

    # -- life ----------------------------------------------------------------------------------------------------

    def run(self, upstream: Mapping[str, int], ready: threading.Event) -> None:
        """Serve until `stop`, in this thread. `upstream` are Azurite's ports of `blob` and `queue`."""
        self._upstream = dict(upstream)
        asyncio.set_event_loop(self._loop)
        servers = [self._loop.run_until_complete(self._listen(service)) for service in upstream]
        ready.set()
        self._loop.run_forever()
        for server in servers:
            server.close()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # sockets are closed one turn after their connections
        self._loop.close()

    def stop(self) -> None:
        """End `run`."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _listen(self, service: str) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                    while await self._exchange(service, reader, writer):
                        pass
                writer.close()
            except asyncio.CancelledError:
                writer.transport.abort()
                raise

        server = await asyncio.start_server(serve, _HOST, 0, backlog=256)
        self._ports[service] = server.sockets[0].getsockname()[1]
        return server

    # -- one request ---------------------------------------------------------------------------------------------

    async def _exchange(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is no more."""
        request = await _read_request(reader)
        if self._paused:
            _reset(writer)
            return False
        fault = self._choose(request)
        if fault is None:
            self.passed += 1
            writer.write(await self._forward(service, request))
        else:
            self.struck[fault] += 1
            if not await self._fail(fault, service, request, writer):
                return False
        await writer.drain()
        return True

    def _choose(self, request: _Request) -> str | None:
        left = self._random.random()
        for name, rate in self._rates.items():
            if name in MESSAGES and name != request.message_fault:
                continue
            left -= rate
            if left < 0:
                return name
        return None

    async def _fail(self, fault: str, service: str, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Let the fault strike; False when the connection is broken by it."""
        if fault == "message copied":
            task = self._loop.create_task(self._copy_later(service, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            writer.write(await self._forward(service, request))
            return True
        if fault == "message deleted in vain":
            writer.write(b"HTTP/1.1 204 No Content\r\nx-ms-version: 2021-10-04\r\nContent-Length: 0\r\n\r\n")
            return True
        if fault == "storage slow":
            await asyncio.sleep(self._random.uniform(0.3, 2))
            writer.write(await self._forward(service, request))
            return True
        if not fault.endswith(" before"):
            await self._forward(service, request)
        if "silent" in fault:
            await asyncio.sleep(_SILENCE_S)
        if "time-out" in fault:
            await asyncio.sleep(self._random.uniform(1, 3))
            writer.write(_error(500, "OperationTimedOut", request))
            return True
        status = next((status for status in _ERRORS if str(status) in fault), None)
        if status is None:
            _reset(writer)
            return False
        writer.write(_error(status, _ERRORS[status], request))
        return True

    async def _copy_later(self, service: str, request: _Request) -> None:
        await asyncio.sleep(self._random.uniform(0, _LATEST_COPY_S))
        if self._paused:
            return  # Azurite is not there
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._forward(service, request)

    async def _forward(self, service: str, request: _Request) -> bytes:
        """The whole answer of Azurite, which gets a connection of its own for each request."""
        self._under_way += 1
        try:
            reader, writer = await asyncio.open_connection(_HOST, self._upstream[service])
            try:
                writer.write(request.raw)
                return await _read_answer(reader, request.method)
            finally:
                writer.close()
        finally:
            self._under_way -= 1


async def _read_request(reader: asyncio.StreamReader) -> _Request:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    body = await reader.readexactly(int(_header(head, b"content-length") or 0))
    return _Request(method, target, head + body)


async def _read_answer(reader: asyncio.StreamReader, method: str) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if method == "HEAD" or status in {204, 304}:
        return head
    if (length := _header(head, b"content-length")) is not None:
        return head + await reader.readexactly(int(length))
    if b"chunked" not in (_header(head, b"transfer-encoding") or b"").lower():
        return head + await reader.read()
    pieces = [head]
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        pieces += [line, await reader.readexactly(size + 2)]
        if size == 0:
            return b"".join(pieces)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def _error(status: int, code: str, request: _Request) -> bytes:
    """An error of Azure Storage (REST API, "Status and error codes")."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>Injected.</Message></Error>'
    sent = b"" if request.method == "HEAD" else body.encode()
    head = (
        f"HTTP/1.1 {status} {code}\r\nx-ms-error-code: {code}\r\nx-ms-version: 2021-10-04\r\n"
        f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + sent


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the client sees `connection reset by peer`."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def start_proxy(seed: int, blob_port: int, queue_port: int) -> Iterator[StorageProxy]:
    """A proxy in a thread of its own in front of Azurite on these ports, until the block is left."""
    proxy, ready = StorageProxy(seed), threading.Event()
    upstream = {"blob": blob_port, "queue": queue_port}
    thread = threading.Thread(target=proxy.run, args=(upstream, ready), name="storage-proxy", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)

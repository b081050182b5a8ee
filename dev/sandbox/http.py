"""A small HTTP/1.1 server on asyncio.

A web framework would do for the API itself, but not for two things this tool is made for: breaking connections in
chosen ways, and letting a call run on (and count as open) after its client has gone. It also costs a tenth of the CPU.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 512 * 1024 * 1024  # a preload of a million contacts in one call is about 200 MB


class Delivery(Enum):
    """How a reply reaches the client."""

    NORMAL = "normal"
    RESET = "reset"  # nothing is written, the connection is reset
    BREAK_OFF = "breakOff"  # the head promises the whole body, half of it is sent, then the connection closes


@dataclass(slots=True)
class Request:
    """One request, read completely. Header names are in lower case; the query holds the last value of each name."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    """One answer: a body in one piece, or `stream`, whose pieces are sent as chunks."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    stream: Iterator[bytes] | None = None
    delivery: Delivery = Delivery.NORMAL


def json_reply(document: Any, status: int = 200) -> Reply:
    """A JSON answer in UTF-8."""
    return Reply(status=status, body=msgspec.json.encode(document))


Answer = Callable[[Request], Awaitable[Reply]]


class BadRequestError(Exception):
    """The bytes are not an HTTP/1.1 request that this server reads."""


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        try:
            return int(self.headers.get("content-length", "0"))
        except ValueError:
            raise BadRequestError("Content-Length is not a number") from None

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


class Connection(asyncio.Protocol):
    """One client connection: reads requests one after the other and writes their replies in that order."""

    def __init__(self, answer: Answer, open_connections: set[Connection]) -> None:
        self._answer = answer
        self._open_connections = open_connections
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    # asyncio calls these five
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a TCP server hands out nothing else
        self._open_connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        # The running call is not cancelled: Mailchimp finishes, and keeps counting, a call whose client has left.
        self._writable.set()
        self._open_connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next_request()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def idle(self) -> bool:
        """No call is running on this connection."""
        return self._task is None

    def close(self) -> None:
        """Close the connection; what was written is still sent."""
        self._transport.close()

    def _next_request(self) -> None:
        try:
            request = self._take_request()
        except BadRequestError as error:
            self._write(Reply(400, str(error).encode(), "text/plain; charset=utf-8"), keep_alive=False)
            self._transport.close()
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def _take_request(self) -> Request | None:
        """The next complete request of the buffer, or None while bytes are missing."""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise BadRequestError("the head of the request is too long")
                return None
            self._head = _parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = self._head
        if head.chunked:
            found = _take_chunks(self._buffer)
            if found is None:
                return None
            body, used = found
        else:
            used = head.length
            if used > MAX_BODY_BYTES:
                raise BadRequestError("the body is too long")
            if len(self._buffer) < used:
                return None
            body = bytes(memoryview(self._buffer)[:used])
        del self._buffer[:used]
        self._head = None
        path, _, query = head.target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True) if query else ()
        return Request(head.method, unquote(path), dict(pairs), head.headers, body)

    async def _serve(self, request: Request) -> None:
        keep_alive = request.headers.get("connection", "").lower() != "close"
        reply = await self._answer(request)
        if reply.stream is not None:
            await self._write_stream(reply, reply.stream)
        elif reply.delivery is Delivery.RESET:
            _reset(self._transport)
        else:
            self._write(reply, keep_alive, head_only=request.method == "HEAD")
            if not keep_alive or reply.delivery is Delivery.BREAK_OFF:
                self._transport.close()
        self._task = None
        if self._buffer and not self._transport.is_closing():
            self._next_request()

    def _write(self, reply: Reply, keep_alive: bool, head_only: bool = False) -> None:
        if self._transport.is_closing():
            return
        body = reply.body
        head = _head_bytes(reply, f"Content-Length: {len(body)}\r\n", keep_alive)
        if head_only:
            body = b""
        elif reply.delivery is Delivery.BREAK_OFF:
            body = body[: len(body) // 2]
        # Never an empty piece: asyncio keeps one in its buffer and spins over it (CPython 3.13.0, _write_sendmsg).
        self._transport.writelines([piece for piece in (head, body) if piece])

    async def _write_stream(self, reply: Reply, pieces: Iterator[bytes]) -> None:
        self._transport.write(_head_bytes(reply, "Transfer-Encoding: chunked\r\n", keep_alive=True))
        for piece in pieces:
            if self._transport.is_closing():
                return
            if piece:
                self._transport.writelines((f"{len(piece):x}\r\n".encode(), piece, b"\r\n"))
                await self._writable.wait()
                await asyncio.sleep(0)  # other connections get their turn
        self._transport.write(b"0\r\n\r\n")


def _parse_head(raw: bytes) -> _Head:
    lines = raw.decode("latin-1").lstrip("\r\n").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError("the first line is not an HTTP/1.1 request line")
    head = _Head(parts[0].upper(), parts[1])
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError("a header line has no colon")
        head.headers[name.strip().lower()] = value.strip()
    return head


def _take_chunks(buffer: bytearray) -> tuple[bytes, int] | None:
    """The body of a chunked request and the bytes it took; None while the last chunk is missing."""
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        try:
            size = int(bytes(buffer[at:line_end]).split(b";")[0], 16)
        except ValueError:
            raise BadRequestError("a chunk has no size") from None
        start, end = line_end + 2, line_end + 2 + size
        if len(buffer) < end + 2:
            return None
        if size == 0:
            return b"".join(pieces), end + 2
        pieces.append(bytes(buffer[start:end]))
        at = end + 2


def _head_bytes(reply: Reply, framing: str, keep_alive: bool) -> bytes:
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {reason}\r\nServer: openresty\r\n", framing]
    if reply.content_type:
        lines.append(f"Content-Type: {reply.content_type}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in reply.headers]
    lines.append("\r\n" if keep_alive else "Connection: close\r\n\r\n")
    return "".join(lines).encode("latin-1", "replace")


def _reset(transport: asyncio.Transport) -> None:
    """Close so that the client sees `connection reset by peer` and not an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class HttpServer:
    """Listens on one loopback port until it is stopped."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._connections: set[Connection] = set()
        self._server: asyncio.Server

    async def start(self, port: int) -> int:
        """Listen on 127.0.0.1; port 0 takes a free one. Returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._connections), "127.0.0.1", port, backlog=256
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, patience_seconds: float) -> None:
        """Take no new connections, let running calls end for at most `patience_seconds`, then close everything."""
        self._server.close()
        deadline = asyncio.get_running_loop().time() + patience_seconds
        while asyncio.get_running_loop().time() < deadline:
            for connection in list(self._connections):
                if connection.idle:
                    connection.close()
            if not self._connections:
                break
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection.close()


def form_fields(request: Request) -> dict[str, str]:
    """The fields of a form body (`application/x-www-form-urlencoded`); a JSON object is taken as well."""
    if "json" in request.headers.get("content-type", ""):
        document = json.loads(request.body or b"{}")
        return {str(name): str(value) for name, value in document.items()}
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))

"""Listens to what goes to the queues: passes every byte on to the emulator, and keeps what was sent."""

from __future__ import annotations

import re
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_MESSAGE = re.compile(rb"<MessageText>([A-Za-z0-9+/=]+)</MessageText>")


class QueueTap:
    """A forwarder in front of the queue service of ``connection_string``; its own has the same account and key."""

    def __init__(self, connection_string: str) -> None:
        parts = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
        address = urlsplit(parts["QueueEndpoint"])
        self._target = (str(address.hostname), int(address.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        own = f"http://127.0.0.1:{self._listener.getsockname()[1]}{address.path}"
        self.connection_string = connection_string.replace(parts["QueueEndpoint"], own)
        self._lock = threading.Lock()
        self._sent: list[bytearray] = []

    def messages(self) -> list[str]:
        """The messages that were put on any queue, decoded."""
        with self._lock:
            found = [text for stream in self._sent for text in _MESSAGE.findall(bytes(stream))]
        return [b64decode(text).decode() for text in found]

    def everything(self) -> str:
        """All that was sent, as it was: names of queues and headers too."""
        with self._lock:
            return b"\n".join(map(bytes, self._sent)).decode(errors="replace")

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _forward(self, client: socket.socket) -> None:
        kept = bytearray()
        with self._lock:
            self._sent.append(kept)
        with client, socket.create_connection(self._target) as service:
            back = threading.Thread(target=_pump, args=(service, client), daemon=True)
            back.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    with self._lock:
                        kept += data
                    service.sendall(data)
                service.shutdown(socket.SHUT_WR)
            back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(connection_string: str) -> Iterator[QueueTap]:
    """A tap that listens until the block ends."""
    tap = QueueTap(connection_string)
    threading.Thread(target=tap.serve, daemon=True).start()
    try:
        yield tap
    finally:
        tap.close()

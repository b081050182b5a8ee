"""Mailchimp's sign-in host with faults: hands every request on to the sandbox, unless a test says what to answer."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

import requests

TOKEN_PATH = "/oauth2/token"
METADATA_PATH = "/oauth2/metadata"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer instead of the sandbox's. body: text as it is, anything else as JSON."""

    status: int = 200
    body: Any = ""
    kind: str = "application/json"


Instead = Answer | Literal["hang", "reset"]


@dataclass
class LoginServer:
    """``instead`` by path; ``change`` may alter the JSON of the sandbox's answers; ``asked`` counts by path."""

    address: str = ""
    instead: dict[str, Instead] = field(default_factory=dict)
    change: Callable[[str, dict[str, Any]], dict[str, Any]] = field(default=lambda _path, document: document)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = field(default=lambda _path: None)
    ended: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, login: LoginServer, sandbox_address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = login
        self.sandbox_address = sandbox_address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = cast("_Server", self.server)
        login, path = server.login, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        login.asked.append(path)
        login.before(path)
        instead = login.instead.get(path)
        if instead == "hang":
            login.ended.wait(30)
        elif instead == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif isinstance(instead, Answer):
            text = instead.body if isinstance(instead.body, str) else json.dumps(instead.body)
            self._send(instead.status, instead.kind, text.encode(), {})
        else:
            self._hand_on(server, path, body)

    def _hand_on(self, server: _Server, path: str, body: bytes) -> None:
        kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        with requests.Session() as session:
            session.trust_env = False
            reply = session.request(
                self.command,
                server.sandbox_address + self.path,
                data=body,
                headers=kept,
                allow_redirects=False,
                timeout=30,
            )
        content, kind = reply.content, reply.headers.get("Content-Type", "")
        if kind.startswith("application/json"):
            content = json.dumps(server.login.change(path, reply.json())).encode()
        location = {"Location": reply.headers["Location"]} if "Location" in reply.headers else {}
        self._send(reply.status_code, kind, content, location)

    def _send(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def start_login_server(sandbox_address: str) -> Iterator[LoginServer]:
    """Serve on a free port of this machine until the block ends."""
    login = LoginServer()
    server = _Server(login, sandbox_address)
    login.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield login
    finally:
        login.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""Mailchimp at the HTTP level: canned answers behind a `requests` session, and a socket server that misbehaves.

The bodies have the shapes of the Marketing API 3.0 (problem documents, member objects, collections).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import urllib3

from shared.mailchimp import MailchimpClient, MailchimpError

ROOT = "https://us19.api.mailchimp.com"
TOKEN = "0123456789abcdef0123456789abcdef-us19"
AUDIENCE = "a36b032126"
AUDIENCE_ENTRY = {
    "id": AUDIENCE,
    "web_id": 1000001,
    "name": "Newsletter",
    "date_created": "2020-08-12T16:21:04+00:00",
    "double_optin": True,
    "marketing_permissions": False,
    "stats": {"member_count": 12, "unsubscribe_count": 1},
}
"""The audience as Mailchimp answers it."""
HTML = b"<html><head><title>Access Denied</title></head><body>Reference #18.2d</body></html>"
"""What stands in front of Mailchimp answers in its place."""


@dataclass
class Canned:
    """One answer of the fake. body: bytes as they are, anything else as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeMailchimp(requests.adapters.BaseAdapter):
    """Answers each request with the next canned answer, or with what `respond` makes of it, and remembers it."""

    def __init__(self, *answers: Canned, respond: Callable[[requests.PreparedRequest], Canned] | None = None) -> None:
        super().__init__()
        self.requests: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []
        self._answers = list(answers)
        self._respond = respond

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        self.requests.append(request)
        self.timeouts.append(timeout)
        answer = self._respond(request) if self._respond else self._answers.pop(0)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = urllib3.HTTPResponse(
            BytesIO(body), headers=dict(answer.headers), status=answer.status, preload_content=False
        )
        return response

    def close(self) -> None:
        pass

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("https://", self)
        session.mount("http://", self)
        return session

    def client(self, **options: Any) -> MailchimpClient:
        return MailchimpClient(ROOT, TOKEN, session=self.session(), **options)

    def path(self, number: int = -1) -> str:
        return urlsplit(self.requests[number].url or "").path

    def query(self, number: int = -1) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.requests[number].url or "").query))

    def sent(self, number: int = -1) -> Any:
        body = self.requests[number].body
        assert isinstance(body, bytes)
        return json.loads(body)


def failure(answer: Canned, call: Callable[[MailchimpClient], Any] | None = None) -> MailchimpError:
    """What subscribing (or `call`) raises for an answer."""
    client = FakeMailchimp(answer).client(utc_now=lambda: datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC))
    with pytest.raises(MailchimpError) as caught:
        (call or (lambda c: c.subscribe(AUDIENCE, b"{}")))(client)
    return caught.value


def problem(status: int, title: str = "Invalid Resource", detail: str = "", **more: Any) -> Canned:
    """A problem document as Mailchimp writes it."""
    document = {
        "type": "https://mailchimp.com/developer/marketing/docs/errors/",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "14c40d88-9b23-1adf-9d0b-bb2996468021",
    }
    return Canned(status, document | more, {"Content-Type": "application/problem+json; charset=utf-8"})


def member(address: str, *tags: str, status: str = "subscribed", **more: Any) -> dict[str, Any]:
    """A member object of a reply, with what the decoder must skip."""
    return {
        "id": "b0149f75fe84c92d0dec9a0b13e6960b",
        "email_address": address,
        "unique_email_id": "3eb8a920e9",
        "full_name": "Ada Example",
        "web_id": 1000001,
        "status": status,
        "merge_fields": {"FNAME": "Ada", "LNAME": "", "LTV": 12.5, "ADDRESS": ""},
        "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
        "location": {"latitude": 0, "longitude": 0, "country_code": "", "timezone": ""},
        "tags_count": len(tags),
        "tags": [{"id": 5199748 + number, "name": tag} for number, tag in enumerate(tags)],
        "list_id": AUDIENCE,
        "_links": [{"rel": "self", "href": f"{ROOT}/3.0/lists/{AUDIENCE}/members/b0149f75", "method": "GET"}],
    } | more


def batch_reply(
    created: list[Any] | None = None, updated: list[Any] | None = None, errors: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    """The reply of POST /lists/{id}."""
    return {
        "new_members": created or [],
        "updated_members": updated or [],
        "errors": errors or [],
        "total_created": len(created or []),
        "total_updated": len(updated or []),
        "error_count": len(errors or []),
        "_links": [],
    } | more


Conversation = Callable[[socket.socket, int], None]


class SocketServer:
    """A loopback server: `converse(connection, number)` plays each connection by hand, in a thread of its own."""

    def __init__(self, converse: Conversation) -> None:
        self.connections = 0
        self.root = ""
        self._converse = converse
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self) -> Iterator[SocketServer]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.root = f"http://127.0.0.1:{listener.getsockname()[1]}"
            acceptor = threading.Thread(target=self._accept, args=(listener,))
            acceptor.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                acceptor.join(5)
                for connection in self._open:
                    connection.close()
                for thread in self._threads:
                    thread.join(5)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._play, args=(connection, self.connections))
            self._threads.append(thread)
            thread.start()

    def _play(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(5)
        try:
            self._converse(connection, number)
        except OSError:
            pass  # the client went away, which some tests are about
        finally:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """Reads one whole request; b"" when the client closed the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Ends a connection with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

"""Real sockets on loopback: connections that fail, stall, break and end early, and what is known then."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from shared.mailchimp import MailchimpClient, Unavailable
from tests.unit.fake_mailchimp import AUDIENCE, TOKEN, SocketServer, batch_reply, member, read_request, reset

REPLY = json.dumps(batch_reply(created=[member("ada@mail.example")])).encode()


def answer(body: bytes = REPLY, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@contextmanager
def server(converse: Callable[[socket.socket, int], None]) -> Iterator[SocketServer]:
    with SocketServer(converse).running() as running:
        yield running


def subscribe(running: SocketServer, read_timeout_s: float = 5) -> None:
    client = MailchimpClient(running.root, TOKEN, connect_timeout_s=5, read_timeout_s=read_timeout_s)
    try:
        client.subscribe(AUDIENCE, b'{"members":[]}').check(1)
    finally:
        client.close()


def failure(converse: Callable[[socket.socket, int], None], read_timeout_s: float = 5) -> Unavailable:
    with server(converse) as running, pytest.raises(Unavailable) as caught:
        subscribe(running, read_timeout_s)
    assert caught.value.__context__ is None, "the library's error, with the request in it, hangs on ours"
    return caught.value


def test_a_good_answer_arrives() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        request = read_request(connection)
        assert request.startswith(f"POST /3.0/lists/{AUDIENCE}?skip_duplicate_check=true HTTP/1.1".encode())
        connection.sendall(answer())

    with server(converse) as running:
        subscribe(running)


def test_a_connection_is_kept_for_the_next_call_also_after_an_error() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        for reply in (answer(), answer(b"{}", "429 Too Many Requests"), answer(b"", "500 Oops"), answer()):
            if read_request(connection):
                connection.sendall(reply)

    with server(converse) as running:
        client = MailchimpClient(running.root, TOKEN)
        client.subscribe(AUDIENCE, b"{}")
        for _ in range(2):
            with pytest.raises(Unavailable):
                client.subscribe(AUDIENCE, b"{}")
        client.subscribe(AUDIENCE, b"{}")
        client.close()
        assert running.connections == 1


def test_a_port_where_nobody_listens_was_never_sent_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unavailable) as caught:
        MailchimpClient(root, TOKEN).ping()
    assert (caught.value.reason, caught.value.outcome_unknown) == ("notConnected", False)
    assert caught.value.__context__ is None


def test_a_name_that_does_not_resolve_was_never_sent_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable) as caught:
        MailchimpClient("https://us19.api.mailchimp.com", TOKEN).ping()
    assert (caught.value.reason, caught.value.outcome_unknown) == ("notConnected", False)


def test_a_server_that_does_not_take_the_connection_in_time_was_never_sent_anything() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = []
        for _ in range(4):  # a full backlog: the next connection hangs
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            waiting.append(filler)
        client = MailchimpClient(f"http://127.0.0.1:{address[1]}", TOKEN, connect_timeout_s=0.2)
        with pytest.raises(Unavailable) as caught:
            client.ping()
        for filler in waiting:
            filler.close()
    assert (caught.value.reason, caught.value.outcome_unknown) == ("notConnected", False)


def test_a_server_without_tls_where_tls_is_expected_may_have_seen_the_request() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with server(converse) as running:
        client = MailchimpClient(running.root.replace("http:", "https:"), TOKEN)
        with pytest.raises(Unavailable) as caught:
            client.ping()
    assert caught.value.reason == "connectionLost"


def test_no_answer_in_time_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        read_request(connection)  # returns when the client hangs up

    error = failure(converse, read_timeout_s=0.2)
    assert (error.reason, error.outcome_unknown, error.status) == ("timeout", True, None)


def test_a_reset_instead_of_an_answer_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        reset(connection)

    error = failure(converse)
    assert (error.reason, error.outcome_unknown) == ("connectionLost", True)


def test_a_closed_connection_instead_of_an_answer_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.close()

    error = failure(converse)
    assert (error.reason, error.outcome_unknown) == ("connectionLost", True)


def test_a_kept_connection_that_breaks_at_the_next_call_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer())
        read_request(connection)
        reset(connection)

    with server(converse) as running:
        client = MailchimpClient(running.root, TOKEN)
        client.subscribe(AUDIENCE, b"{}")
        with pytest.raises(Unavailable) as caught:
            client.subscribe(AUDIENCE, b"{}")
        client.close()
        assert running.connections == 1, "the call must not be sent a second time behind the caller's back"
    assert (caught.value.reason, caught.value.outcome_unknown) == ("connectionLost", True)


@pytest.mark.parametrize("end", [lambda connection: connection.close(), reset])
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Internal Server Error"])
def test_an_answer_that_breaks_off_leaves_the_outcome_unknown(
    end: Callable[[socket.socket], None], status: str
) -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer(status=status)[:-10])
        end(connection)

    error = failure(converse)
    assert (error.reason, error.outcome_unknown) == ("connectionLost", True)


def test_a_chunked_answer_that_breaks_off_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + f"{len(REPLY):x}\r\n".encode() + REPLY + b"\r\n")
        connection.close()  # without the last chunk

    error = failure(converse)
    assert (error.reason, error.outcome_unknown, error.status) == ("connectionLost", True, 200)


def test_a_chunked_answer_arrives() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(REPLY), 100):
            piece = REPLY[start : start + 100]
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    with server(converse) as running:
        subscribe(running)


def test_an_answer_that_stalls_halfway_leaves_the_outcome_unknown() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer()[:-10])
        read_request(connection)  # returns when the client hangs up

    error = failure(converse, read_timeout_s=0.2)
    assert (error.reason, error.outcome_unknown, error.status) == ("timeout", True, 200)


def test_an_answer_that_trickles_for_ever_is_given_up() -> None:
    """Each byte comes within the read timeout; the answer as a whole does not."""
    clock = iter(range(0, 10_000, 4))

    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head, _, body = answer(REPLY * 100).partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        for start in range(len(body)):
            connection.sendall(body[start : start + 1])

    with server(converse) as running:
        client = MailchimpClient(running.root, TOKEN, read_timeout_s=5, monotonic=lambda: float(next(clock)))
        with pytest.raises(Unavailable) as caught:
            client.subscribe(AUDIENCE, b"{}")
    assert (caught.value.reason, caught.value.outcome_unknown) == ("timeout", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"ada@mail.example is what the last answer left over\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x00\xff\xfe" * 100 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 1\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_what_is_not_http_leaves_the_outcome_unknown_and_is_not_quoted(raw: bytes) -> None:
    def converse(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(raw)

    error = failure(converse)
    assert error.outcome_unknown
    assert "ada@" not in str(error)


def test_an_answer_sent_before_the_request_was_read_is_still_understood() -> None:
    """A proxy that refuses a large body answers early and closes."""

    def converse(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(answer(b"", "429 Too Many Requests", "Connection: close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with server(converse) as running, pytest.raises(Unavailable) as caught:
        MailchimpClient(running.root, TOKEN).subscribe(AUDIENCE, b" " * 3_000_000)
    assert caught.value.reason == "tooManyConnections"


def test_many_threads_share_a_client() -> None:
    def converse(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(answer())

    def work(client: MailchimpClient) -> None:
        for _ in range(10):
            client.subscribe(AUDIENCE, b"{}").check(1)

    with server(converse) as running:
        client = MailchimpClient(running.root, TOKEN)
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, client) for _ in range(8)]:
                done.result(20)
        client.close()
        assert running.connections <= 8

"""The sandbox on the wire: open calls, clients that leave, broken connections, and how HTTP is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests

from dev.sandbox.app import DEFAULT_KEY, Sandbox
from dev.sandbox.control import API_KEY, AUDIENCE_ID, REPOSITORY, SandboxControl, SandboxError, start_sandbox
from dev.sandbox.control_api import ControlApi
from dev.sandbox.faults import Fault
from dev.sandbox.http import HttpServer
from dev.sandbox.in_process import LIST, row
from dev.sandbox.settings import Settings
from tests.support import wait_for

DEADLINE_SECONDS = 20.0


class Wire:
    """A sandbox on a loopback port whose calls last until `release` is set."""

    def __init__(self, sandbox: Sandbox, server: HttpServer, port: int, release: asyncio.Event) -> None:
        self.sandbox = sandbox
        self.server = server
        self.port = port
        self.release = release
        self._writers: list[asyncio.StreamWriter] = []

    async def send(self, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        writer.write(raw)
        return reader, writer

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def call(self, method: str, path: str, body: Any = None, key: str = DEFAULT_KEY) -> tuple[int, bytes]:
        reader, _ = await self.send(message(method, path, body, key))
        return await read_reply(reader)

    async def until(self, condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_for, condition, "the sandbox", DEADLINE_SECONDS)


def message(method: str, path: str, body: Any = None, key: str = DEFAULT_KEY) -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_SECONDS)).decode()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
    return int(head.split(" ")[1]), await reader.readexactly(length)


def on_the_wire(scenario: Callable[[Wire], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def wait_for_release(_: float) -> None:
            await release.wait()

        sandbox = Sandbox(Settings().changed(settings), sleep=wait_for_release)
        sandbox.other_routes = ControlApi(sandbox).answer
        server = HttpServer(sandbox.answer)
        port = await server.start(0)
        sandbox.listens_at(f"http://127.0.0.1:{port}")
        wire = Wire(sandbox, server, port, release)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await scenario(wire)
        finally:
            release.set()
            await wire.hang_up()
            await server.stop(1.0)

    asyncio.run(run())


def test_the_eleventh_open_call_of_an_account_answers_429_at_once() -> None:
    async def scenario(wire: Wire) -> None:
        account = wire.sandbox.world.accounts["sandbox"]
        account.tokens.add("token")
        keys = [DEFAULT_KEY, "token"] * 5
        running = [asyncio.create_task(wire.call("GET", "/3.0/ping", key=key)) for key in keys]
        await wire.until(lambda: account.open_calls == 10)
        status, body = await wire.call("GET", "/3.0/ping", key="token")
        assert status == 429
        assert json.loads(body)["detail"] == "You have exceeded the limit of 10 simultaneous connections."
        assert not any(task.done() for task in running)
        other = wire.sandbox.add_account("Other", "other", "other-us1")
        unaffected = asyncio.create_task(wire.call("GET", "/3.0/ping", key="other-us1"))
        await wire.until(lambda: other.open_calls == 1)
        wire.release.set()
        assert [status for status, _ in await asyncio.gather(*running, unaffected)] == [200] * 11
        assert (await wire.call("GET", "/3.0/ping"))[0] == 200
        assert (account.open_calls, account.max_open_calls, other.max_open_calls) == (0, 11, 1)

    on_the_wire(scenario, latencyBaseMs=1)


def test_the_limit_of_open_calls_is_a_setting() -> None:
    async def scenario(wire: Wire) -> None:
        running = asyncio.create_task(wire.call("GET", "/3.0/ping"))
        await wire.until(lambda: wire.sandbox.journal.open_calls == 1)
        assert (await wire.call("GET", "/3.0/ping"))[0] == 429
        wire.release.set()
        assert (await running)[0] == 200

    on_the_wire(scenario, latencyBaseMs=1, maxConnections=1)


def test_a_call_whose_client_has_left_stays_open_and_is_applied() -> None:
    async def scenario(wire: Wire) -> None:
        account = wire.sandbox.world.accounts["sandbox"]
        _, writer = await wire.send(message("POST", LIST, {"members": [row("a@mail.example")]}))
        await wire.until(lambda: account.open_calls == 1)
        writer.transport.abort()
        assert (await wire.call("GET", "/_sandbox/settings"))[0] == 200  # the sandbox has seen the client leave
        assert account.open_calls == 1
        wire.release.set()
        await wire.until(lambda: account.open_calls == 0)
        assert len(account.audiences[AUDIENCE_ID].contacts) == 1

    on_the_wire(scenario, latencyBaseMs=1)


def test_a_request_that_is_not_complete_is_no_open_call() -> None:
    async def scenario(wire: Wire) -> None:
        raw = message("POST", LIST, {"members": [row("a@mail.example")]})
        reader, writer = await wire.send(raw[:-1])
        assert (await wire.call("GET", "/_sandbox/settings"))[0] == 200
        assert wire.sandbox.journal.open_calls == 0
        writer.write(raw[-1:])
        assert (await read_reply(reader))[0] == 200

    on_the_wire(scenario)


def test_requests_on_one_connection_are_answered_in_order() -> None:
    async def scenario(wire: Wire) -> None:
        reader, _ = await wire.send(message("GET", "/3.0/ping") + message("GET", "/3.0/none") + message("GET", LIST))
        assert [(await read_reply(reader))[0] for _ in range(3)] == [200, 404, 200]

    on_the_wire(scenario)


def test_a_body_may_come_in_chunks_and_in_pieces() -> None:
    async def scenario(wire: Wire) -> None:
        body = json.dumps({"members": [row("ä@mail.example")]}).encode()
        head = f"POST {LIST} HTTP/1.1\r\nAuthorization: Bearer {DEFAULT_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
        reader, writer = await wire.send(head.encode())
        for at in range(0, len(chunks), 10):
            writer.write(chunks[at : at + 10])
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        status, answer = await read_reply(reader)
        assert (status, json.loads(answer)["total_created"]) == (200, 1)

    on_the_wire(scenario)


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"x" * 70_000])
def test_bytes_that_are_no_request_answer_400(raw: bytes) -> None:
    async def scenario(wire: Wire) -> None:
        reader, _ = await wire.send(raw)
        assert (await read_reply(reader))[0] == 400
        assert await reader.read() == b""

    on_the_wire(scenario)


@pytest.mark.parametrize(("action", "applied"), [("resetBefore", 0), ("resetAfter", 1)])
def test_a_reset_is_seen_as_a_reset(action: Any, applied: int) -> None:
    async def scenario(wire: Wire) -> None:
        wire.sandbox.faults.replace([Fault(action=action)])
        reader, _ = await wire.send(message("POST", LIST, {"members": [row("a@mail.example")]}))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert len(wire.sandbox.world.accounts["sandbox"].audiences[AUDIENCE_ID].contacts) == applied

    on_the_wire(scenario)


def test_a_reply_that_breaks_off_is_shorter_than_its_head_says() -> None:
    async def scenario(wire: Wire) -> None:
        wire.sandbox.faults.replace([Fault(action="truncate", close_early=True)])
        reader, _ = await wire.send(message("GET", LIST))
        with pytest.raises(asyncio.IncompleteReadError):
            await read_reply(reader)

    on_the_wire(scenario)


def test_a_call_without_reply_stays_open_after_it_was_applied() -> None:
    async def scenario(wire: Wire) -> None:
        wire.sandbox.faults.replace([Fault(action="noReply")])
        account = wire.sandbox.world.accounts["sandbox"]
        reader, _ = await wire.send(message("POST", LIST, {"members": [row("a@mail.example")]}))
        await wire.until(lambda: len(account.audiences[AUDIENCE_ID].contacts) == 1)
        assert account.open_calls == 1
        wire.release.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert account.open_calls == 0

    on_the_wire(scenario)


def test_a_process_is_steered_from_python_and_ends_on_sigterm() -> None:
    flags = ("--max-connections", "3", "--realistic-replies", "--no-tags-on-existing", "--redirect-uri", "http://a/b")
    with start_sandbox(*flags) as control:
        _steer(control)
    with pytest.raises(requests.ConnectionError):
        control.state()


def _steer(control: SandboxControl) -> None:
    state = control.state()
    assert state["settings"]["maxConnections"] == 3
    assert state["settings"]["realisticReplies"] is True
    assert state["settings"]["tagsReachExisting"] is False
    assert state["oauthClient"]["redirectUris"] == ["http://a/b"]
    control.add_contacts({"email_address": f"P{n}@mail.example", "tags": ["Été"]} for n in range(5000))
    assert control.addresses() == {f"p{n}@mail.example" for n in range(5000)}
    assert all(member["tags"] == ["Été"] for member in control.members())
    assert control.audience()["byStatus"] == {"subscribed": 5000}
    audience = control.add_audience("Second", doubleOptin=True)["id"]
    assert list(control.members(audience)) == []
    account = control.add_account("Third")
    token = control.add_token(account["id"])
    for credential in (API_KEY, account["apiKeys"][0], control.add_key(), token):
        response = requests.get(
            f"{control.api_url}/3.0/ping", headers={"Authorization": f"Bearer {credential}"}, timeout=10
        )
        assert response.status_code == 200
    control.revoke(token)
    control.set_redirect_uris("http://c/d")
    control.set_faults({"action": "bare", "status": 503})
    assert control.faults()[0]["struck"] == 0
    control.clear_faults()
    assert control.change_settings(latencyBaseMs=1)["latencyBaseMs"] == control.settings()["latencyBaseMs"] == 1
    assert [call["kind"] for call in control.calls(kind="ping", limit=2)] == ["ping", "ping"]
    with pytest.raises(SandboxError, match="there is no audience none"):
        list(control.members("none"))
    control.reset()
    assert control.addresses() == set()


def test_a_process_that_gets_sigterm_ends_with_code_zero() -> None:
    command = [sys.executable, "-m", "dev.sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "sandbox.ready"
        assert requests.get(ready["address"], timeout=10).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def test_a_sandbox_that_does_not_start_is_an_error() -> None:
    with pytest.raises(SandboxError, match="ended with exit code 2"), start_sandbox("--no-such-flag"):
        pass

"""What an attacker sends and no host is needed to try: bodies without an end or cut off, API keys that name a host."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.api.body import MAX_BODY_BYTES
from tests.unit.api_caller import Api


class _Endless:
    """A body that never ends, and how much of it was taken."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk
        self.taken = 0

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.taken += len(self._chunk)
        return {"type": "http.request", "body": self._chunk, "more_body": True}


def in_process(api: Api, method: str, path: str, receive: Any) -> list[dict[str, Any]]:
    """What the app answers to a body that comes piece by piece, without an adapter that reads it whole first."""
    sent: list[dict[str, Any]] = []

    async def send_back(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 7071),
        "scheme": "http",
        "root_path": "",
    }
    asyncio.run(api.app(scope, receive, send_back))
    return sent


@pytest.mark.parametrize("size", [100, 65_536])
def test_a_body_without_an_end_is_given_up_at_the_limit(size: int) -> None:
    api = Api()
    endless = _Endless(b" " * size)
    answer = in_process(api, "POST", "/api/destinations", endless)
    assert answer[0]["status"] == 413
    assert endless.taken <= MAX_BODY_BYTES + size
    api.close()


def test_a_body_that_breaks_off_is_not_taken_for_the_whole() -> None:
    """An export needs no body: the nothing that came of one must not start it."""
    api = Api()
    api.setup.ready()

    async def breaks_off() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert in_process(api, "POST", "/api/exports", breaks_off) == []
    assert api.setup.exports.views == {}
    api.close()


@pytest.mark.parametrize(
    "key",
    [
        "0123456789abcdef-us1.evil.example/",
        "0123456789abcdef-us1.evil.example",
        "0123456789abcdef-us19@evil.example",
        "0123456789abcdef-us19@evil",
        "0123456789abcdef-us19/..",
        "0123456789abcdef-us19#",
        "0123456789abcdef-us19?x=",
        "0123456789abcdef-us19:8080",
        "0123456789abcdef-us19\\evil",
        "0123456789abcdef-us19%2eevil",
        "0123456789abcdef-us19\nHost: evil",
        "0123456789abcdef-us19\u3002evil",
        "0123456789abcdef-ｕｓ19",
        "0123456789abcdef-169.254.169.254",
        "0123456789abcdef-localhost",
        "0123456789abcdef-",
        "-us19",
        "http://evil.example/-us19",
        "0123456789abcdef\r\nX-Evil: 1-us19",
    ],
)
def test_an_api_key_cannot_name_another_host(key: str) -> None:
    """The key's ending is where Mailchimp is asked, and the key goes along."""
    api = Api()
    destination = api.setup.created().destination.id
    reply = api.call("PUT", f"/api/destinations/{destination}/api-key", {"apiKey": key})
    assert (reply.status, reply.error["target"]) == (422, "apiKey")
    assert api.setup.mailchimp.lookups == []
    assert api.setup.secrets.values == {}
    assert key[:16].encode() not in reply.body.replace(b"for example -us19", b"")
    api.close()

"""A sandbox without a process and without a network: for unit tests of the sandbox and of what calls Mailchimp."""

from __future__ import annotations

import base64
from collections.abc import Coroutine
from typing import Any

import msgspec

from dev.sandbox.app import DEFAULT_AUDIENCE, DEFAULT_KEY, Sandbox
from dev.sandbox.control_api import ControlApi
from dev.sandbox.http import Reply, Request

LIST = f"/3.0/lists/{DEFAULT_AUDIENCE}"


def row(address: str, **more: Any) -> dict[str, Any]:
    """A row of a batch subscribe call, with `status_if_new` and whatever else is given."""
    return {"email_address": address, "status_if_new": "subscribed", **more}


class InProcessSandbox:
    """Calls a sandbox whose clock stands still at `now` and which notes waiting times in `slept` instead of waiting."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []
        self.sandbox = Sandbox(clock=lambda: self.now, sleep=self._sleep)
        self.sandbox.listens_at("http://127.0.0.1:8085")
        self.sandbox.other_routes = ControlApi(self.sandbox).answer

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def reply(
        self, method: str, path: str, body: Any = None, authorization: str = f"Bearer {DEFAULT_KEY}", **query: Any
    ) -> Reply:
        """The answer to one call; `body` is sent as it is if it is bytes, otherwise as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        texts = {name: value if isinstance(value, str) else str(value).lower() for name, value in query.items()}
        answer: Coroutine[Any, Any, Reply] = self.sandbox.answer(
            Request(method, path, texts, {"authorization": authorization}, raw)
        )
        try:
            answer.send(None)  # nothing waits for anything, so that one step is the whole call
        except StopIteration as finished:
            reply: Reply = finished.value
            return reply
        raise AssertionError(f"{method} {path} waits for something")

    def json(self, method: str, path: str, body: Any = None, expect: int = 200, **query: Any) -> Any:
        """The document of an answer. Raises `AssertionError` if it has another status than `expect`."""
        reply = self.reply(method, path, body, **query)
        if reply.status != expect:
            raise AssertionError(f"{method} {path} answered {reply.status}: {reply.body[:2000]!r}")
        return msgspec.json.decode(reply.body) if reply.body else None

    def subscribe(self, *rows: dict[str, Any], update_existing: bool = True, expect: int = 200, **more: Any) -> Any:
        """A batch subscribe call to the default audience; `skip_…` go into the query, the rest into the body."""
        query = {name: more.pop(name) for name in ("skip_duplicate_check", "skip_merge_validation") if name in more}
        body = {"members": rows, "update_existing": update_existing, **more}
        return self.json("POST", LIST, body, expect, **query)

    def preload(self, *contacts: dict[str, Any]) -> None:
        """Put contacts into the default audience through the control API."""
        self.json("POST", f"/_sandbox/audiences/{DEFAULT_AUDIENCE}/contacts", {"contacts": contacts}, 201)

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Set faults through the control API."""
        self.json("PUT", "/_sandbox/faults", {"faults": faults})

    def held(self) -> dict[str, dict[str, Any]]:
        """All contacts of the default audience by address, as the control API streams them."""
        reply = self.reply("GET", f"/_sandbox/audiences/{DEFAULT_AUDIENCE}/members")
        contacts = [msgspec.json.decode(line) for line in b"".join(reply.stream or ()).splitlines()]
        return {contact["email_address"]: contact for contact in contacts}


def basic(password: str) -> str:
    """A Basic Authorization header with any user name, as Mailchimp takes it."""
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()

"""A host to attack, an administrator's calls of it, and what an attack must not lead to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dev.azurite import Azurite
from dev.stack import Stack
from tests.integration.api_support import Answer, send, signed_in, versions

ADMIN = signed_in("Administrator")
JSON = {"Content-Type": "application/json"}


@contextmanager
def signed_in_stack(azurite: Azurite, account: str) -> Iterator[Stack]:
    """With a host behind the platform's sign-in: it trusts the platform's header, as in Azure."""
    settings = {"WEBSITE_AUTH_ENABLED": "True"}
    with Stack(storage=azurite.connection_string(account), settings=settings, name=account) as running:
        running.upload_segments({"Readers": [("1", "ada@mail.example", "Ada", "A"), ("2", "broken", "B", "B")]})
        yield running


def ask(stack: Stack, method: str, target: str, body: Any = None, **headers: str) -> Answer:
    """One call of an administrator."""
    raw = b"" if body is None else json.dumps(body).encode()
    return send(stack.address, method, target, {**ADMIN, **(JSON if raw else {}), **headers}, raw)


def created(stack: Stack, name: str) -> str:
    reply = ask(stack, "POST", "/api/destinations", {"displayName": name, "consent": {"agreed": True}})
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


@contextmanager
def nothing_changes(stack: Stack) -> Iterator[None]:
    before = versions(stack.storage)
    yield
    assert versions(stack.storage) == before


def assert_harmless(answer: Answer) -> None:
    """A refusal in the API's own words: no defect, nothing of the inside, no header of the caller's making."""
    assert 400 <= answer.status < 500, answer
    assert not {"x-evil", "set-cookie"} & set(answer.headers)
    for inside in (b"Traceback", b".py", b"site-packages", b"AccountKey", b"devstoreaccount"):
        assert inside not in answer.body


def deep(levels: int) -> str:
    """Empty lists in each other."""
    return "[" * levels + "]" * levels

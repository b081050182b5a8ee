"""Real hosts that share one storage account, and what is done with them over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import requests

from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import Stack
from tests.support import StorageAccount

COLUMNS = ("CustomerId", "EMail", "FirstName", "LastName")
SLOW_MS, QUICK_MS = 2500, 100
"""How long Mailchimp takes for a call: until a test has done what it wants to do in the middle, and afterwards."""


@contextmanager
def start_hosts(account: StorageAccount, count: int = 2) -> Iterator[Stack]:
    """Hosts on this account, and a sandbox of their own. Leases are short, for tests that kill somebody."""
    settings = {"LANE_LEASE_SECONDS": "15", "HOST_MESSAGE_LEASE_SECONDS": "10"}
    with Stack(hosts=count, storage=account.connection_string, settings=settings, name=account.name) as running:
        yield running


def far_from_now(time_zone: str) -> str:
    """A time of the day that does not come while a test runs: an hour that begins in eleven to twelve hours."""
    return f"{datetime.now(UTC).astimezone(ZoneInfo(time_zone)) + timedelta(hours=12):%H}:00"


def rows(count: int, *, start: int = 0) -> list[tuple[str, str, str, str]]:
    return [(f"{n:032x}", f"person{n}@mail.example", "Ayşe", "Нұрланова") for n in range(start, start + count)]


def addresses(count: int) -> set[str]:
    return {f"person{n}@mail.example" for n in range(count)}


def set_up(stack: Stack, *segments: str, name: str = "Campaigns", **configuration: Any) -> str:
    """A destination that is ready, made through the HTTP API; returns its path. ``configuration`` is added to it."""
    made = stack.ask("POST", "/api/destinations", json={"displayName": name, "consent": {"agreed": True}})
    path = f"/api/destinations/{made['id']}"
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
    stack.ask("PUT", f"{path}/export-user")
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    chosen = {"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": list(segments)}
    assert stack.ask("PATCH", path, json={**chosen, **configuration})["missingSteps"] == []
    return path


def start(stack: Stack, path: str) -> str:
    export_id: str = stack.ask("POST", f"{path}/exports")["id"]
    return export_id


def pace_of_mailchimp(stack: Stack, milliseconds: int) -> None:
    stack.sandbox.change_settings(latencyBaseMs=milliseconds)


def sweep(stack: Stack) -> None:
    """Fire the sweeper's timer on every host that lives, as the platform's admin endpoint allows."""
    for host in stack.hosts:
        if host.returncode is None:
            requests.post(f"{host.address}/admin/functions/sweep", json={"input": ""}, timeout=30)


def wait_until_ended(stack: Stack, export_id: str, host: int = 0, seconds: float = 180) -> dict[str, Any]:
    """Let the sweeper look every other second, which it does every minute otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        export: dict[str, Any] = stack.api("GET", f"/api/exports/{export_id}", host=host).json()
        if export["ended"]:
            return export
        assert time.monotonic() < deadline, export
        sweep(stack)
        time.sleep(2)

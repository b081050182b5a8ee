"""Removing a destination over HTTP while real hosts work: what is left in the storage account, and after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from dev.sandbox.control import API_KEY
from dev.stack import Stack
from tests.integration.hosts_support import (
    COLUMNS,
    QUICK_MS,
    SLOW_MS,
    addresses,
    pace_of_mailchimp,
    rows,
    set_up,
    start,
    start_hosts,
    sweep,
    wait_until_ended,
)
from tests.integration.removal_support import everything, left_behind
from tests.support import StorageAccount, wait_for


@pytest.fixture
def stack(storage_account: StorageAccount) -> Iterator[Stack]:
    with start_hosts(storage_account) as running:
        yield running


def is_gone(stack: Stack, path: str, host: int = 0) -> bool:
    return stack.api("GET", path, host=host).status_code == 404


def tagged(stack: Stack, tag: str) -> set[str]:
    return {member["email_address"] for member in stack.sandbox.members() if tag in member["tags"]}


def removal(stack: Stack, path: str) -> dict[str, Any]:
    """What the API shows of a removal; empty when it is gone."""
    answer = stack.api("GET", path)
    found: dict[str, Any] = answer.json().get("removal") or {}
    return found


def test_removing_while_sending_leaves_history_and_audit_and_nothing_else(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(20_000), "Partners": rows(5_000, start=50_000)}, columns=COLUMNS)
    other = set_up(stack, "Partners", name="Partners")  # the account's connections are known by then
    assert wait_until_ended(stack, start(stack, other))["status"] == "Successful"
    before = everything(stack.storage)

    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)
    wait_for(lambda: stack.sandbox.audience()["contacts"] >= 8_000, "the first batches", 60)
    answer = stack.api("DELETE", path, host=1)
    answered_at = time.time()
    assert answer.status_code == 202
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["removal"]["signInDeleted"] is True
    assert any(export_id in sentence for sentence in answer.json()["removal"]["left"])
    assert stack.api("DELETE", path).status_code in {202, 204, 404}
    refused = stack.api("POST", f"{path}/exports")
    assert refused.status_code in {404, 409}

    wait_for(lambda: is_gone(stack, path, host=1), "the end of the removal", 120)
    pace_of_mailchimp(stack, QUICK_MS)
    export = stack.ask("GET", f"/api/exports/{export_id}")
    assert export["status"] == "Canceled"
    assert export["books"]["notSent"] > 0
    late = [call for call in stack.sandbox.calls("batchSubscribe") if call["start"] > answered_at]
    assert len(late) <= 8, "at most one batch for each connection"

    wait_until_ended(stack, export_id)
    after = everything(stack.storage)
    assert left_behind(before, after) == []
    for name in after.keys() - before.keys():
        assert b"@mail.example" not in after[name], f"{name} holds an address"
        assert API_KEY.encode() not in after[name]
    assert not before.keys() - after.keys(), "nothing of the other destination is missing"
    assert wait_until_ended(stack, start(stack, other))["status"] == "Successful"


def test_removing_right_after_a_host_was_killed_while_it_was_sending(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(20_000)}, columns=COLUMNS)
    before = everything(stack.storage)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)
    wait_for(lambda: stack.sandbox.audience()["contacts"] >= 2_000, "the first batches", 60)
    stack.hosts[0].kill()
    answer = stack.api("DELETE", path, host=1)
    assert answer.status_code == 202
    pace_of_mailchimp(stack, QUICK_MS)
    deadline = time.monotonic() + 150
    while not is_gone(stack, path, host=1):
        assert time.monotonic() < deadline, stack.api("GET", path, host=1).text
        sweep(stack)
        time.sleep(2)
    export = wait_until_ended(stack, export_id, host=1)
    assert export["status"] == "Canceled"
    assert export["books"]["notSent"] > 0
    assert left_behind(before, everything(stack.storage)) == []


def test_tags_are_taken_away_although_hosts_are_killed_meanwhile(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(20_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    assert wait_until_ended(stack, start(stack, path))["status"] == "Successful"
    assert len(tagged(stack, "Readers")) == 20_000
    pace_of_mailchimp(stack, 500)  # twenty seconds for all
    answer = stack.api("DELETE", f"{path}?tags=remove")
    assert (answer.status_code, answer.json()["removal"]["tags"]) == (202, "remove")
    wait_for(lambda: (removal(stack, path).get("tagsTaken") or 0) >= 2_000, "the first calls", 60)
    for host in stack.hosts:
        host.kill()
    assert len(tagged(stack, "Readers")) > 5_000, "they were killed in the middle"
    pace_of_mailchimp(stack, QUICK_MS)
    stack.start_host()
    deadline = time.monotonic() + 150
    while not is_gone(stack, path, host=2):
        assert time.monotonic() < deadline, stack.api("GET", path, host=2).text
        sweep(stack)
        time.sleep(2)
    assert tagged(stack, "Readers") == set()
    assert stack.sandbox.addresses() == addresses(20_000), "contacts stay"
    calls = [call for call in stack.sandbox.calls("segmentMembers") if call["status"] == 200]
    assert len(calls) <= 42, "forty, and the last ones before the kill again"
    assert all(call["openCalls"] <= 1 for call in calls)


def test_the_removal_of_a_destination_that_does_nothing_is_answered_when_it_is_gone(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(10)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    etag = stack.api("GET", path).headers["ETag"]
    stack.ask("PUT", f"{path}/consent", json={"agreed": False})
    assert stack.api("DELETE", path, headers={"If-Match": etag}).status_code == 412
    assert stack.api("DELETE", f"{path}?tags=burn").status_code == 422
    answer = stack.api("DELETE", path, headers={"If-Match": stack.api("GET", path).headers["ETag"]})
    assert (answer.status_code, answer.content) == (204, b"")
    assert is_gone(stack, path)
    assert stack.api("DELETE", path).status_code == 404

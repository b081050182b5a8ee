"""Several real host processes, real HTTP, processes that are killed: the promises that hold over all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    wait_until_ended,
)
from tests.support import StorageAccount, wait_for


@pytest.fixture
def stack(storage_account: StorageAccount) -> Iterator[Stack]:
    with start_hosts(storage_account) as running:
        yield running


def assert_balanced(export: dict[str, Any]) -> None:
    books = export["books"]
    assert books["rowsRead"] == books["invalid"] + books["duplicates"] + books["merged"] + books["members"]
    assert books["members"] == books["unchanged"] + books["suppressed"] + books["sent"] + books["notSent"]
    assert books["sent"] == books["created"] + books["updated"] + books["rejected"]


def test_two_hosts_and_two_exports_never_open_more_connections_than_allowed(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(8_000), "Buyers": rows(8_000, start=8_000)}, columns=COLUMNS)
    stack.sandbox.change_settings(latencyBaseMs=400)
    paths = [set_up(stack, "Readers"), set_up(stack, "Buyers", name="Shop")]
    exports = [start(stack, path) for path in paths]

    def look_up(host: int) -> list[int]:
        return [stack.api("GET", f"{path}/audiences", host=host).status_code for path in paths * 3]

    with ThreadPoolExecutor(4) as pool:
        look_ups = [pool.submit(look_up, number % 2) for number in range(4)]
        ended = [wait_until_ended(stack, export) for export in exports]
        codes = {code for look in look_ups for code in look.result()}

    assert [export["status"] for export in ended] == ["Successful", "Successful"]
    assert codes <= {200, 503}, "a look-up that finds no free connection is asked to come again, never refused by 429"
    state = stack.sandbox.state()
    assert 3 <= state["maxOpenCalls"] <= 10
    assert not [call for call in stack.sandbox.calls() if call["status"] == 429]
    assert stack.sandbox.addresses() == addresses(16_000)


def test_an_export_survives_the_death_of_one_of_two_hosts(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(20_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)
    wait_for(lambda: stack.sandbox.audience()["contacts"] >= 4_000, "the first batches")
    stack.hosts[0].kill()
    assert stack.sandbox.audience()["contacts"] < 20_000, "it was killed in the middle"
    pace_of_mailchimp(stack, QUICK_MS)

    export = wait_until_ended(stack, export_id, host=1)
    assert export["status"] == "Successful"
    assert_balanced(export)
    assert export["books"]["sent"] == export["books"]["created"] + export["books"]["updated"] == 20_000
    assert stack.sandbox.addresses() == addresses(20_000)
    assert all(member["tags"] == ["Readers"] for member in stack.sandbox.members())
    assert stack.sandbox.state()["maxOpenCalls"] <= 10


@pytest.mark.parametrize("moment", ["Preparing", "Sending"])
def test_an_export_survives_the_death_of_all_hosts_at_any_moment(stack: Stack, moment: str) -> None:
    stack.upload_segments({"Readers": rows(12_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)

    def status() -> str:
        return str(json.loads(stack.state(f"exports/{export_id}.json"))["status"])

    wait_for(lambda: status() == moment, moment)
    for host in stack.hosts:
        host.kill()
    pace_of_mailchimp(stack, QUICK_MS)
    stack.start_host()
    export = wait_until_ended(stack, export_id, host=2)
    assert export["status"] == "Successful"
    assert_balanced(export)
    assert stack.sandbox.addresses() == addresses(12_000)


def test_an_outage_of_a_minute_delays_the_export_and_does_not_fail_it(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(10_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)
    wait_for(lambda: stack.sandbox.audience()["contacts"] >= 1_000, "the first batches")
    stack.sandbox.set_faults({"action": "bare", "status": 503})
    began = time.monotonic()
    wait_for(lambda: stack.ask("GET", f"/api/exports/{export_id}")["status"] == "Waiting", "status Waiting", 60)
    while time.monotonic() - began < 60:  # the outage itself is what is tested
        assert stack.ask("GET", f"/api/exports/{export_id}")["status"] == "Waiting"
        time.sleep(2)
    pace_of_mailchimp(stack, QUICK_MS)
    stack.sandbox.clear_faults()
    export = wait_until_ended(stack, export_id)
    assert export["status"] == "Successful"
    assert_balanced(export)
    assert stack.sandbox.addresses() == addresses(10_000)


def test_a_key_that_is_revoked_in_the_middle_fails_the_export_and_says_what_to_do(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(20_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    export_id = start(stack, path)
    wait_for(lambda: stack.sandbox.audience()["contacts"] >= 1_000, "the first batches")
    stack.sandbox.revoke(API_KEY)
    export = wait_until_ended(stack, export_id)
    assert export["status"] == "Failed"
    assert export["problem"]["code"] == "signInRefused"
    assert export["problem"]["action"]
    assert_balanced(export)
    assert export["books"]["notSent"] > 0
    assert stack.ask("GET", path)["signIn"]["state"] == "needsAuthentication"
    refused = stack.api("POST", f"{path}/exports")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "destinationNotReady")


def test_one_export_at_a_time_and_the_same_key_starts_the_same_one(stack: Stack) -> None:
    stack.upload_segments({"Readers": rows(4_000)}, columns=COLUMNS)
    path = set_up(stack, "Readers")
    pace_of_mailchimp(stack, SLOW_MS)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda n: stack.api("POST", f"{path}/exports", headers={"Idempotency-Key": "monday"}, host=n % 2),
                range(8),
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    first = answers[0]
    assert first.headers["Operation-Location"].endswith(f"/api/exports/{first.json()['id']}")
    assert int(first.headers["Retry-After"]) > 0

    second = stack.api("POST", f"{path}/exports", host=1)
    assert second.status_code == 409
    assert first.json()["id"] in second.json()["error"]["message"]
    pace_of_mailchimp(stack, QUICK_MS)
    assert wait_until_ended(stack, first.json()["id"])["status"] == "Successful"

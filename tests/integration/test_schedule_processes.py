"""The schedule with two real hosts on one storage account: both timers fire, and one of the hosts is killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from dev.stack import Stack
from shared.settings import StorageConnection
from shared.storage import names
from shared.storage.clients import blob_service
from shared.storage.documents import Documents
from tests.integration.hosts_support import COLUMNS, far_from_now, rows, set_up, start_hosts
from tests.support import StorageAccount, wait_for

DAILY = {"isActive": True, "timeZone": "Turkey Standard Time", "times": [far_from_now("Europe/Istanbul")]}
OWN = {"mode": "ownSchedule", "rule": {"times": [far_from_now("UTC")], "timeZone": "UTC"}}


@pytest.fixture
def stack(storage_account: StorageAccount, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Two hosts, or as many as the test asks for, with two segments."""
    with start_hosts(storage_account, getattr(request, "param", 2)) as running:
        running.upload_segments({"Readers": rows(600), "Buyers": rows(600, start=600)}, columns=COLUMNS)
        yield running


@pytest.fixture
def documents(stack: Stack) -> Documents:
    service = blob_service(StorageConnection(connection_string=stack.storage))
    return Documents(service.get_container_client(names.STATE_CONTAINER))


def create(stack: Stack, name: str, **configuration: Any) -> str:
    """A destination that is not ready; returns its ID."""
    made = stack.ask("POST", "/api/destinations", json={"displayName": name, "consent": {"agreed": True}})
    if configuration:
        stack.ask("PATCH", f"/api/destinations/{made['id']}", json=configuration)
    return str(made["id"])


def ready(stack: Stack, segment: str, name: str, **configuration: Any) -> str:
    """A destination that is ready; returns its ID."""
    return set_up(stack, segment, name=name, **configuration).rpartition("/")[2]


def let_it_be_set_for_days(documents: Documents) -> None:
    """As if everything had been set up three days ago, so that runs are due now."""
    long_ago = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    rewrite(documents, names.SCHEDULE, updatedAt=long_ago)
    for entry in list(documents.list(names.DESTINATIONS_PREFIX)):
        rewrite(documents, entry.name, createdAt=long_ago, scheduledSince=long_ago)


def rewrite(documents: Documents, name: str, **changes: Any) -> None:
    found = documents.read(name)
    assert found is not None
    documents.write(name, json.dumps({**json.loads(found.data), **changes}).encode())


def fire(stack: Stack, host: int) -> None:
    """The timer of one host, as the platform's admin endpoint allows; it runs after that has answered."""
    answer = requests.post(f"{stack.hosts[host].address}/admin/functions/schedule", json={"input": ""}, timeout=60)
    assert answer.status_code == 202


def fire_and_wait(stack: Stack, *hosts: int) -> None:
    """The timers of several hosts at once (of one that is named twice: twice at once), until all have run."""
    before = {host: runs_of_timer(stack, host) for host in hosts}
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: fire(stack, host), hosts))
    for host, count in Counter(hosts).items():
        wait_for_runs(stack, host, before[host] + count)


def wait_for_runs(stack: Stack, host: int, count: int) -> None:
    wait_for(lambda: runs_of_timer(stack, host) >= count, "the timer", 180)


def runs_of_timer(stack: Stack, host: int) -> int:
    """How often the host has run the timer to its end because it was asked to, by its log. It also runs by itself."""
    lines = (stack.log_folder / f"{stack.name}-host-{host + 1}.log").read_text().splitlines()
    ends = [line for line in lines if '"event": "function.' in line and '"function": "schedule"' in line]
    assert not [line for line in ends if "function.failed" in line]
    return len([line for line in ends if '"reason": "by hand"' in line])


def scheduled(stack: Stack, host: int = 0) -> list[Mapping[str, Any]]:
    exports = stack.api("GET", "/api/exports?top=200", host=host).json()["value"]
    return [export for export in exports if export["trigger"] == "scheduled"]


def test_the_timers_of_two_hosts_start_each_due_export_once(stack: Stack, documents: Documents) -> None:
    newsletter = ready(stack, "Readers", "Newsletter")
    shop = ready(stack, "Buyers", "Shop", schedule=OWN)
    not_ready = create(stack, "Not ready")
    create(stack, "Off", schedule={"mode": "off"})
    create(stack, "Disabled", enabled=False)
    assert stack.ask("PUT", "/api/schedule", json=DAILY)["timeZone"] == "Europe/Istanbul"
    let_it_be_set_for_days(documents)

    fire_and_wait(stack, 0, 1, 0, 1, 0, 1)
    wait_for(lambda: sum(export["ended"] for export in scheduled(stack)) >= 3, "the ends of the exports", 120)
    found = scheduled(stack)
    assert Counter(export["destinationId"] for export in found) == {newsletter: 1, shop: 1, not_ready: 1}
    by_destination = {export["destinationId"]: export for export in found}
    assert by_destination[newsletter]["status"] == by_destination[shop]["status"] == "Successful"
    assert by_destination[not_ready]["status"] == "Skipped"
    assert by_destination[not_ready]["problem"]["code"] == "destinationNotReady"
    assert stack.sandbox.addresses() == {f"person{n}@mail.example" for n in range(1_200)}

    fire_and_wait(stack, 0, 1)
    assert len(scheduled(stack)) == 3, "three days were missed, and made up for once"
    for answer in (stack.ask("GET", "/api/schedule"), stack.ask("GET", f"/api/destinations/{shop}/schedule")):
        assert len(answer["nextRuns"]) == 5
        assert answer["lastRunAt"] < answer["nextRunAt"] == answer["nextRuns"][0]
        assert datetime.fromisoformat(answer["nextRunAt"]) > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize("stack", [1], indirect=True)  # the other one is started later: its timer runs by itself too
def test_a_host_that_is_killed_while_it_starts_exports_loses_none_and_doubles_none(
    stack: Stack, documents: Documents
) -> None:
    model = json.loads(stack.state(names.destination(ready(stack, "Readers", "Newsletter"))))
    copies = {f"copy-{number:02}": number % 10 == 0 for number in range(30)}  # so many that there is a middle
    ids = [model["id"], *copies]
    for id_, is_ready in copies.items():  # those that are not ready are recorded as skipped
        copy = {**model, "id": id_, "displayName": id_, "segments": model["segments"] if is_ready else []}
        documents.create(names.destination(id_), json.dumps(copy).encode())
    stack.ask("PUT", "/api/schedule", json=DAILY)
    let_it_be_set_for_days(documents)

    def recorded() -> int:
        return len(list(documents.list(names.EXPORTS_PREFIX)))

    fire(stack, 0)
    wait_for(lambda: recorded() >= 2, "the first exports")
    stack.hosts[0].kill()
    assert recorded() < len(ids), "it was killed in the middle"
    assert documents.read(names.SCHEDULE_RUNS) is None

    stack.start_host()
    fire_and_wait(stack, 1, 1)
    found = scheduled(stack, host=1)
    assert Counter(export["destinationId"] for export in found) == dict.fromkeys(ids, 1)
    skipped = {export["destinationId"] for export in found if export["problem"]}
    assert {id_ for id_, is_ready in copies.items() if not is_ready} <= skipped

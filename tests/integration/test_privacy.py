"""No address, name, value, key or token gets into a log or a queue, whatever goes wrong: a full run with real hosts in
which Mailchimp quotes people and credentials in everything it says.

The people have names that occur nowhere else, so that one that got out is found in any line and in any form.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from azure.storage.queue import QueueClient

from dev.sandbox.control import AUDIENCE_ID, CLIENT_SECRET
from dev.stack import Stack
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.queue_tap import QueueTap, tapped
from tests.integration.sign_in_desk import consent, parameter
from tests.support import StorageAccount, wait_for

KEY = "5f0e9c1b7a3d48e2965b0c7d1e8f4a36-us1"
REFUSED_KEY = "badc0ffee0ddf00dbadc0ffee0ddf00d-us1"
COLUMNS = ("CustomerId", "EMail", "FirstName", "LastName", "Plan")
ROWS = 620
TRACE = "0af7651916cd43dd8448eb211c80319c"

PERSONAL = ("zebrafinch", "xanthippe", "vandersloot", "ocelotplan", "marmosetmail", "quokka")
"""Of addresses, first names, last names, values, an invalid address, and what callers send: in lower case."""

BATCH = {"method": "POST", "pathPattern": "^/3.0/lists/[^/]+$"}
NONSENSE = json.dumps(
    {"exportId": "person1@zebrafinch.example", "accountId": KEY + "=", "destinationId": "Xanthippe V."}
)
QUOTE = "person7@zebrafinch.example (Xanthippe7 Vandersloot7, ocelotplan7) "


def echo(credential: str) -> str:
    """What a careless gateway writes into an error document."""
    return f"{QUOTE} was sent with 'Authorization: Bearer {credential}' {QUOTE}"


def fault(action: str, **more: Any) -> dict[str, Any]:
    match = {**BATCH, **more.pop("match", {})}
    return {"action": action, "match": match, "count": 1, **more}


FAULTS: dict[str, list[dict[str, Any]]] = {
    "without a document": [fault("bare", status=503), fault("bare", status=403), fault("bare", status=429)],
    "a connection that breaks": [fault("resetBefore"), fault("resetAfter"), fault("noReply", ms=200)],
    "replies that cannot be read": [fault("truncate"), fault("truncate", closeEarly=True), fault("skipRows", rows=3)],
    "errors that quote": [
        fault("problem", status=500, title=QUOTE, detail=echo(KEY)),
        fault("problem", status=400, title=QUOTE, detail=echo(KEY)),
        fault("rowError", match={"emailContains": "person11@"}, detail=echo(KEY)),
    ],
    "rows that are refused": [
        fault("memberError", match={"emailContains": "person13@"}, detail=f"{QUOTE} looks fake or invalid"),
        fault("memberError", match={"emailContains": "person17@"}, detail=f"is not allowed, says {echo(KEY)}"),
        fault("hideRows", rows=2),
    ],
}


def rows(count: int) -> list[tuple[str, ...]]:
    found = [
        (f"{n:032x}", f"person{n}@zebrafinch.example", f"Xanthippe{n}", f"Vandersloot{n}", f"ocelotplan{n}")
        for n in range(count)
    ]
    invalid = ("f" * 32, "marmosetmail without an at sign", "Xanthippe", "Vandersloot", "ocelotplan")
    return [*found, invalid, found[0]]


@pytest.fixture
def tap(storage_account: StorageAccount) -> Iterator[QueueTap]:
    with tapped(storage_account.connection_string) as running:
        yield running


@pytest.fixture
def stack(storage_account: StorageAccount, tap: QueueTap) -> Iterator[Stack]:
    settings = {"LANE_LEASE_SECONDS": "15"}
    with Stack(hosts=2, storage=tap.connection_string, settings=settings, name=storage_account.name) as running:
        running.sandbox.add_key(value=KEY)
        yield running


def set_up(stack: Stack) -> str:
    """A destination that is ready but for its sign-in; returns its path."""
    made = stack.ask("POST", "/api/destinations", json={"displayName": "Quokka Club", "consent": {"agreed": True}})
    return f"/api/destinations/{made['id']}"


def configure(stack: Stack, path: str) -> None:
    stack.ask("PUT", f"{path}/export-user")
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName", "mergeFields": {"PHONE": "Plan"}}
    configuration = {"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": ["Readers"]}
    assert stack.ask("PATCH", path, json=configuration)["missingSteps"] == []


def export(stack: Stack, path: str, *faults: dict[str, Any]) -> dict[str, Any]:
    stack.sandbox.set_faults(*faults)
    answer = stack.api("POST", f"{path}/exports", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert answer.status_code == 202, answer.text
    return stack.wait(answer.json()["id"], timeout=240)


def sign_in(stack: Stack, path: str) -> list[str]:
    """Sign in with OAuth as a browser does; returns what nobody but the two sides may see."""
    came_back = consent(stack.ask("POST", f"{path}/authorize")["authorizeUrl"])
    with requests.Session() as browser:
        browser.trust_env = False
        assert browser.get(came_back, timeout=30).status_code == 200
        assert browser.get(came_back, timeout=30).status_code == 409
    (account,) = stack.sandbox.state()["accounts"]
    return [*account["tokens"], parameter(came_back, "code"), parameter(came_back, "state")]


def call_carelessly(stack: Stack) -> None:
    """Requests of callers who put people where they do not belong."""
    person = "person1@zebrafinch.example"
    for method, path in (
        ("GET", f"/api/destinations/{person}"),
        ("GET", f"/api/exports/{quote(person)}"),
        ("GET", f"/api/segments/{person}"),
        ("POST", f"/api/exports/{person}/cancel"),
        ("GET", f"/api/exports?destinationId={person}&$top=quokka"),
    ):
        assert stack.api(method, path, json={} if method == "POST" else None).status_code in {404, 422}, path
    careless = {"displayName": ["Xanthippe Vandersloot"], "consent": person, "quokka": person}
    headers = {"traceparent": person, "tracestate": f"quokka={person}", "Idempotency-Key": person, "Baggage": person}
    assert stack.api("POST", "/api/destinations", json=careless, headers=headers).status_code == 422


def send_nonsense(stack: Stack) -> None:
    """Messages that are none of ours; each queue takes one, and the run of its function fails."""
    for queue in (PREPARE_QUEUE, LANES_QUEUE, REMOVALS_QUEUE):
        with QueueClient.from_connection_string(stack.storage, queue) as client:
            client.send_message(b64encode(NONSENSE.encode()).decode())


def logs(stack: Stack) -> str:
    """All that the hosts and the app in them have written and printed. Left out is the path of a request in the line
    that the local host, like the platform, writes for each: what callers put there is not the app's."""
    text = "".join(path.read_text(encoding="utf-8") for path in stack.log_folder.glob(f"{stack.name}-*.log"))
    return re.sub(r'("function": "http_app_func".*?"reason": )"[^"]*"', r"\1null", text)


def leaks(text: str, secrets: list[str]) -> list[str]:
    """Lines that hold a person or a secret, in one of the forms in which it could have got there."""
    addresses = [f"person{n}@zebrafinch.example".encode() for n in range(ROWS)]
    hashes = [hashlib.md5(address, usedforsecurity=False).hexdigest() for address in addresses]
    forms = [*PERSONAL, *hashes, *(form.lower() for secret in secrets for form in (secret, quote(secret, safe="")))]
    pattern = re.compile("|".join(map(re.escape, forms)))
    return [line[:600] for line in text.lower().splitlines() if pattern.search(line)]


def test_no_address_and_no_key_is_in_any_log_or_queue_message(stack: Stack, tap: QueueTap) -> None:
    secrets = [KEY, REFUSED_KEY, CLIENT_SECRET, stack.env["LOCAL_SECRET_KEY"]]
    stack.upload_segments({"Readers": rows(ROWS)}, columns=COLUMNS)
    path = set_up(stack)
    assert stack.api("PUT", f"{path}/api-key", json={"apiKey": REFUSED_KEY}).status_code >= 400
    assert stack.api("PUT", f"{path}/api-key", json={"apiKey": f"quokka {KEY}"}).status_code >= 400
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": KEY})
    configure(stack, path)
    call_carelessly(stack)
    send_nonsense(stack)

    ended = {name: export(stack, path, *faults) for name, faults in FAULTS.items()}
    assert {name: one["status"] for name, one in ended.items()} == dict.fromkeys(FAULTS, "CompletedWithErrors")
    assert [fault["struck"] for fault in stack.sandbox.faults()] == [1, 1, 1]
    assert sum(one["books"]["rejected"] for one in ended.values()) >= 3
    assert all(one["books"]["invalid"] == 1 for one in ended.values())

    refused = export(stack, path, fault("problem", status=401, title=QUOTE, detail=echo(KEY)))
    assert (refused["status"], refused["problem"]["code"]) == ("Failed", "signInRefused")
    stack.sandbox.clear_faults()
    secrets += sign_in(stack, path)
    token = secrets[4]
    echoing = fault("problem", status=500, title=QUOTE, detail=echo(token))
    assert export(stack, path, echoing)["status"] == "CompletedWithErrors"

    stack.sandbox.set_faults(
        {"action": "problem", "status": 500, "detail": echo(token), "count": 1, "match": {"pathPattern": "/segments/"}}
    )
    assert stack.api("DELETE", f"{path}?tags=remove").status_code in {202, 204}
    wait_for(lambda: stack.api("GET", path).status_code == 404, "the removal", seconds=120)
    for host in stack.hosts:
        host.terminate()

    written, messages = logs(stack), tap.messages()
    assert_the_run_was_told(written, messages)
    assert leaks("\n".join(message for message in messages if message != NONSENSE), secrets) == []
    assert leaks(written, secrets) == []


def assert_the_run_was_told(written: str, messages: list[str]) -> None:
    """Else silence would pass for discretion."""
    for event in (
        *("export.queued", "export.prepared", "export.ended", "export.stopped", "destination.signInRefused"),
        *("authorization.ended", "removal.untagged", "removal.completed", "function.failed"),
        *("Export.WorkflowStarted", "Export.WorkflowCompleted"),
    ):
        assert f'"event": "{event}"' in written, event
    assert TRACE in written
    parsed = [json.loads(message) for message in messages]
    assert {"exportId", "accountId", "destinationId"} <= {name for message in parsed for name in message}
    assert any(TRACE in str(message.get("traceparent")) for message in parsed)

"""The API tried as an attacker would with what is sent along: bodies, names, and a model that points elsewhere."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from dev.azurite import Azurite
from dev.sandbox.control import AUDIENCE_ID
from dev.stack import Stack
from shared.api.body import MAX_BODY_BYTES
from shared.storage.names import STATE_CONTAINER
from tests.integration.api_support import send
from tests.integration.attack_support import (
    ADMIN,
    JSON,
    ask,
    assert_harmless,
    created,
    deep,
    nothing_changes,
    signed_in_stack,
)
from tests.support import wait_for

KEY = "sandbox-key-us1"
COLUMNS = ("CustomerId", "EMail", "FirstName", "LastName")


@pytest.fixture(scope="module")
def stack(azurite: Azurite, _unused_accounts: Iterator[str]) -> Iterator[Stack]:
    with signed_in_stack(azurite, next(_unused_accounts)) as running:
        yield running


# -- bodies --------------------------------------------------------------------------------------------------------

CREATE = '"consent": {"agreed": true}'
BODIES: dict[str, tuple[bytes, int]] = {
    "empty list": (b"[]", 400),
    "null": (b"null", 400),
    "cut off": (b'{"displayName": "a", "consent": {"agreed": tr', 400),
    "two documents": (b'{"displayName": "a"}{"displayName": "b"}', 400),
    "trailing comma": (b'{"displayName": "a",}', 400),
    "comment": (b'{"displayName": "a" /* b */}', 400),
    "deep lists": (deep(400_000).encode(), 400),
    "deep lists within reason": (deep(400).encode(), 400),
    "deep objects": (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, 400),
    "a deep value": (f'{{"displayName": {deep(400)}, {CREATE}}}'.encode(), 422),
    "the same name twice": (f'{{"displayName": "a", "displayName": "b", {CREATE}}}'.encode(), 400),
    "the same name twice, escaped": (f'{{"displayName": "a", "display\\u004eame": "b", {CREATE}}}'.encode(), 400),
    "the same name twice, inside": (b'{"displayName": "a", "consent": {"agreed": false, "agreed": true}}', 400),
    "many names, the last one twice": (b"{" + b",".join(b'"%d": 1' % n for n in range(900)) + b', "5": 2}', 400),
    "more names than anything has": (b"{" + b",".join(b'"%d": 1' % n for n in range(90_000)) + b"}", 413),
    "more items than anything has": (b'{"segments": [' + b"1," * 400_000 + b"1]}", 413),
    "more items than anything has, inside": (b'{"a": {"contributors": [' + b"{}," * 200_000 + b"1]}}", 413),
    "more in all than anything has": (
        b'{"contributors": [' + b",".join([b"{" + b",".join(b'"%d":1' % n for n in range(99)) + b"}"] * 900) + b"]}",
        413,
    ),
    "a thousand mistakes": (b'{"segments": [' + b"1," * 999 + b"1]}", 422),
    "a list of lists of mistakes": (b'{"segments": [[' + b"1," * 400_000 + b"1]]}", 422),
    "NaN": (b'{"displayName": "a", "consent": {"agreed": NaN}}', 400),
    "Infinity": (f'{{"displayName": -Infinity, {CREATE}}}'.encode(), 400),
    "a number beyond all": (f'{{"displayName": 1e999, {CREATE}}}'.encode(), 422),
    "a number of many digits": (f'{{"displayName": {"9" * 100_000}, {CREATE}}}'.encode(), 400),
    "a number with many zeroes": (f'{{"displayName": 1e{"0" * 100_000}, {CREATE}}}'.encode(), 422),
    "half a character": (f'{{"displayName": "a\\ud800", {CREATE}}}'.encode(), 422),
    "half a character in a name": (f'{{"displayName": "a", "\\udfff": 1, {CREATE}}}'.encode(), 400),
    "a control character": (f'{{"displayName": "a\\u0000b", {CREATE}}}'.encode(), 422),
    "a line break": (f'{{"displayName": "a\\r\\nX-Evil: 1", {CREATE}}}'.encode(), 422),
    "not UTF-8": (f'{{"displayName": "\xff", {CREATE}}}'.encode("latin-1"), 400),
    "true as text": (b'{"displayName": "a", "consent": {"agreed": "true"}}', 422),
    "one for true": (b'{"displayName": "a", "consent": {"agreed": 1}}', 422),
    "a prototype": (f'{{"displayName": "a", "__proto__": {{"role": "Administrator"}}, {CREATE}}}'.encode(), 422),
    "properties of the inside": (
        f'{{"displayName": "a", "id": "x", "signIn": {{"secretName": "mc"}}, {CREATE}}}'.encode(),
        422,
    ),
    "too large": (b'{"displayName": "' + b"a" * MAX_BODY_BYTES + b'"}', 413),
}


@pytest.mark.parametrize("case", BODIES)
def test_no_body_does_harm(stack: Stack, case: str) -> None:
    body, status = BODIES[case]
    destination = created(stack, f"Before {case}")
    with nothing_changes(stack):
        answer = send(stack.address, "POST", "/api/destinations", {**ADMIN, **JSON}, body)
        assert_harmless(answer)
        assert answer.status == status
        assert answer.code
        assert len(answer.body) < 30_000
        for method, path in (("PATCH", ""), ("PUT", "/api-key"), ("PUT", "/consent"), ("POST", "/duplicate")):
            target = f"/api/destinations/{destination}{path}"
            assert_harmless(send(stack.address, method, target, {**ADMIN, **JSON}, body))


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonx",
        "text/json",
    ],
)
def test_only_what_is_declared_as_json_is_read(stack: Stack, kind: str) -> None:
    """Forms of other sites' pages can send these without being asked (CORS)."""
    body = f'{{"displayName": "Form", {CREATE}}}'.encode()
    with nothing_changes(stack):
        answer = send(stack.address, "POST", "/api/destinations", {**ADMIN, "Content-Type": kind}, body)
        assert (answer.status, answer.code) == (415, "notJson")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "identity, gzip"])
def test_a_packed_body_is_not_unpacked(stack: Stack, encoding: str) -> None:
    bomb = gzip.compress(f'{{"displayName": "{"a" * 50_000_000}", {CREATE}}}'.encode())
    with nothing_changes(stack):
        answer = send(stack.address, "POST", "/api/destinations", {**ADMIN, **JSON, "Content-Encoding": encoding}, bomb)
        assert (answer.status, answer.code) == (415, "notJson")
        assert answer.headers["accept-encoding"] == "identity"


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_body_in_chunks_is_one_body(stack: Stack) -> None:
    headers = {**ADMIN, **JSON, "Transfer-Encoding": "chunked"}
    body = f'{{"displayName": "In chunks", {CREATE}}}'.encode()
    answer = send(stack.address, "POST", "/api/destinations", headers, chunks(body[:9], body[9:10], body[10:]))
    assert (answer.status, answer.json["displayName"]) == (201, "In chunks")
    too_large = chunks(*[b" " * 60_000] * 20)
    assert send(stack.address, "POST", "/api/destinations", headers, too_large).status == 413


# -- headers of answers --------------------------------------------------------------------------------------------


def test_no_name_that_somebody_chose_gets_into_a_header(stack: Stack) -> None:
    name = 'x"; filename="evil.exe"; a=\'b\' Ⅎ'
    destination = created(stack, name)
    path = f"/api/destinations/{destination}"
    assert ask(stack, "PUT", f"{path}/api-key", {"apiKey": KEY}).status == 200
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    body = {"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": ["Readers"]}
    answers = [
        ask(stack, "PATCH", path, body),
        ask(stack, "PUT", f"{path}/export-user"),
        started := ask(stack, "POST", f"{path}/exports"),
    ]
    assert started.status == 202, started.body
    export = started.json["id"]
    wait_for(lambda: ask(stack, "GET", f"/api/exports/{export}").json["ended"], "the end of the export")
    answers.append(rejected := ask(stack, "GET", f"/api/exports/{export}/rejected"))
    assert rejected.headers["content-disposition"] == f'attachment; filename="rejected-{export}.csv"'
    for answer in answers:
        assert answer.status < 300, answer.body
        assert "evil" not in str(answer.headers)


@pytest.mark.parametrize("value", ["a\rX-Evil: 1", "a\x00b", "a\x01b", "a b", "ä", "", "a" * 256])
def test_a_key_that_no_header_can_hold_is_refused(stack: Stack, value: str) -> None:
    with nothing_changes(stack):
        assert_harmless(send(stack.address, "POST", "/api/exports", {**ADMIN, "Idempotency-Key": value}))


# -- places that the app must not be sent to -----------------------------------------------------------------------


@contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """A server that the app must not call; the requests that came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"1,ada@mail.example,Ada,A\n")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_model_cannot_send_the_app_elsewhere(stack: Stack) -> None:
    account = stack.segments.account_name
    with trap() as (address, came):
        locations = [
            f"{address}/stolen.csv",
            f"{address}/another/{stack.segments.container_name}/evil/own.csv",
            f"{address}/{account}/other/evil/own.csv",
            f"https://evil.example/{account}/{stack.segments.container_name}/evil/own.csv",
            f"{address}/{account}/segments/../{STATE_CONTAINER}/secrets/mc",
            f"{address}/{account}/segments/%2e%2e/{STATE_CONTAINER}/secrets/mc",
            "http://169.254.169.254/metadata/identity/oauth2/token",
            "https://evil.example/segments/stolen.csv",
            f"https://{account}.blob.core.windows.net.evil.example/segments/stolen.csv",
            f"https://{account}@evil.example/segments/stolen.csv",
            "file:///etc/passwd",
            "//evil.example/segments/stolen.csv",
            "\\\\evil.example\\share\\stolen.csv",
            "/etc/passwd",
            f"../../{STATE_CONTAINER}/destinations/d1.json",
            "..%2f..%2fstate%2fsecrets%2fmc",
            "gopher://127.0.0.1:25/",
            "stolen\r\n.csv",
        ]
        attributes = [{"name": column, "dataType": "string"} for column in COLUMNS]
        entities = [
            {
                "$type": "LocalEntity",
                "name": f"Stolen{number}",
                "attributes": attributes,
                "partitions": [{"name": "p", "location": location}],
            }
            for number, location in enumerate(locations)
        ]
        model = {"name": "Evil", "version": "1.0", "entities": entities}
        stack.segments.upload_blob("evil/own.csv", b"1,ada@mail.example,Ada,A\n", overwrite=True)
        stack.segments.upload_blob("evil/model.json", json.dumps(model), overwrite=True)
        destination = created(stack, "Of stolen segments")
        for number, location in enumerate(locations):
            shown = ask(stack, "GET", f"/api/segments/Stolen{number}").json
            assert not shown["exportable"], location
            assert shown["reason"]
            assert shown["files"] == []
            body = {"segments": [f"Stolen{number}"]}
            refused = ask(stack, "PATCH", f"/api/destinations/{destination}", body)
            assert (refused.status, refused.code) == (422, "segmentNotExportable")
        assert came == []
    stack.segments.delete_blobs("evil/model.json", "evil/own.csv")

"""The API tried as an attacker would: a real host, requests byte by byte, and nothing that may be taken for granted.

Who may call what is in test_api_roles.py; pages of other origins are in tests/unit/test_api_cors.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from dev.azurite import Azurite
from dev.host.process import HostProcess, start_host
from dev.sandbox.control import AUDIENCE_ID
from dev.stack import Stack
from shared.api.body import MAX_BODY_BYTES
from shared.storage.names import STATE_CONTAINER
from tests.integration.api_support import Answer, claims, principal_header, send, signed_in, versions
from tests.support import wait_for
from tests.unit.api_caller import Api

ADMIN = signed_in("Administrator")
JSON = {"Content-Type": "application/json"}
KEY = "sandbox-key-us1"
COLUMNS = ("CustomerId", "EMail", "FirstName", "LastName")
MS_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest.fixture(scope="module")
def stack(azurite: Azurite, _unused_accounts: Iterator[str]) -> Iterator[Stack]:
    """A host behind the platform's sign-in: it trusts the platform's header, as in Azure."""
    account = next(_unused_accounts)
    settings = {"WEBSITE_AUTH_ENABLED": "True"}
    with Stack(storage=azurite.connection_string(account), settings=settings, name=account) as running:
        running.upload_segments({"Readers": [("1", "ada@mail.example", "Ada", "A"), ("2", "broken", "B", "B")]})
        yield running


@pytest.fixture(scope="module")
def unmarked(stack: Stack) -> Iterator[HostProcess]:
    """A host on the same storage without the platform's marker: nobody checks the header there."""
    with start_host({**stack.env, "WEBSITE_AUTH_ENABLED": ""}, grace_seconds=5) as host:
        yield host


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


# -- who asks ----------------------------------------------------------------------------------------------------


def test_a_made_up_principal_is_not_looked_at_without_the_platforms_marker(unmarked: HostProcess) -> None:
    for forged in (signed_in("Administrator", id_="mallory", name="mallory"), signed_in("Viewer"), claims()):
        me = send(unmarked.address, "GET", "/api/me", forged)
        assert me.json == {"id": "local", "name": "local user", "role": "Administrator"}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7071", "2130706433", "0x7f.1"]
)
def test_a_name_that_points_here_does_not_open_an_unmarked_host(unmarked: HostProcess, host: str) -> None:
    """DNS rebinding: a page of evil.example whose name comes to mean 127.0.0.1."""
    refused = send(unmarked.address, "GET", "/api/destinations", {"Host": host})
    assert (refused.status, refused.code) == (403, "notLocal")


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"X-MS-CLIENT-PRINCIPAL": ""},
        {"X-MS-CLIENT-PRINCIPAL": "not base64!"},
        {"X-MS-CLIENT-PRINCIPAL": "e30"},  # cut off
        {"X-MS-CLIENT-PRINCIPAL": "\xff\xfe"},
        {"X-MS-CLIENT-PRINCIPAL": "A" * 40_000},
        {"X-MS-CLIENT-PRINCIPAL": f"{ADMIN['X-MS-CLIENT-PRINCIPAL']}, {ADMIN['X-MS-CLIENT-PRINCIPAL']}"},
        {"X-MS-CLIENT-PRINCIPAL-NAME": "admin", "X-MS-CLIENT-PRINCIPAL-ID": "1", "X-MS-CLIENT-PRINCIPAL-IDP": "aad"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlcyI6WyJBZG1pbmlzdHJhdG9yIl19."},
        {"Cookie": "AppServiceAuthSession=anything"},
        principal_header(b""),
        principal_header(b"null"),
        principal_header(b"[]"),
        principal_header(b'"claims"'),
        principal_header(b"{}"),
        principal_header(b'{"claims": null}'),
        principal_header(b'{"claims": {"typ": "roles", "val": "Administrator"}}'),
        principal_header(b'{"claims": [["roles", "Administrator"]]}'),
        principal_header(b'{"claims": ["roles"]}'),
        principal_header(b'{"claims": [{"typ": "roles"}]}'),
        principal_header(b'{"claims": [{"val": "Administrator"}]}'),
        principal_header(b'{"claims": [{"typ": "roles", "val": "Administrator"}'),
        principal_header(b'{"claims": [{"typ": "roles", "val": "Administrator"}], "role_typ": "\xff"}'),
        principal_header(b'{"claims": [{"typ": "roles", "val": "Administrator\\ud800"}]}'),
        principal_header(f'{{"claims": {deep(10_000)}}}'.encode()),
        principal_header(f'{{"claims": [], "x": {deep(10_000)}}}'.encode()),
        claims(("roles", ["Administrator"])),
        claims(("roles", {"val": "Administrator"})),
        claims(("roles", None)),
        claims(("roles", 3)),
        claims(("roles", True)),
        claims(("roles", "Administrator"), role_typ=["roles"]),
        claims(("roles", "Administrator"), role_typ={}),
        claims(("roles", "Administrator"), name_typ=7),
    ],
)
def test_what_the_platform_would_not_write_is_nobody(stack: Stack, header: dict[str, str]) -> None:
    answer = send(stack.address, "GET", "/api/destinations", header)
    assert_harmless(answer)
    assert (answer.status, answer.code) == (401, "signInRequired")


@pytest.mark.parametrize(
    ("pairs", "more", "role"),
    [
        ([("roles", "Administrator")], {}, "Administrator"),
        ([("roles", "Administrator")], {"role_typ": "name"}, "Administrator"),
        ([(MS_ROLE, "Viewer")], {}, "Viewer"),
        ([("urn:contoso:roles", "Contributor")], {"role_typ": "urn:contoso:roles"}, "Contributor"),
        (
            [("https://contoso.example/claims#Role", "Viewer")],
            {"role_typ": "https://contoso.example/claims#Role"},
            "Viewer",
        ),
        # claims whose values people choose themselves
        ([("name", "Administrator")], {"role_typ": "name"}, None),
        ([("preferred_username", "Administrator")], {"role_typ": "preferred_username"}, None),
        ([("nickname", "Administrator")], {"role_typ": "nickname"}, None),
        ([("jobrole", "Administrator")], {"role_typ": "jobrole"}, None),
        ([("", "Administrator")], {"role_typ": ""}, None),
        ([("name\nroles", "Administrator")], {"role_typ": "name\nroles"}, None),
        ([("urn:contoso:roles", "Administrator")], {}, None),
        ([("urn:contoso:roles", "Administrator")], {"role_typ": "urn:fabrikam:roles"}, None),
        ([("Roles", "Administrator")], {}, None),
        ([("groups", "Administrator")], {}, None),
        # roles that only look like ours
        ([], {}, None),
        ([("roles", "Owner")], {}, None),
        ([("roles", "administrator")], {}, None),
        ([("roles", "ADMINISTRATOR")], {}, None),
        ([("roles", " Administrator")], {}, None),
        ([("roles", "Administrator\u0000")], {}, None),
        ([("roles", "Viewer,Administrator")], {}, None),
        ([("roles", '["Administrator"]')], {}, None),
        ([("roles", "Аdministrator")], {}, None),  # the first letter is Cyrillic
        ([("roles", "3")], {}, None),
        ([("roles", "Owner"), ("roles", "Viewer")], {}, "Viewer"),
    ],
)
def test_a_role_is_what_the_tenant_gave_under_a_claim_of_roles(
    stack: Stack, pairs: list[tuple[str, str]], more: dict[str, str], role: str | None
) -> None:
    header = claims(("oid", "o1"), *pairs, **more)
    assert send(stack.address, "GET", "/api/me", header).json["role"] == role
    answer = send(stack.address, "GET", "/api/destinations", header)
    assert answer.status == (200 if role else 403)
    assert role or answer.code == "roleMissing"


@pytest.mark.parametrize(
    "target",
    [
        "/api/health/",
        "/api//health",
        "/API/HEALTH",
        "/api/health%00",
        "/api/health;/../destinations",
        "/api/health/../destinations",
        "/api/health/%2e%2e/destinations",
        "/api/health%2f..%2fdestinations",
        "/api/./health",
        "//api/health",
    ],
)
def test_what_only_resembles_the_open_address_is_not_open(stack: Stack, target: str) -> None:
    answer = send(stack.address, "GET", target)
    assert answer.status in {401, 404}
    assert b"value" not in answer.body
    assert send(stack.address, "POST", "/api/health", JSON, b"{}").status == 401


# -- addresses ---------------------------------------------------------------------------------------------------

TRICKS = [
    "..",
    "%2e%2e",
    "..%2f..%2fsecrets%2fmc",
    "%2fetc%2fpasswd",
    "..%5c..%5cwindows",
    "%252e%252e%252f",
    "%00",
    "abc%00.json",
    "%ff",
    "%c0%ae%c0%ae",
    "abc%0a",
    "%0d%0aX-Evil:%201",
    "abc%20",
    "%E2%80%AE",
    "%EF%BC%A1bc",
    "%F0%9F%92%A9",
    "*",
    "'",
    "%22",
    "%3Cscript%3E",
    "%7BdestinationId%7D",
    "-" * 65,
    "a" * 5000,
    "%F0%9F%92%A9" * 1000,
]


def operations(stack: Stack) -> list[tuple[str, str]]:
    """Every call that has an ID or a name in its address."""
    paths = send(stack.address, "GET", "/api/openapi.json", ADMIN).json["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods if "{" in path]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick[:30])
def test_no_trick_in_an_address_reaches_anything(stack: Stack, trick: str) -> None:
    destination = created(stack, f"Target {TRICKS.index(trick)}")
    with nothing_changes(stack):
        for method, path in operations(stack):
            for parameter in re.findall(r"\{(\w+)\}", path):
                target = path.replace(f"{{{parameter}}}", trick)
                target = target.format(destinationId=destination, exportId="e1", audienceId="a1", name="n1")
                answer = send(stack.address, method, target, {**ADMIN, **JSON}, b"{}" if method != "GET" else b"")
                assert_harmless(answer)


def test_an_id_is_not_another_id_in_other_letters(stack: Stack) -> None:
    destination = created(stack, "Exactly this one")
    others = [destination.upper(), f"{destination} ", f" {destination}", destination[:-1], f"{destination}0"]
    others.append(destination.translate(str.maketrans("0123456789abcdef", "０１２３４５６７８９ａｂｃｄｅｆ")))
    for other in others:
        if other != destination:
            target = "/api/destinations/" + "".join(f"%{byte:02x}" for byte in other.encode())
            assert ask(stack, "GET", target).status == 404
    whole = "/api/destinations/" + "".join(f"%{byte:02x}" for byte in destination.encode())
    assert ask(stack, "GET", whole).json["id"] == destination


def test_addresses_and_headers_that_nobody_can_read_are_the_callers_fault(stack: Stack) -> None:
    for target, headers in (
        ("/api/destinations/%ff", {}),
        ("/api/%e2%82", {}),
        ("/api/me", {"X-Forwarded-Port": "9" * 5000}),
        ("/api/me", {"Host": "[::1"}),
        ("/api/me", {"Host": "localhost:99999"}),
    ):
        answer = send(stack.address, "GET", target, {**ADMIN, **headers})
        assert (answer.status, answer.code) == (400, "unreadableRequest"), target


@pytest.mark.parametrize("host", ["x/api/health?", "x/api/health#", "user@x", "x\\y", "a b"])
def test_a_host_header_cannot_change_the_address_that_is_asked_for(stack: Stack, host: str) -> None:
    """The adapter puts the address together from it; the platform decided on the path of the request line."""
    destination = created(stack, f"Behind {host!r}")
    with nothing_changes(stack):
        for target in ("/api/health", "/api/me"):
            smuggled = f"x/api/destinations/{destination}?" if target == "/api/health" else host
            answer = send(stack.address, "DELETE", target, {**ADMIN, "Host": smuggled})
            assert_harmless(answer)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:443", "169.254.169.254"])
def test_links_come_from_the_settings_and_never_from_the_host_header(stack: Stack, host: str) -> None:
    body = {"displayName": f"Linked {len(host)}", "consent": {"agreed": True}}
    made = ask(stack, "POST", "/api/destinations", body, Host=host)
    assert made.headers["location"] == f"{stack.env['PUBLIC_URL']}/api/destinations/{made.json['id']}"
    created(stack, f"Linked too {len(host)}")
    page = ask(stack, "GET", "/api/destinations?top=1", Host=host)
    assert page.json["nextLink"].startswith(f"{stack.env['PUBLIC_URL']}/api/destinations?")
    assert host.encode() not in page.body
    assert host not in str(page.headers)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "QUERY", "delete", "GETX"])
def test_other_methods_do_nothing(stack: Stack, method: str) -> None:
    destination = created(stack, f"Not for {method}")
    with nothing_changes(stack):
        for target in (f"/api/destinations/{destination}", "/api/destinations", "/api/me"):
            answer = send(stack.address, method, target, {**ADMIN, "X-Evil": "1"})
            assert answer.status in {400, 404, 405}
            assert b"X-Evil" not in answer.body  # TRACE would send the request back, with its identity
            assert not (method == "HEAD" and answer.body)


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method"]
)
def test_a_header_cannot_stand_in_for_the_method(stack: Stack, header: str) -> None:
    destination = created(stack, f"Not by {header}")
    with nothing_changes(stack):
        for method in ("POST", "GET"):
            target = f"/api/destinations/{destination}?_method=DELETE&X-HTTP-Method=DELETE"
            answer = send(stack.address, method, target, {**ADMIN, header: "DELETE"})
            assert answer.status == (405 if method == "POST" else 200)


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path"])
def test_a_header_cannot_stand_in_for_the_address(stack: Stack, header: str) -> None:
    answer = send(stack.address, "GET", "/api/health", {header: "/api/destinations"})
    assert answer.json == {"status": "ok"}


# -- bodies ------------------------------------------------------------------------------------------------------

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


# -- headers of answers ------------------------------------------------------------------------------------------


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


# -- places that the app must not be sent to --------------------------------------------------------------------------


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

        do_HEAD = do_GET  # noqa: N815 - the library's name

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

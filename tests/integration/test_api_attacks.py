"""The API tried as an attacker would, byte by byte: who asks, at which address, and by which method.

What is sent along is in test_api_attacks_content.py, what needs no host in tests/unit/test_api_attacks.py; who may call
what is in test_api_roles.py; pages of other origins are in tests/unit/test_api_cors.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from dev.azurite import Azurite
from dev.host.process import HostProcess, start_host
from dev.stack import Stack
from tests.integration.api_support import claims, principal_header, send, signed_in
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

MS_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest.fixture(scope="module")
def stack(azurite: Azurite, _unused_accounts: Iterator[str]) -> Iterator[Stack]:
    with signed_in_stack(azurite, next(_unused_accounts)) as running:
        yield running


@pytest.fixture(scope="module")
def unmarked(stack: Stack) -> Iterator[HostProcess]:
    """A host on the same storage without the platform's marker: nobody checks the header there."""
    with start_host({**stack.env, "WEBSITE_AUTH_ENABLED": ""}, grace_seconds=5) as host:
        yield host


# -- who asks ------------------------------------------------------------------------------------------------------


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


# -- addresses and methods -----------------------------------------------------------------------------------------

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

"""Every call tried by everybody: nobody, a person without a role, a viewer, contributors with and without the
destination, an administrator. The real application over real storage and a sandbox; nothing refused leaves a trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from dev.sandbox.control import API_KEY, AUDIENCE_ID, SandboxControl
from shared.api.auth import Role
from tests.integration.api_support import GIVEN_ID, App, claims, signed_in, versions
from tests.integration.engine import build_engine, people
from tests.integration.removal_support import work_off
from tests.support import StorageAccount
from tests.unit.test_api_auth import NEEDED

CALLERS: Final[dict[str, tuple[dict[str, str], int]]] = {
    "nobody": ({}, 0),
    "a person without a role": (signed_in(None), 1),
    "a viewer": (signed_in("Viewer", id_=GIVEN_ID), 2),  # given the destination, which makes nobody a contributor
    "a contributor without the destination": (signed_in("Contributor"), 3),
    "a contributor whom nothing names": (claims(("roles", "Contributor")), 3),
    "a contributor with two names": (claims(("roles", "Contributor"), ("oid", GIVEN_ID), ("oid", "another")), 3),
    "a contributor with the destination": (signed_in("Contributor", id_=GIVEN_ID), 4),
    "an administrator": (signed_in("Administrator"), 5),
}
"""Headers, and how much each may: the ones with the same number may the same."""

OPEN_TO_ALL_CONTRIBUTORS: Final = {("post", "/api/exports")}
"""Leaves out what was not given to the caller, instead of refusing. All else that needs the role needs the destination
(or is an export of it)."""

PAGES: Final = {("get", "/api/oauth/callback")}
"""Answered to a person in front of a browser, who is told to sign in first."""

BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("post", "/api/destinations"): {"displayName": "Another", "consent": {"agreed": True}},
    ("patch", "/api/destinations/{destinationId}"): {"enabled": False},
    ("put", "/api/destinations/{destinationId}/api-key"): {"apiKey": API_KEY},
    ("put", "/api/destinations/{destinationId}/consent"): {"agreed": False},
    ("post", "/api/destinations/{destinationId}/duplicate"): {"displayName": "Copy", "consent": {"agreed": True}},
    ("post", "/api/destinations/{destinationId}/suppressed/clear"): {"all": True},
    ("put", "/api/schedule"): {"isActive": False, "timeZone": "UTC", "times": ["00:00"]},
}


@pytest.fixture
def app(storage_account: StorageAccount, sandbox: SandboxControl) -> Iterator[App]:
    engine = build_engine(
        storage_account.connection_string, sandbox, WEBSITE_AUTH_ENABLED="True", PUBLIC_URL="https://app.example"
    )
    engine.write_segment("Readers", people(3))
    app = App(engine)
    app.set_up()
    yield app
    app.close()


def least(operation: tuple[str, str]) -> int:
    """The number in CALLERS of those who may do it."""
    match NEEDED[operation]:
        case None:
            return 0 if operation == ("get", "/api/health") else 1
        case Role.VIEWER:
            return 2
        case Role.CONTRIBUTOR:
            return 3 if operation in OPEN_TO_ALL_CONTRIBUTORS else 4
        case Role.ADMINISTRATOR:
            return 5


def test_the_table_has_every_call_that_the_app_answers(app: App) -> None:
    paths = app.administer("get", "/api/openapi.json")["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == set(NEEDED)


@pytest.mark.parametrize("operation", NEEDED, ids=" ".join)
def test_a_call_is_refused_to_everybody_who_may_not_make_it(app: App, operation: tuple[str, str]) -> None:
    method, path = operation
    needed = least(operation)
    before = versions(app.engine.connection_string)
    for who, (headers, rank) in CALLERS.items():
        if rank < needed:
            answer = app.call(method, app.fill(path), BODIES.get(operation), headers)
            if operation in PAGES:
                assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
                continue
            expected = "signInRequired" if rank == 0 else "notShared" if rank == 3 and needed == 4 else "roleMissing"
            assert (answer.status, answer.code) == (401 if rank == 0 else 403, expected), who
    assert versions(app.engine.connection_string) == before


@pytest.mark.parametrize("operation", NEEDED, ids=" ".join)
def test_a_call_is_open_to_everybody_who_may_make_it(app: App, operation: tuple[str, str]) -> None:
    method, path = operation
    for who, (headers, rank) in CALLERS.items():
        if rank >= least(operation):
            answer = app.call(method, app.fill(path), BODIES.get(operation), headers)
            assert answer.status < 500, (who, answer.body)
            assert answer.status not in {401, 403, 404, 405, 415, 422}, (who, answer.body)


def test_exporting_all_starts_only_what_was_given_to_the_caller(app: App) -> None:
    app.administer("post", f"/api/exports/{app.export_id}/cancel")
    for who, given in (
        ("a contributor without the destination", False),
        ("a contributor whom nothing names", False),
        ("a contributor with two names", False),
        ("a contributor with the destination", True),
    ):
        headers, _ = CALLERS[who]
        answer = app.call("post", "/api/exports", None, headers)
        assert answer.status == 202
        assert [each["destinationId"] for each in answer.json["skipped"]] == [app.destination_id] * given, who
        assert answer.json["started"] == []  # one is running


def test_a_destination_for_every_contributor_is_open_to_all_who_have_the_role(app: App) -> None:
    path = f"/api/destinations/{app.destination_id}"
    app.administer("patch", path, {"contributors": [], "everyContributor": True})
    for who, (headers, rank) in CALLERS.items():
        answer = app.call("patch", path, {"enabled": True}, headers)
        assert (answer.status == 200) == (rank >= 3), who


def test_a_destination_that_is_taken_back_is_closed_at_once(app: App) -> None:
    path = f"/api/destinations/{app.destination_id}"
    headers, _ = CALLERS["a contributor with the destination"]
    assert app.call("post", f"{path}/verify", None, headers).status == 200
    app.administer("patch", path, {"contributors": []})
    for method, address in (("post", f"{path}/verify"), ("post", f"/api/exports/{app.export_id}/cancel")):
        assert (app.call(method, address, None, headers).code) == "notShared"


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": "Mine"},
        {"audienceId": AUDIENCE_ID},
        {"audienceId": None},
        {"contributors": [{"id": "id-of-mallory", "name": "mallory"}]},
        {"contributors": []},
        {"everyContributor": True},
        {"confirm": True},
        {"enabled": False, "everyContributor": True},
    ],
)
def test_contributors_decide_neither_where_data_goes_nor_who_may_send_it(app: App, change: dict[str, Any]) -> None:
    before = versions(app.engine.connection_string)
    headers, _ = CALLERS["a contributor with the destination"]
    answer = app.call("patch", f"/api/destinations/{app.destination_id}", change, headers)
    assert (answer.status, answer.code) == (403, "roleMissing")
    assert versions(app.engine.connection_string) == before


def test_exports_of_a_removed_destination_are_the_administrators(app: App) -> None:
    app.engine.work_until_ended(app.export_id)
    app.administer("delete", f"/api/destinations/{app.destination_id}")
    work_off(app.engine)
    for who, (headers, rank) in CALLERS.items():
        for method, path in (("get", "rejected"), ("post", "cancel")):
            answer = app.call(method, f"/api/exports/{app.export_id}/{path}", None, headers)
            assert (answer.status in {401, 403}) == (rank < 5), who

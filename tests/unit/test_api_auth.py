"""Who gets in and what they may do: on this machine, and behind App Service authentication."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.api.auth import Principal, Role, read_principal
from shared.people import Person
from shared.settings import read_settings
from tests.unit.api_caller import DEPLOYED, Api, signed_in
from tests.unit.setup_fakes import ADA, KEY

ORIGIN = "https://app-1.azurewebsites.net"


@pytest.fixture
def local() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


@pytest.fixture
def deployed() -> Iterator[Api]:
    api = Api(read_settings(DEPLOYED))
    yield api
    api.close()


# -- on this machine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:7071", "localhost:7071", "localhost", "[::1]:7071", "LOCALHOST"])
def test_this_machine_is_let_in(local: Api, host: str) -> None:
    assert local.call("GET", "/api/destinations", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:7071"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "user@127.0.0.1"},
        {"Host": "127.0.0.1:7071/evil.example"},
        {"Host": "[::1"},
        {"Host": "192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Host": "evil.example"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
    ],
)
def test_nobody_else_is_let_in_without_authentication(local: Api, headers: dict[str, str]) -> None:
    reply = local.call("GET", "/api/destinations", headers=headers)
    assert (reply.status, reply.error["code"]) == (403, "notLocal")


def test_a_client_address_that_is_not_this_machine_is_refused(local: Api) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/destinations",
        "raw_path": b"/api/destinations",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("192.0.2.1", 5000),
        "server": ("127.0.0.1", 7071),
        "scheme": "http",
        "root_path": "",
    }
    asyncio.run(local.app(scope, receive, send))
    assert sent[0]["status"] == 403


def test_a_made_up_principal_is_not_looked_at_without_authentication(local: Api) -> None:
    reply = local.call(
        "PUT",
        f"/api/destinations/{local.setup.created().destination.id}/export-user",
        headers=signed_in(["Viewer"], "mallory"),
    )
    assert reply.json["exportUser"]["name"] == "local user"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://evil.example:7071", ""])
def test_pages_of_other_sites_cannot_change_anything(local: Api, origin: str) -> None:
    reply = local.call("POST", "/api/exports", headers={"Origin": origin})
    assert (reply.status, reply.error["code"]) == (403, "foreignOrigin")


@pytest.mark.parametrize("origin", ["http://127.0.0.1:7071", "http://localhost:3000"])
def test_pages_of_this_machine_can(local: Api, origin: str) -> None:
    assert local.call("POST", "/api/exports", headers={"Origin": origin}).status == 202


@pytest.mark.parametrize("mark", ["False", ""])
def test_a_deployment_without_authentication_answers_only_that_it_is_alive(mark: str) -> None:
    """The host of a consumption plan says "False" (HostAssignmentContext of Azure/azure-functions-host)."""
    api = Api(read_settings(DEPLOYED | {"WEBSITE_AUTH_ENABLED": mark}))
    for headers in ({}, signed_in(["Administrator"]), {"Host": "localhost"}):
        reply = api.call("GET", "/api/destinations", headers=headers)
        assert (reply.status, reply.error["code"]) == (503, "authenticationOff")
    assert api.call("GET", "/api/health").status == 200
    api.close()


# -- behind App Service authentication ---------------------------------------------------------------------------


def test_health_is_open_and_the_rest_is_not(deployed: Api) -> None:
    assert deployed.call("GET", "/api/health").status == 200
    for path in ("/api/ready", "/api/docs", "/api/openapi.json", "/api/destinations", "/api/nope"):
        reply = deployed.call("GET", path)
        assert (reply.status, reply.error["code"]) == (401, "signInRequired"), path


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"claims": 5}').decode(),
        base64.b64encode(b'{"claims": [{"typ": "roles"}]}').decode(),
        base64.b64encode(b"[" * 40_000).decode(),
        "A" * 100_000,
    ],
)
def test_a_principal_that_the_platform_would_not_write_is_nobody(deployed: Api, header: str) -> None:
    assert deployed.call("GET", "/api/destinations", headers={"X-MS-CLIENT-PRINCIPAL": header}).status == 401


def test_somebody_signed_in_without_a_role_is_told_which_one_to_ask_for(deployed: Api) -> None:
    reply = deployed.call("GET", "/api/destinations", headers=signed_in(["Reader"]))
    assert (reply.status, reply.error["code"]) == (403, "roleMissing")
    assert "Viewer" in reply.error["message"]


@pytest.mark.parametrize(
    "kind",
    [
        "roles",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    ],
)
def test_roles_are_found_under_either_name_of_the_claim(deployed: Api, kind: str) -> None:
    assert deployed.call("GET", "/api/destinations", headers=signed_in(["Viewer"], role_kind=kind)).status == 200


def test_the_role_claim_that_the_principal_names_itself_counts() -> None:
    payload = {
        "role_typ": "urn:contoso:role",
        "name_typ": "n",
        "claims": [{"typ": "urn:contoso:role", "val": "Contributor"}, {"typ": "n", "val": "x"}],
    }
    found = read_principal(base64.b64encode(json.dumps(payload).encode()).decode())
    assert found == Principal(Person(id="", name="x"), Role.CONTRIBUTOR)


SCHEMAS = "http://schemas.microsoft.com/identity/claims/"
TOKEN = {
    f"{SCHEMAS}tenantid": "t-1",
    "iss": "https://login.microsoftonline.com/t-1/v2.0",
    "aud": "app-1",
    "ver": "2.0",
}
SOAP = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"


@pytest.mark.parametrize(
    ("claims", "person"),
    [
        pytest.param(
            {
                "name": "Ada Lovelace",
                "preferred_username": "ada@contoso.example",
                "nonce": "n",
                "c_hash": "h",
                f"{SCHEMAS}objectidentifier": "ada-id",
                f"{SOAP}nameidentifier": "s",
            },
            Person(id="ada-id", name="ada@contoso.example"),
            id="browser session",
        ),
        pytest.param(
            {
                "name": "Ada Lovelace",
                "preferred_username": "ada@contoso.example",
                "azp": "portal-app",
                f"{SCHEMAS}objectidentifier": "ada-id",
                f"{SCHEMAS}scope": "user_impersonation",
            },
            Person(id="ada-id", name="ada@contoso.example"),
            id="token of a user",
        ),
        pytest.param(
            {"azp": "batch-app", "azpacr": "1", f"{SCHEMAS}objectidentifier": "batch-id", f"{SOAP}nameidentifier": "b"},
            Person(id="batch-id", name="batch-app"),
            id="token of a program",
        ),
        pytest.param(
            {
                "name": "Eve",
                "preferred_username": "eve@fabrikam.example",
                f"{SOAP}emailaddress": "eve@home.example",
                f"{SCHEMAS}identityprovider": "https://sts.windows.net/t-2/",
                f"{SCHEMAS}objectidentifier": "eve-id",
            },
            Person(id="eve-id", name="eve@fabrikam.example"),
            id="guest",
        ),
    ],
)
@pytest.mark.parametrize("role_kind", ["roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"])
def test_callers_of_every_kind_are_known_by_their_object_id(
    claims: dict[str, str], person: Person, role_kind: str
) -> None:
    """As the platform writes version 2 tokens down: some claims under their long names, the role under either."""
    told = TOKEN | claims | {role_kind: "Contributor"}
    payload = {
        "auth_typ": "aad",
        "name_typ": f"{SOAP}emailaddress",
        "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        "claims": [{"typ": kind, "val": value} for kind, value in told.items()],
    }
    header = base64.b64encode(json.dumps(payload).encode()).decode()
    assert read_principal(header) == Principal(person, Role.CONTRIBUTOR)


def test_the_highest_role_counts(deployed: Api) -> None:
    headers = signed_in(["Viewer", "Administrator", "Contributor"])
    body = {"displayName": "A", "consent": {"agreed": True}}
    reply = deployed.call("POST", "/api/destinations", body, headers=headers)
    assert (reply.status, reply.json["createdBy"]) == (201, "ada@contoso.example")


NEEDED = {
    ("get", "/api/health"): None,
    ("get", "/api/ready"): None,
    ("get", "/api/me"): None,
    ("get", "/api/audit"): Role.ADMINISTRATOR,
    ("get", "/api/segments"): Role.VIEWER,
    ("get", "/api/segments/{name}"): Role.VIEWER,
    ("get", "/api/consent-text"): Role.VIEWER,
    ("get", "/api/destinations"): Role.VIEWER,
    ("post", "/api/destinations"): Role.ADMINISTRATOR,
    ("get", "/api/destinations/{destinationId}"): Role.VIEWER,
    ("patch", "/api/destinations/{destinationId}"): Role.CONTRIBUTOR,
    ("delete", "/api/destinations/{destinationId}"): Role.ADMINISTRATOR,
    ("put", "/api/destinations/{destinationId}/api-key"): Role.ADMINISTRATOR,
    ("put", "/api/destinations/{destinationId}/export-user"): Role.CONTRIBUTOR,
    ("get", "/api/destinations/{destinationId}/readiness"): Role.VIEWER,
    ("post", "/api/destinations/{destinationId}/authorize"): Role.ADMINISTRATOR,
    ("get", "/api/oauth/callback"): None,
    ("get", "/api/destinations/{destinationId}/schedule"): Role.VIEWER,
    ("put", "/api/destinations/{destinationId}/consent"): Role.ADMINISTRATOR,
    ("post", "/api/destinations/{destinationId}/verify"): Role.CONTRIBUTOR,
    ("post", "/api/destinations/{destinationId}/duplicate"): Role.ADMINISTRATOR,
    ("get", "/api/destinations/{destinationId}/audiences"): Role.VIEWER,
    ("get", "/api/destinations/{destinationId}/audiences/{audienceId}"): Role.VIEWER,
    ("post", "/api/destinations/{destinationId}/exports"): Role.CONTRIBUTOR,
    ("post", "/api/exports"): Role.CONTRIBUTOR,
    ("get", "/api/exports"): Role.VIEWER,
    ("get", "/api/exports/{exportId}"): Role.VIEWER,
    ("post", "/api/exports/{exportId}/cancel"): Role.CONTRIBUTOR,
    ("post", "/api/exports/{exportId}/resume"): Role.CONTRIBUTOR,
    ("get", "/api/exports/{exportId}/rejected"): Role.CONTRIBUTOR,
    ("get", "/api/destinations/{destinationId}/suppressed"): Role.CONTRIBUTOR,
    ("post", "/api/destinations/{destinationId}/suppressed/clear"): Role.CONTRIBUTOR,
    ("get", "/api/schedule"): Role.VIEWER,
    ("put", "/api/schedule"): Role.ADMINISTRATOR,
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/api/destinations"): {"displayName": "A", "consent": {"agreed": True}},
    ("patch", "/api/destinations/{destinationId}"): {"segments": ["Gold"]},
    ("put", "/api/destinations/{destinationId}/api-key"): {"apiKey": KEY},
    ("put", "/api/destinations/{destinationId}/consent"): {"agreed": True},
    ("post", "/api/destinations/{destinationId}/duplicate"): {"displayName": "Copy", "consent": {"agreed": True}},
    ("post", "/api/destinations/{destinationId}/suppressed/clear"): {"all": True},
    ("put", "/api/schedule"): {"isActive": False, "timeZone": "UTC", "times": ["00:00"]},
}


def test_the_table_of_roles_names_every_operation(local: Api) -> None:
    document = local.call("GET", "/api/openapi.json").json
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == set(NEEDED)


@pytest.mark.parametrize("operation", [each for each, role in NEEDED.items() if role is not None], ids=" ".join)
def test_each_operation_needs_its_role_and_no_more(deployed: Api, operation: tuple[str, str]) -> None:
    stored = deployed.setup.ready()
    export = deployed.setup.exports.start(stored.destination, trigger="onDemand", requested_by=ADA)
    method, path = operation
    path = path.format(destinationId=stored.destination.id, exportId=export.id, audienceId="aud1", name="Gold")
    needed = NEEDED[operation]
    assert needed is not None
    if (method, path) == ("post", f"/api/destinations/{stored.destination.id}/exports"):
        deployed.setup.exports.end(export.id)
    for role in Role:
        reply = deployed.call(method.upper(), path, BODIES.get(operation), headers=signed_in([role.title]))
        if role < needed:
            assert (reply.status, reply.error["code"]) == (403, "roleMissing")
            assert needed.title in reply.error["message"]
        else:
            assert reply.status < 300 or reply.status == 409, reply.body
            break


@pytest.mark.parametrize("change", [{"audienceId": "aud2"}, {"displayName": "B"}, {"audienceId": None, "segments": []}])
def test_contributors_do_not_decide_where_data_goes(deployed: Api, change: dict[str, Any]) -> None:
    stored = deployed.setup.ready()
    path = f"/api/destinations/{stored.destination.id}"
    reply = deployed.call("PATCH", path, change, headers=signed_in(["Contributor"]))
    assert (reply.status, reply.error["code"]) == (403, "roleMissing")
    assert reply.error["target"] in change
    assert deployed.setup.service.get(stored.destination.id) == stored


def test_contributors_wait_until_a_destination_is_given_to_them(deployed: Api) -> None:
    path = f"/api/destinations/{deployed.setup.created().destination.id}"
    reply = deployed.call("PATCH", path, {"segments": ["Gold"]}, headers=signed_in(["Contributor"]))
    assert (reply.status, reply.error["code"]) == (403, "notShared")


def test_pages_of_other_sites_cannot_use_a_visitors_session(deployed: Api) -> None:
    headers = signed_in(["Administrator"])
    assert deployed.call("POST", "/api/exports", headers=headers | {"Origin": "https://evil.example"}).status == 403
    assert deployed.call("POST", "/api/exports", headers=headers | {"Origin": "http://localhost"}).status == 403
    assert deployed.call("POST", "/api/exports", headers=headers | {"Origin": ORIGIN}).status == 202


def test_a_portal_elsewhere_may_call_with_its_own_token(deployed: Api) -> None:
    headers = signed_in(["Administrator"]) | {"Origin": "https://portal.contoso.example", "Authorization": "Bearer x"}
    assert deployed.call("POST", "/api/exports", headers=headers).status == 202

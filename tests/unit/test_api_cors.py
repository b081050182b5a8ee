"""Pages of portals on other origins: those that are listed may call the API, all others may not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from shared.settings import read_settings
from tests.unit.api_caller import DEPLOYED, LOCAL, Api, Reply, signed_in

PORTAL = "https://portal.contoso.example"
DEV = "http://localhost:3000"
ORIGINS = {"PORTAL_ORIGINS": f"{PORTAL}, {DEV}"}
NOT_LISTED = [
    "https://evil.example",
    "http://portal.contoso.example",
    "https://portal.contoso.example:8443",
    "https://portal.contoso.example.evil.example",
    "https://sub.portal.contoso.example",
    "https://PORTAL.contoso.example",  # browsers write it in lower case
    "https://portal.contoso.example/",
    f"{PORTAL}, https://evil.example",
    "null",
    "*",
    "",
]
ALLOWING = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-headers")


@pytest.fixture
def local() -> Iterator[Api]:
    """On this machine: nobody signs in."""
    api = Api(read_settings(LOCAL | ORIGINS))
    yield api
    api.close()


@pytest.fixture
def signing_in() -> Iterator[Api]:
    """Behind the platform's sign-in, but without the platform's CORS."""
    api = Api(read_settings(LOCAL | ORIGINS | {"WEBSITE_AUTH_ENABLED": "True"}))
    yield api
    api.close()


@pytest.fixture
def deployed() -> Iterator[Api]:
    """In Azure."""
    api = Api(read_settings(DEPLOYED | ORIGINS))
    yield api
    api.close()


def preflight(
    api: Api, origin: str, method: str = "PATCH", path: str = "/api/destinations/d1", **headers: str
) -> Reply:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return api.call("OPTIONS", path, headers=asked | headers)


def assert_allows(headers: Mapping[str, str], origin: str) -> None:
    assert headers["access-control-allow-origin"] == origin
    assert headers["access-control-allow-credentials"] == "true"
    exposed = set(headers["access-control-expose-headers"].split(", "))
    assert exposed == {
        "ETag",
        "Location",
        "Operation-Location",
        "Retry-After",
        "X-Request-Id",
        "Content-Disposition",
    }
    assert "Origin" in headers["vary"]


@pytest.mark.parametrize("origin", [PORTAL, DEV])
@pytest.mark.parametrize("path", ["/api/destinations/d1", "/api/health", "/api/nope"])
def test_a_listed_origin_is_told_what_its_pages_may_send_without_signing_in(
    signing_in: Api, origin: str, path: str
) -> None:
    reply = preflight(signing_in, origin, path=path)
    assert (reply.status, reply.body) == (204, b"")
    assert_allows(reply.headers, origin)
    assert set(reply.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert set(reply.headers["access-control-allow-headers"].split(", ")) == {
        "Authorization",
        "Content-Type",
        "If-Match",
        "Idempotency-Key",
        "traceparent",
    }
    assert int(reply.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("origin", NOT_LISTED)
def test_no_other_origin_is_told_anything(signing_in: Api, origin: str) -> None:
    reply = preflight(signing_in, origin)
    assert reply.status == 401
    assert not set(ALLOWING) & set(reply.headers)


def test_without_the_setting_no_origin_is_listed() -> None:
    api = Api(read_settings(LOCAL))
    reply = api.call("GET", "/api/destinations", headers={"Origin": PORTAL})
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert preflight(api, PORTAL).status == 405
    api.close()


def test_a_plain_options_request_needs_a_sign_in_like_any_other(signing_in: Api) -> None:
    assert signing_in.call("OPTIONS", "/api/destinations", headers={"Origin": PORTAL}).status == 401


def test_the_preflight_changes_nothing_and_reads_nothing(local: Api) -> None:
    stored = local.setup.ready()
    preflight(local, PORTAL, "DELETE", f"/api/destinations/{stored.destination.id}")
    assert local.setup.service.get(stored.destination.id) == stored


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health", 200),
        ("GET", "/api/destinations", 401),
        ("GET", "/api/nope", 401),
        ("POST", "/api/exports", 401),
    ],
)
def test_every_answer_can_be_read_by_the_portal_also_a_refusal(
    signing_in: Api, method: str, path: str, status: int
) -> None:
    reply = signing_in.call(method, path, headers={"Origin": PORTAL})
    assert reply.status == status
    assert_allows(reply.headers, PORTAL)


@pytest.mark.parametrize(
    ("method", "path", "raw", "kind", "status"),
    [
        ("GET", "/api/destinations/none", b"", "application/json", 404),
        ("POST", "/api/destinations", b"{", "application/json", 400),
        ("POST", "/api/destinations", b"{}", "text/plain", 415),
        ("POST", "/api/destinations", b" " * 1_100_000, "application/json", 413),
        ("POST", "/api/destinations", b"{}", "application/json", 422),
        ("PUT", "/api/exports", b"", "application/json", 405),
    ],
)
def test_errors_can_be_read_by_the_portal_too(
    local: Api, method: str, path: str, raw: bytes, kind: str, status: int
) -> None:
    reply = local.call(method, path, raw=raw, headers={"Origin": PORTAL, "Content-Type": kind})
    assert reply.status == status
    assert_allows(reply.headers, PORTAL)


def test_a_defect_can_be_read_by_the_portal_too(local: Api) -> None:
    local.setup.exports.fault = KeyError("x")
    reply = local.call("GET", "/api/exports/e", headers={"Origin": PORTAL})
    assert reply.status == 500
    assert_allows(reply.headers, PORTAL)


@pytest.mark.parametrize("origin", NOT_LISTED)
def test_an_answer_to_any_other_origin_allows_nothing_but_says_that_it_depends(local: Api, origin: str) -> None:
    reply = local.call("GET", "/api/destinations", headers={"Origin": origin})
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert reply.headers["vary"] == "Origin"


def test_an_answer_without_an_origin_depends_on_it_too(local: Api) -> None:
    assert local.call("GET", "/api/destinations").headers["vary"] == "Origin"


# -- changing things ---------------------------------------------------------------------------------------------


def test_a_listed_origin_may_change_things_on_this_machine(local: Api) -> None:
    assert local.call("POST", "/api/exports", headers={"Origin": PORTAL}).status == 202


def test_a_listed_origin_is_answered_on_this_machine_only(local: Api) -> None:
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}):
        assert preflight(local, PORTAL, **headers).status == 403
        assert local.call("POST", "/api/exports", headers={"Origin": PORTAL, **headers}).status == 403


@pytest.mark.parametrize("origin", NOT_LISTED)
def test_a_foreign_page_cannot_change_anything_with_the_visitors_session(
    signing_in: Api, deployed: Api, local: Api, origin: str
) -> None:
    for api in (signing_in, deployed, local):
        headers = signed_in(["Administrator"]) | {"Origin": origin, "Cookie": "AppServiceAuthSession=stolen"}
        reply = api.call("POST", "/api/exports", headers=headers)
        assert (reply.status, reply.error["code"]) == (403, "foreignOrigin")


def test_a_portal_may_use_the_visitors_session(signing_in: Api, deployed: Api) -> None:
    for api in (signing_in, deployed):
        headers = signed_in(["Administrator"]) | {"Origin": PORTAL, "Cookie": "AppServiceAuthSession=own"}
        assert api.call("POST", "/api/exports", headers=headers).status == 202


# -- in Azure ----------------------------------------------------------------------------------------------------


def test_in_azure_the_platform_answers_and_the_app_adds_only_what_the_platform_has_no_setting_for(
    deployed: Api,
) -> None:
    for headers in (signed_in(["Viewer"]), {}):
        reply = deployed.call("GET", "/api/destinations", headers=headers | {"Origin": PORTAL})
        assert [name for name in reply.headers if name.startswith("access-control")] == [
            "access-control-expose-headers"
        ]
        assert "vary" not in reply.headers
    assert "ETag" in reply.headers["access-control-expose-headers"]
    assert preflight(deployed, PORTAL).status == 401, "the platform answers it before the app is asked"


def test_in_azure_other_origins_get_nothing_at_all(deployed: Api) -> None:
    reply = deployed.call(
        "GET", "/api/destinations", headers=signed_in(["Viewer"]) | {"Origin": "https://evil.example"}
    )
    assert not [name for name in reply.headers if name.startswith("access-control")]

"""Who may begin a sign-in to Mailchimp, and where the browser goes afterwards: a page, a portal, the app's sign-in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from dev.sandbox.control import SandboxControl
from shared.destinations.authorization import CALLBACK_PATH
from tests.integration.login_server import TOKEN_PATH, Answer, LoginServer
from tests.integration.sign_in_desk import (
    NAMELESS,
    PORTAL,
    Desk,
    assert_not_connected,
    open_desk,
)
from tests.support import StorageAccount

# -- not signed in to the app -------------------------------------------------------------------------------------


def test_who_is_not_signed_in_gets_a_link_to_sign_in_and_come_back(desk: Desk) -> None:
    returned = desk.returned(desk.created())
    reply = desk.call("GET", returned, who=None)
    assert (reply.status, reply.title) == (401, "Sign in to continue")
    assert "Sign in as the person who started" in reply.sentence
    link = urlsplit(reply.text.partition('href="')[2].partition('"')[0])
    assert (link.scheme, link.netloc, link.path) == ("", "", "/.auth/login/aad")
    back = parse_qs(link.query, strict_parsing=True)["post_login_redirect_uri"]
    assert back == [returned]
    assert desk.call("GET", back[0]).status == 200


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("state=a&code=b", "evil.example"),
        ("//evil.example", "127.0.0.1"),
        ('"><script>alert(1)</script>', "127.0.0.1"),
        ("a=%22%3E%3Cscript%3E&b=ü", "127.0.0.1"),
        ("x" * 5000, "127.0.0.1"),
    ],
)
def test_the_way_back_after_the_sign_in_is_our_own_address_whatever_is_asked(desk: Desk, query: str, host: str) -> None:
    reply = desk.call("GET", f"{CALLBACK_PATH}?{query}", who=None, headers={"Host": host, "X-Forwarded-Host": host})
    assert reply.status == 401
    assert "<script" not in reply.text
    assert len(reply.body) < 20_000
    link = reply.text.partition('href="')[2].partition('"')[0]
    address = unquote(link.partition("post_login_redirect_uri=")[2])
    assert address == CALLBACK_PATH or address.startswith(f"{CALLBACK_PATH}?")
    assert link.startswith("/.auth/login/aad?")


def test_programs_that_are_not_signed_in_still_get_json(desk: Desk) -> None:
    reply = desk.call("POST", f"/api/destinations/{desk.created()}/authorize", who=None)
    assert (reply.status, reply.json["error"]["code"]) == (401, "signInRequired")


# -- beginning ----------------------------------------------------------------------------------------------------


def test_only_administrators_begin_a_sign_in(desk: Desk) -> None:
    path = f"/api/destinations/{desk.created()}/authorize"
    for role in ("Viewer", "Contributor"):
        reply = desk.call("POST", path, roles=(role,))
        assert (reply.status, reply.json["error"]["code"]) == (403, "roleMissing")
    assert desk.authorizations() == {}


def test_somebody_without_an_object_id_cannot_begin_and_is_told_why(desk: Desk) -> None:
    reply = desk.call("POST", f"/api/destinations/{desk.created()}/authorize", who=NAMELESS)
    assert (reply.status, reply.json["error"]["code"]) == (403, "personUnknown")
    assert "object ID" in reply.json["error"]["message"]
    assert desk.authorizations() == {}


def test_a_destination_that_is_not_there_cannot_be_signed_in(desk: Desk) -> None:
    assert desk.call("POST", "/api/destinations/nowhere/authorize").status == 404


def test_without_an_oauth_application_the_settings_and_the_api_key_are_named(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    desk = open_desk(storage_account.connection_string, sandbox, MAILCHIMP_CLIENT_ID="", MAILCHIMP_CLIENT_SECRET="")
    reply = desk.call("POST", f"/api/destinations/{desk.created()}/authorize")
    assert (reply.status, reply.json["error"]["code"]) == (409, "oauthNotConfigured")
    for words in ("MAILCHIMP_CLIENT_ID", "MAILCHIMP_CLIENT_SECRET", "API key"):
        assert words in reply.json["error"]["message"]
    state = "x" * 43
    assert desk.call("GET", f"{CALLBACK_PATH}?state={state}&code=abc").status == 400


def test_an_application_that_was_taken_out_of_the_settings_meanwhile_is_named(
    desk: Desk, storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    returned = desk.returned(desk.created())
    without = open_desk(storage_account.connection_string, sandbox, MAILCHIMP_CLIENT_ID="", MAILCHIMP_CLIENT_SECRET="")
    assert_not_connected(without.call("GET", returned), 409, "MAILCHIMP_CLIENT_ID")
    assert desk.call("GET", returned).status == 200


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/",
        "http://portal.contoso.example/",
        "https://portal.contoso.example.evil.example/",
        "https://portal.contoso.example@evil.example/",
        "https://portal.contoso.example\\@evil.example/",
        "https://portal.contoso.example:8443/",
        "https://evil.example/https://portal.contoso.example",
        "//portal.contoso.example/",
        "/relative",
        "javascript:alert(1)//https://portal.contoso.example",
        "https://portal.contoso.example/a b",
        "https://portal.contoso.example/\r\nSet-Cookie: a=1",
        "https://portal.contoso.example/ü",
        "",
        "x" * 3000,
        7,
    ],
    ids=str,
)
def test_a_sign_in_returns_to_portals_of_this_app_only(desk: Desk, return_to: Any) -> None:
    path = f"/api/destinations/{desk.created()}/authorize"
    reply = desk.call("POST", path, {"returnTo": return_to})
    assert reply.status == 422
    assert reply.json["error"]["target"] == "returnTo"
    assert desk.authorizations() == {}


def test_unknown_properties_are_refused(desk: Desk) -> None:
    reply = desk.call("POST", f"/api/destinations/{desk.created()}/authorize", {"returnto": PORTAL})
    assert reply.status == 422


# -- back to a portal ---------------------------------------------------------------------------------------------


def test_a_portal_is_told_that_it_worked(desk: Desk) -> None:
    destination_id = desk.created()
    reply = desk.call("GET", desk.returned(destination_id, f"{PORTAL}/destinations/1?tab=mailchimp#sign-in"))
    assert reply.status == 303
    assert reply.headers["location"].endswith("#sign-in")
    address, query = reply.location
    assert address == f"{PORTAL}/destinations/1"
    assert query == {"tab": "mailchimp", "mailchimp": "connected", "destinationId": destination_id}
    assert desk.sign_in_state(destination_id) == "connected"


def test_a_portal_is_told_what_went_wrong(disturbed: Desk, login: LoginServer) -> None:
    destination_id = disturbed.created()

    def told(path: str, **more: Any) -> dict[str, str]:
        reply = disturbed.call("GET", path, **more)
        assert reply.status == 303, reply.body
        address, query = reply.location
        assert (address, query.pop("mailchimp"), query.pop("destinationId")) == (PORTAL, "failed", destination_id)
        return query

    denied = disturbed.returned(destination_id, PORTAL, decision="deny")
    assert told(denied) == {"code": "authorizationDenied"}
    assert told(denied) == {"code": "authorizationUsed"}
    late = disturbed.returned(destination_id, PORTAL)
    assert told(late, roles=("Viewer",)) == {"code": "roleMissing"}
    disturbed.clock.pass_(minutes=11)
    assert told(late) == {"code": "authorizationExpired"}
    returned = disturbed.returned(destination_id, PORTAL)
    login.instead[TOKEN_PATH] = Answer(503)
    assert told(returned) == {"code": "mailchimpUnavailable"}
    login.instead[TOKEN_PATH] = Answer(400, {"error": "invalid_client"})
    assert told(returned) == {"code": "signInNotConfigured"}


def test_what_an_earlier_sign_in_left_in_the_portals_address_is_replaced(desk: Desk) -> None:
    destination_id = desk.created()
    return_to = f"{PORTAL}/?mailchimp=failed&code=authorizationDenied&destinationId=1&a=%20b&mailchimpx=1"
    address, query = desk.call("GET", desk.returned(destination_id, return_to)).location
    assert address == f"{PORTAL}/"
    assert query == {"a": " b", "mailchimpx": "1", "mailchimp": "connected", "destinationId": destination_id}

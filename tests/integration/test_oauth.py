"""Signing in to Mailchimp with OAuth 2: from the call that begins it, over the sandbox's pages, to the page at its end."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from dev.sandbox.control import CLIENT_ID, SandboxControl
from shared.destinations.authorization import CALLBACK_PATH, LIFETIME, Authorizations
from shared.mailchimp import OAuthApp, OAuthProvider
from shared.storage import names
from tests.integration.engine import AUDIENCE, people
from tests.integration.login_server import METADATA_PATH, TOKEN_PATH, Answer, LoginServer, start_login_server
from tests.integration.sign_in_desk import (
    ADA,
    EVE,
    NAMELESS,
    PORTAL,
    Desk,
    Reply,
    consent,
    open_desk,
    parameter,
    path_of,
)
from tests.support import StorageAccount

CONNECTED = "Connected to Mailchimp"
NOT_CONNECTED = "Not connected to Mailchimp"


@pytest.fixture
def desk(storage_account: StorageAccount, sandbox: SandboxControl) -> Desk:
    return open_desk(storage_account.connection_string, sandbox)


@pytest.fixture
def login(sandbox: SandboxControl) -> Iterator[LoginServer]:
    """Mailchimp's sign-in host, which a test may disturb."""
    with start_login_server(sandbox.address) as server:
        yield server


@pytest.fixture
def disturbed(storage_account: StorageAccount, sandbox: SandboxControl, login: LoginServer) -> Desk:
    """A desk whose Mailchimp sign-in goes through ``login``."""
    return open_desk(storage_account.connection_string, sandbox, MAILCHIMP_LOGIN_URL=login.address)


def assert_not_connected(reply: Reply, status: int, words: str) -> None:
    assert (reply.status, reply.title) == (status, NOT_CONNECTED), reply.body
    assert words in reply.sentence


# -- the whole way -----------------------------------------------------------------------------------------------


def test_a_sign_in_from_the_first_call_to_an_export_with_its_token(desk: Desk) -> None:
    desk.engine.write_segment("Readers", people(3))
    destination_id = desk.created()
    page = desk.signed_in(destination_id)
    assert (page.status, page.title) == (200, CONNECTED)
    assert page.sentence == "Connected to Mailchimp as Sandbox Co, you can close this window."

    path = f"/api/destinations/{destination_id}"
    sign_in = desk.destination(destination_id)["signIn"]
    assert (sign_in["state"], sign_in["method"], sign_in["role"]) == ("connected", "oauth", "owner")
    assert (sign_in["accountName"], sign_in["connectedBy"]) == ("Sandbox Co", ADA.name)
    assert sign_in["secretHint"] is None
    (token,) = desk.tokens()
    (secret,) = desk.secrets()
    assert desk.product.secrets.read(secret) == token

    assert desk.call("PUT", f"{path}/export-user").status == 200
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    ready = desk.call("PATCH", path, {"audienceId": AUDIENCE, "dataMatching": matching, "segments": ["Readers"]})
    assert ready.json["missingSteps"] == []
    export = desk.call("POST", f"{path}/exports").json
    ended = desk.engine.work_until_ended(export["id"])
    assert ended.status == "Successful"
    assert desk.engine.everybody_arrived(3)


def test_the_person_goes_to_mailchimp_with_the_registered_address_and_has_ten_minutes(desk: Desk) -> None:
    reply = desk.call("POST", f"/api/destinations/{desk.created()}/authorize")
    address = reply.json["authorizeUrl"]
    assert address.startswith(f"{desk.sandbox.address}/oauth2/authorize?")
    assert parameter(address, "client_id") == CLIENT_ID
    assert parameter(address, "redirect_uri") == f"http://127.0.0.1:7071{CALLBACK_PATH}"
    left = datetime.fromisoformat(reply.json["expiresAt"]) - desk.clock()
    assert timedelta(minutes=9, seconds=30) < left <= LIFETIME == timedelta(minutes=10)


def test_a_state_is_random_and_only_its_hash_is_stored_with_who_and_what_it_is_for(desk: Desk) -> None:
    destination_id = desk.created()
    return_to = f"{PORTAL}/destinations/1"
    states = {parameter(desk.authorize(destination_id, return_to), "state") for _ in range(3)}
    assert len(states) == 3
    assert all(len(base64.urlsafe_b64decode(state + "=")) >= 32 for state in states)
    stored = desk.authorizations()
    assert set(stored) == {names.authorization(state) for state in states}
    for document in stored.values():
        assert document["who"] == {"id": ADA.id, "name": ADA.name}
        assert (document["destinationId"], document["returnTo"]) == (destination_id, return_to)
        assert document["stage"] == "open"
        assert document["createdAt"]
    everything = b"".join(desk.state_blobs().values()) + "".join(desk.state_blobs()).encode()
    assert not [state for state in states if state.encode() in everything]


def test_the_page_needs_no_script_and_shows_nothing_from_elsewhere(desk: Desk) -> None:
    account = desk.sandbox.add_account('<script>alert(1)</script> & "Co"')
    page = desk.signed_in(desk.created(), account=account["id"])
    assert page.status == 200
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Co&quot;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"


# -- cases that end without a connection -------------------------------------------------------------------------


def test_who_denies_the_access_is_told_and_may_begin_again(desk: Desk) -> None:
    destination_id = desk.created()
    denied = desk.returned(destination_id, decision="deny")
    assert_not_connected(desk.call("GET", denied), 400, "You did not allow the access at Mailchimp")
    assert desk.sign_in_state(destination_id) == "notConnected"
    assert_not_connected(desk.call("GET", denied), 409, "works only once")
    assert desk.signed_in(destination_id).status == 200


def test_a_state_expires_after_ten_minutes(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    desk.clock.pass_(minutes=10)
    assert_not_connected(desk.call("GET", returned), 400, "has expired")
    assert desk.sign_in_state(destination_id) == "notConnected"
    assert desk.tokens() == set()


def test_a_state_is_good_until_ten_minutes_have_passed(desk: Desk) -> None:
    returned = desk.returned(desk.created())
    desk.clock.pass_(minutes=9, seconds=30)
    assert desk.call("GET", returned).status == 200


def test_a_state_works_once(desk: Desk) -> None:
    destination_id = desk.created()
    address = desk.authorize(destination_id)
    first, second = path_of(consent(address)), path_of(consent(address))
    assert desk.call("GET", first).status == 200
    before = desk.destination(destination_id)
    for again in (first, second):  # the same code, and another one that Mailchimp would take
        assert_not_connected(desk.call("GET", again), 409, "was completed before and works only once")
    assert desk.destination(destination_id) == before
    assert len(desk.tokens()) == 1


def test_a_state_that_nobody_began_is_not_known(desk: Desk) -> None:
    code = parameter(desk.returned(desk.created()), "code")
    reply = desk.call("GET", f"{CALLBACK_PATH}?code={code}&state={'x' * 43}")
    assert_not_connected(reply, 400, "is not known here")
    assert desk.tokens() == set()


def test_the_state_of_another_person_is_refused_and_left_to_that_person(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    before = desk.authorizations()
    for other in (EVE, NAMELESS):
        assert_not_connected(desk.call("GET", returned, who=other), 403, "Somebody else began this sign-in")
    assert desk.authorizations() == before
    assert desk.tokens() == set()
    assert desk.call("GET", returned).status == 200


def test_nobody_is_sent_to_a_portal_with_somebody_elses_state(desk: Desk) -> None:
    returned = desk.returned(desk.created(), f"{PORTAL}/back")
    assert desk.call("GET", returned, who=EVE).status == 403


def test_the_name_of_a_person_may_change_on_the_way(desk: Desk) -> None:
    renamed = ADA.model_copy(update={"name": "ada.lovelace@contoso.example"})
    assert desk.call("GET", desk.returned(desk.created()), who=renamed).status == 200


def test_a_role_that_was_taken_away_in_the_meantime_is_missed(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    for roles in (("Contributor",), ("Viewer",), ()):
        assert_not_connected(desk.call("GET", returned, roles=roles), 403, "needs the role Administrator")
    assert desk.sign_in_state(destination_id) == "notConnected"
    assert desk.call("GET", returned).status == 200  # given back in time


def test_a_redirect_address_that_is_not_registered_is_shown_by_mailchimp_itself(desk: Desk) -> None:
    desk.sandbox.set_redirect_uris("https://elsewhere.example/api/oauth/callback")
    with pytest.raises(AssertionError, match="redirect_uri"):
        consent(desk.authorize(desk.created()))


@pytest.mark.parametrize("error", ["redirect_uri_mismatch", "invalid_client", "unauthorized_client"])
def test_an_app_that_mailchimp_does_not_know_is_something_for_whoever_runs_it(
    disturbed: Desk, login: LoginServer, error: str
) -> None:
    returned = disturbed.returned(disturbed.created())
    login.instead[TOKEN_PATH] = Answer(400, {"error": error, "error_description": "no such app"})
    reply = disturbed.call("GET", returned)
    assert_not_connected(reply, 502, "Mailchimp does not know this app")
    assert "MAILCHIMP_CLIENT_ID, MAILCHIMP_CLIENT_SECRET and the redirect address" in reply.sentence


def test_a_wrong_client_secret_is_something_for_whoever_runs_the_app(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    desk = open_desk(storage_account.connection_string, sandbox, MAILCHIMP_CLIENT_SECRET="another-secret")
    reply = desk.signed_in(desk.created())
    assert_not_connected(reply, 502, "MAILCHIMP_CLIENT_SECRET")
    assert "another-secret" not in reply.text


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("unauthorized_client", 502, "Mailchimp does not know this app"),
        ("invalid_scope", 502, "Mailchimp ended the sign-in with an error"),
        ("something else", 502, "Mailchimp ended the sign-in with an error"),
    ],
)
def test_errors_that_mailchimp_sends_back_are_told_apart(desk: Desk, error: str, status: int, words: str) -> None:
    state = parameter(desk.authorize(desk.created()), "state")
    query = f"state={state}&error={error.replace(' ', '%20')}&error_description=<b>Call+0800</b>"
    reply = desk.call("GET", f"{CALLBACK_PATH}?{query}")
    assert_not_connected(reply, status, words)
    assert "0800" not in reply.text
    assert desk.call("GET", f"{CALLBACK_PATH}?{query}").status == 409


def test_an_outage_that_mailchimp_sends_back_leaves_the_state_usable(desk: Desk) -> None:
    address = desk.authorize(desk.created())
    query = f"state={parameter(address, 'state')}&error=temporarily_unavailable"
    assert_not_connected(desk.call("GET", f"{CALLBACK_PATH}?{query}"), 503, "out of order")
    assert desk.call("GET", path_of(consent(address))).status == 200


def test_a_code_that_was_used_or_has_expired_asks_for_a_new_sign_in(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    app = OAuthApp(desk.sandbox.address, CLIENT_ID, "sandbox-secret", f"http://127.0.0.1:7071{CALLBACK_PATH}")
    OAuthProvider(app).token(parameter(returned, "code"))
    reply = desk.call("GET", returned)
    assert_not_connected(reply, 400, "Start the sign-in to Mailchimp again")
    assert_not_connected(desk.call("GET", returned), 409, "works only once")
    assert desk.sign_in_state(destination_id) == "notConnected"


def test_a_destination_that_was_removed_in_the_meantime_takes_no_token(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    assert desk.call("DELETE", f"/api/destinations/{destination_id}").status < 300
    assert_not_connected(desk.call("GET", returned), 409, "The destination was removed in the meantime")
    assert desk.tokens() == set()
    assert desk.secrets() == set()


def test_a_destination_that_is_removed_while_mailchimp_is_asked_leaves_no_secret(
    disturbed: Desk, login: LoginServer
) -> None:
    destination_id = disturbed.created()
    returned = disturbed.returned(destination_id)

    def remove(path: str) -> None:
        if path == METADATA_PATH:
            disturbed.call("DELETE", f"/api/destinations/{destination_id}")

    login.before = remove
    assert_not_connected(disturbed.call("GET", returned), 409, "The destination was removed in the meantime")
    assert disturbed.secrets() == set()


def test_a_withdrawn_consent_is_no_obstacle_to_signing_in(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    assert desk.call("PUT", f"/api/destinations/{destination_id}/consent", {"agreed": False}).status == 200
    assert desk.call("GET", returned).status == 200
    assert desk.sign_in_state(destination_id) == "connected"


# -- Mailchimp down, slow, or not itself -------------------------------------------------------------------------

HTML = Answer(200, "<html><h1>We'll be right back</h1></html>", "text/html")
OUTAGES: list[Any] = [
    Answer(503),
    Answer(500, {"title": "Internal Server Error"}),
    Answer(429),
    Answer(403, "<html>Access Denied</html>", "text/html"),
    HTML,
    Answer(200, {"unexpected": True}),
    Answer(200, "[" * 50_000),
    Answer(302, ""),
    "reset",
]


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
@pytest.mark.parametrize("path", [TOKEN_PATH, METADATA_PATH])
def test_when_mailchimp_is_out_of_order_the_page_may_be_reloaded(
    disturbed: Desk, login: LoginServer, path: str, outage: Any
) -> None:
    destination_id = disturbed.created()
    returned = disturbed.returned(destination_id)
    login.instead[path] = outage
    for _ in range(2):
        reply = disturbed.call("GET", returned)
        assert_not_connected(reply, 503, "Reload this page in a moment")
        assert int(reply.headers["retry-after"]) > 0
    assert disturbed.sign_in_state(destination_id) == "notConnected"
    del login.instead[path]
    assert disturbed.call("GET", returned).status == 200
    assert login.asked.count(TOKEN_PATH) == (3 if path == TOKEN_PATH else 1), "a code works once: its token was kept"
    assert len(disturbed.secrets()) == 1, "the token that was kept meanwhile is deleted"


def test_reloading_works_until_the_state_expires(disturbed: Desk, login: LoginServer) -> None:
    returned = disturbed.returned(disturbed.created())
    login.instead[METADATA_PATH] = Answer(503)
    assert disturbed.call("GET", returned).status == 503
    disturbed.clock.pass_(minutes=10)
    assert_not_connected(disturbed.call("GET", returned), 400, "has expired")
    assert disturbed.product.authorizations.delete_expired() == 1
    assert (disturbed.authorizations(), disturbed.secrets()) == ({}, set())


def test_nothing_listens_at_mailchimps_address(storage_account: StorageAccount, sandbox: SandboxControl) -> None:
    desk = open_desk(storage_account.connection_string, sandbox)
    returned = desk.returned(desk.created())
    dark = open_desk(storage_account.connection_string, sandbox, MAILCHIMP_LOGIN_URL="http://127.0.0.1:9")
    assert_not_connected(dark.call("GET", returned), 503, "Reload this page")
    assert desk.call("GET", returned).status == 200


@pytest.mark.parametrize("path", [TOKEN_PATH, METADATA_PATH])
def test_a_sign_in_that_hangs_is_given_up(disturbed: Desk, login: LoginServer, path: str) -> None:
    product = disturbed.product
    app = OAuthApp(login.address, CLIENT_ID, "sandbox-secret", f"http://127.0.0.1:7071{CALLBACK_PATH}")
    product.authorizations = Authorizations(
        product.documents,
        product.destination_store,
        product.connections,
        product.secrets,
        OAuthProvider(app, disturbed.sandbox.address, read_timeout_s=0.5),
        portal_origins=(),
        clock=disturbed.clock,
        new_id=iter(f"id{n:06}" for n in range(100)).__next__,
    )
    returned = disturbed.returned(disturbed.created())
    login.instead[path] = "hang"
    assert_not_connected(disturbed.call("GET", returned), 503, "did not answer in time")
    del login.instead[path]
    assert disturbed.call("GET", returned).status == 200


def test_an_api_that_is_down_after_the_token_was_got_is_asked_again_on_reload(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    desk.sandbox.set_faults({"action": "bare", "status": 503, "match": {"pathPattern": "^/3.0/$"}})
    assert_not_connected(desk.call("GET", returned), 503, "Reload this page")
    assert desk.sign_in_state(destination_id) == "notConnected"
    desk.sandbox.clear_faults()
    assert desk.call("GET", returned).status == 200
    assert len(desk.tokens()) == len(desk.secrets()) == 1


def test_a_new_code_counts_more_than_the_token_that_was_kept_for_the_old_one(desk: Desk) -> None:
    other = desk.sandbox.add_account("Another Co")
    destination_id = desk.created()
    address = desk.authorize(destination_id)
    desk.sandbox.set_faults({"action": "bare", "status": 503, "match": {"pathPattern": "^/3.0/$"}})
    assert desk.call("GET", path_of(consent(address))).status == 503
    desk.sandbox.clear_faults()
    page = desk.call("GET", path_of(consent(address, account=other["id"])))  # went back, and chose again
    assert page.sentence == "Connected to Mailchimp as Another Co, you can close this window."
    assert len(desk.secrets()) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.example",
        "http://us1.api.mailchimp.com",
        "https://us1.api.mailchimp.com.evil.example",
        "https://us1.api.mailchimp.com@evil.example",
        "https://us1.api.mailchimp.com/../evil",
        "https://169.254.169.254",
        "http://127.0.0.1:8085",
    ],
)
def test_an_api_address_that_is_not_mailchimps_is_given_no_token(
    storage_account: StorageAccount, sandbox: SandboxControl, login: LoginServer, endpoint: str
) -> None:
    desk = open_desk(
        storage_account.connection_string, sandbox, MAILCHIMP_LOGIN_URL=login.address, MAILCHIMP_API_URL=""
    )
    destination_id = desk.created()
    login.change = lambda path, found: found | ({"api_endpoint": endpoint} if path == METADATA_PATH else {})
    returned = desk.returned(destination_id)
    calls = len(sandbox.calls())
    reply = desk.call("GET", returned)
    assert_not_connected(reply, 502, "not one of Mailchimp's")
    assert endpoint not in reply.text
    assert len(sandbox.calls()) == calls
    assert desk.secrets() == set()
    assert_not_connected(desk.call("GET", returned), 409, "works only once")


@pytest.mark.parametrize("missing", ["dc", "api_endpoint"])
def test_metadata_that_is_not_complete_connects_nothing(disturbed: Desk, login: LoginServer, missing: str) -> None:
    destination_id = disturbed.created()
    login.change = lambda _, found: {name: value for name, value in found.items() if name != missing}
    assert_not_connected(disturbed.signed_in(destination_id), 503, "not complete")
    assert disturbed.sign_in_state(destination_id) == "notConnected"


def test_a_token_that_mailchimp_takes_back_at_once_connects_nothing(disturbed: Desk, login: LoginServer) -> None:
    destination_id = disturbed.created()
    login.instead[METADATA_PATH] = Answer(200, {"error": "invalid_token", "error_description": "revoked"})
    assert_not_connected(disturbed.signed_in(destination_id), 400, "Mailchimp did not complete the sign-in")
    assert disturbed.secrets() == set()


def test_an_account_that_mailchimp_has_deactivated_is_named_as_the_reason(desk: Desk) -> None:
    destination_id = desk.created()
    desk.sandbox.set_faults({"action": "problem", "preset": "userDisabled", "match": {"pathPattern": "^/3.0/$"}})
    assert_not_connected(desk.signed_in(destination_id), 409, "Nothing was stored")
    assert desk.secrets() == set()


# -- at once -----------------------------------------------------------------------------------------------------


def test_of_two_callbacks_at_once_one_connects(disturbed: Desk, login: LoginServer) -> None:
    destination_id = disturbed.created()
    address = disturbed.authorize(destination_id)
    paths = [path_of(consent(address)) for _ in range(4)]
    barrier = Barrier(len(paths))
    disturbed.call("GET", "/api/health")

    def come_back(path: str) -> Reply:
        barrier.wait(30)
        return disturbed.call("GET", path)

    with ThreadPoolExecutor(len(paths)) as pool:
        replies = list(pool.map(come_back, paths))
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    assert login.asked.count(TOKEN_PATH) == 1
    assert len(disturbed.secrets()) == 1


def test_who_comes_while_another_window_is_at_it_is_told_so(disturbed: Desk, login: LoginServer) -> None:
    returned = disturbed.returned(disturbed.created())
    seen: list[Reply] = []

    def meanwhile(path: str) -> None:
        if path == TOKEN_PATH and not seen:
            seen.append(disturbed.call("GET", returned))

    login.before = meanwhile
    assert disturbed.call("GET", returned).status == 200
    assert_not_connected(seen[0], 409, "is being completed at this moment")


# -- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=abc",
        "state={state}",
        "state=&code=abc",
        "state={state}&code=",
        "state={state}&error=",
        "state={state}&code=abc&error=access_denied",
        "state={state}&state={state}&code=abc",
        "state={state}&state=other&code=abc",
        "state={state},{state}&code=abc",  # as the Functions host joins them
        "state={state}&code=abc&code=def",
        "state={state}&code=abc,def",
        "state={state}&error=access_denied&error=access_denied",
        "state={state}%00&code=abc",
        "state={state}%0d%0aSet-Cookie:a&code=abc",
        "state=../destinations/1&code=abc",
        "state={state}&code=a%20b",
        "state={state}&code=%ff%fe",
        "state={state}&code=" + "x" * 513,
        "state=" + "x" * 129 + "&code=abc",
        "state={state}&code=abc&more=" + "x" * 9000,
        "state={state}&error=" + "x" * 101,
        "&".join(f"p{n}=1" for n in range(2000)),
    ],
    ids=lambda query: query[:60] or "nothing",
)
def test_parameters_that_mailchimp_would_not_send_are_refused_and_use_nothing_up(desk: Desk, query: str) -> None:
    address = desk.authorize(desk.created())
    state = parameter(address, "state")
    reply = desk.call("GET", f"{CALLBACK_PATH}?{query.replace('{state}', state)}")
    assert_not_connected(reply, 400, "is not as Mailchimp makes it")
    assert desk.call("GET", path_of(consent(address))).status == 200


def test_the_callback_is_for_browsers_that_come_back_only(desk: Desk) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert desk.call(method, f"{CALLBACK_PATH}?code=a&state=b").status == 405


# -- not signed in to the app ------------------------------------------------------------------------------------


def test_who_is_not_signed_in_gets_a_link_to_sign_in_and_come_back(desk: Desk) -> None:
    returned = desk.returned(desk.created())
    reply = desk.call("GET", returned, who=None)
    assert (reply.status, reply.title) == (401, "Sign in to continue")
    assert "Sign in as the person who began" in reply.sentence
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


# -- beginning ---------------------------------------------------------------------------------------------------


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


# -- back to a portal --------------------------------------------------------------------------------------------


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


# -- what is kept, and for how long ------------------------------------------------------------------------------


def test_signing_in_again_keeps_everything_else_of_the_destination(desk: Desk) -> None:
    desk.engine.write_segment("Readers", people(2))
    destination_id = desk.created()
    desk.signed_in(destination_id)
    path = f"/api/destinations/{destination_id}"
    changes = {
        "audienceId": AUDIENCE,
        "dataMatching": {"email": "EMail"},
        "segments": ["Readers"],
        "memberStatus": "transactional",
        "contributors": [{"id": EVE.id, "name": EVE.name}],
    }
    desk.call("PATCH", path, changes)
    desk.call("PUT", f"{path}/export-user")
    before = desk.destination(destination_id)
    (old,) = desk.secrets()
    assert desk.signed_in(destination_id).status == 200
    after = desk.destination(destination_id)
    for name in ("signIn", "updatedAt"):
        assert before.pop(name) != after.pop(name)
    assert after == before
    (new,) = desk.secrets()
    assert new != old


def test_signing_in_to_another_account_gives_up_the_audience_and_says_so(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    desk.call("PATCH", f"/api/destinations/{destination_id}", {"audienceId": AUDIENCE})
    other = desk.sandbox.add_account("Another Co")
    page = desk.signed_in(destination_id, account=other["id"])
    assert page.sentence == "Connected to Mailchimp as Another Co, you can close this window."
    after = desk.destination(destination_id)
    assert after["audience"] is None
    assert [warning["code"] for warning in after["warnings"]] == ["accountChanged"]


def test_a_failed_sign_in_leaves_the_one_that_there_was(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    before, secrets = desk.destination(destination_id), desk.secrets()
    desk.signed_in(destination_id, decision="deny")
    desk.sandbox.set_faults({"action": "problem", "preset": "apiKeyInvalid", "match": {"pathPattern": "^/3.0/$"}})
    desk.signed_in(destination_id)
    assert (desk.destination(destination_id), desk.secrets()) == (before, secrets)


def test_the_daily_timer_deletes_sign_ins_that_cannot_be_completed_any_more(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    desk.authorize(destination_id)
    desk.clock.pass_(minutes=5)
    young = parameter(desk.authorize(destination_id), "state")
    assert desk.product.authorizations.delete_expired() == 0
    desk.clock.pass_(minutes=5)
    assert desk.product.authorizations.delete_expired() == 2
    assert set(desk.authorizations()) == {names.authorization(young)}
    assert desk.sign_in_state(destination_id) == "connected"


# -- verify ------------------------------------------------------------------------------------------------------


def test_verify_says_as_whom_and_where_the_destination_is_signed_in(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    found = desk.call("POST", f"/api/destinations/{destination_id}/verify").json
    assert (found["accountName"], found["role"], found["plan"]) == ("Sandbox Co", "owner", "monthly")
    assert found["accountId"] == desk.destination(destination_id)["signIn"]["accountId"]
    assert found["dataCentre"] == "127.0.0.1"  # that of Mailchimp's addresses: test_connections
    assert found["contacts"] == 0


def test_a_sign_in_that_mailchimp_refuses_needs_authentication_which_a_new_sign_in_ends(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    path = f"/api/destinations/{destination_id}"
    desk.call("PATCH", path, {"audienceId": AUDIENCE})
    (token,) = desk.tokens()
    desk.sandbox.revoke(token)
    refused = desk.call("POST", f"{path}/verify")
    assert (refused.status, refused.json["error"]["code"]) == (409, "notConnected")
    marked = desk.destination(destination_id)
    assert marked["signIn"]["state"] == "needsAuthentication"
    assert "Mailchimp does not accept the sign-in" in marked["signIn"]["problem"]
    assert "sign in to Mailchimp again" in marked["missingSteps"]

    assert desk.signed_in(destination_id).status == 200
    again = desk.destination(destination_id)
    assert (again["signIn"]["state"], again["signIn"]["problem"]) == ("connected", None)
    assert again["audience"] == marked["audience"]
    assert desk.call("POST", f"{path}/verify").status == 200


def test_an_outage_does_not_spoil_a_sign_in_that_is_verified(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    desk.sandbox.set_faults({"action": "bare", "status": 503, "match": {"pathPattern": "^/3.0/$"}})
    assert desk.call("POST", f"/api/destinations/{destination_id}/verify").status == 503
    assert desk.sign_in_state(destination_id) == "connected"


def test_a_secret_that_somebody_deleted_needs_authentication_and_its_name_stays_hidden(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    (secret,) = desk.secrets()
    desk.product.documents.delete(f"secrets/{secret}")  # by hand: the app knows nothing of it
    reply = desk.call("POST", f"/api/destinations/{destination_id}/verify")
    assert (reply.status, reply.json["error"]["code"]) == (409, "notConnected")
    sign_in = desk.destination(destination_id)["signIn"]
    assert sign_in["state"] == "needsAuthentication"
    assert "no longer in the secret store" in sign_in["problem"]
    assert secret not in str(desk.destination(destination_id))
    assert desk.signed_in(destination_id).status == 200
    assert desk.sign_in_state(destination_id) == "connected"


def test_an_export_whose_secret_was_deleted_fails_and_needs_authentication(desk: Desk) -> None:
    desk.engine.write_segment("Readers", people(2))
    destination_id = desk.created()
    desk.signed_in(destination_id)
    path = f"/api/destinations/{destination_id}"
    desk.call("PUT", f"{path}/export-user")
    desk.call("PATCH", path, {"audienceId": AUDIENCE, "dataMatching": {"email": "EMail"}, "segments": ["Readers"]})
    (secret,) = desk.secrets()
    desk.product.secrets.delete(secret)
    export = desk.call("POST", f"{path}/exports").json
    ended = desk.engine.work_until_ended(export["id"])
    assert ended.status == "Failed"
    assert ended.problem is not None
    assert ended.problem.code == "signInRefused"
    assert desk.sign_in_state(destination_id) == "needsAuthentication"


# -- nothing leaks -----------------------------------------------------------------------------------------------


def test_neither_code_nor_state_nor_token_is_in_logs_answers_or_documents(
    disturbed: Desk, login: LoginServer, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("", "azure", "segments_to_mailchimp"):
        caplog.set_level(logging.DEBUG, logger)
    destination_id = disturbed.created()
    address = disturbed.authorize(destination_id)
    caplog.clear()  # what the test's own browser logs is not the app's
    state = parameter(address, "state")
    returned = path_of(consent(address))
    caplog.clear()
    replies = [disturbed.call("GET", returned, who=EVE)]
    login.instead[METADATA_PATH] = Answer(503)
    replies.append(disturbed.call("GET", returned))
    del login.instead[METADATA_PATH]
    replies += [disturbed.call("GET", returned) for _ in range(2)]
    replies.append(disturbed.call("GET", f"/api/destinations/{destination_id}"))
    assert [reply.status for reply in replies] == [403, 503, 200, 409, 200]
    (token,) = disturbed.tokens()
    documents = b"".join(disturbed.state_blobs().values()).decode("latin-1")
    audit = disturbed.product._audit_documents
    records = b"".join(audit.container.download_blob(name).readall() for name in audit.container.list_blob_names())
    assert b"destination.connected" in records
    texts = {
        "logs": caplog.text + "".join(str(vars(record)) for record in caplog.records),
        "answers": "".join(reply.text + str(reply.headers) for reply in replies),
        "documents": documents,
        "audit": records.decode(),
    }
    assert '"authorization.ended"' in texts["logs"]
    for secret in (state, parameter(returned, "code"), token, "sandbox-secret"):
        assert [where for where, text in texts.items() if secret in text] == []

"""Signing in to Mailchimp with OAuth 2, from the first call over the sandbox's pages to the page at its end."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Barrier

import pytest

from dev.sandbox.control import CLIENT_ID, SandboxControl
from shared.destinations.authorization import CALLBACK_PATH, LIFETIME
from shared.mailchimp import OAuthApp, OAuthProvider
from shared.storage import names
from tests.integration.engine import AUDIENCE, people
from tests.integration.login_server import METADATA_PATH, TOKEN_PATH, Answer, LoginServer
from tests.integration.sign_in_desk import (
    ADA,
    CONNECTED,
    EVE,
    NAMELESS,
    PORTAL,
    Desk,
    Reply,
    assert_not_connected,
    consent,
    open_desk,
    parameter,
    path_of,
)
from tests.support import StorageAccount

# -- the whole way ------------------------------------------------------------------------------------------------


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
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    assert f"style-src 'sha256-{base64.b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"


# -- cases that end without a connection --------------------------------------------------------------------------


def test_who_denies_the_access_is_told_and_may_begin_again(desk: Desk) -> None:
    destination_id = desk.created()
    denied = desk.returned(destination_id, decision="deny")
    assert_not_connected(desk.call("GET", denied), 400, "You did not allow access in Mailchimp")
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
    assert_not_connected(reply, 400, "is unknown here")
    assert desk.tokens() == set()


def test_the_state_of_another_person_is_refused_and_left_to_that_person(desk: Desk) -> None:
    destination_id = desk.created()
    returned = desk.returned(destination_id)
    before = desk.authorizations()
    for other in (EVE, NAMELESS):
        assert_not_connected(desk.call("GET", returned, who=other), 403, "Somebody else started this sign-in")
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
    assert_not_connected(desk.call("GET", f"{CALLBACK_PATH}?{query}"), 503, "not available")
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


# -- at once ------------------------------------------------------------------------------------------------------


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
    assert_not_connected(seen[0], 409, "is being completed right now")


# -- parameters ---------------------------------------------------------------------------------------------------


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
    assert_not_connected(reply, 400, "was changed on its way from Mailchimp")
    assert desk.call("GET", path_of(consent(address))).status == 200


def test_the_callback_is_for_browsers_that_come_back_only(desk: Desk) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert desk.call(method, f"{CALLBACK_PATH}?code=a&state=b").status == 405

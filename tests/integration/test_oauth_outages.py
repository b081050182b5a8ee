"""Signing in to Mailchimp when Mailchimp does not answer as it should; what is kept of a sign-in, and what is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dev.sandbox.control import CLIENT_ID, SandboxControl
from shared.destinations.authorization import CALLBACK_PATH, Authorizations
from shared.mailchimp import OAuthApp, OAuthProvider
from shared.storage import names
from tests.integration.engine import AUDIENCE, people
from tests.integration.login_server import METADATA_PATH, TOKEN_PATH, Answer, LoginServer
from tests.integration.sign_in_desk import (
    EVE,
    Desk,
    assert_not_connected,
    consent,
    open_desk,
    parameter,
    path_of,
)
from tests.support import StorageAccount

# -- Mailchimp down, slow, or not itself --------------------------------------------------------------------------


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
        OAuthProvider(app, disturbed.sandbox.address, read_timeout_s=3),
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
    assert_not_connected(disturbed.signed_in(destination_id), 503, "incomplete")
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


# -- what is kept, and for how long -------------------------------------------------------------------------------


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


# -- verify -------------------------------------------------------------------------------------------------------


def test_verify_says_as_whom_and_where_the_destination_is_signed_in(desk: Desk) -> None:
    destination_id = desk.created()
    desk.signed_in(destination_id)
    found = desk.call("POST", f"/api/destinations/{destination_id}/verify").json
    assert (found["accountName"], found["role"], found["plan"]) == ("Sandbox Co", "owner", "monthly")
    assert found["accountId"] == desk.destination(destination_id)["signIn"]["accountId"]
    assert found["dataCentre"] == "127.0.0.1"  # that of an address of Mailchimp's: tests/unit/test_authorization.py
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


# -- nothing leaks ------------------------------------------------------------------------------------------------


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

"""The sign-in pages of the sandbox."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest

from dev.sandbox.http import Reply, Request
from dev.sandbox.in_process import InProcessSandbox
from dev.sandbox.oauth import CODE_SECONDS, DEFAULT_REDIRECT_URI

ASKED = {
    "response_type": "code",
    "client_id": "sandbox-client",
    "redirect_uri": DEFAULT_REDIRECT_URI,
    "state": "st&te=<1>",
}
EXCHANGE = {
    "grant_type": "authorization_code",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
    "redirect_uri": DEFAULT_REDIRECT_URI,
}


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


def post_form(client: InProcessSandbox, path: str, fields: dict[str, str]) -> Reply:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return client.sandbox.oauth.answer(Request("POST", path, {}, headers, urlencode(fields).encode()))


def redirected(reply: Reply) -> tuple[str, dict[str, list[str]]]:
    assert reply.status == 302
    parts = urlsplit(dict(reply.headers)["Location"])
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query)


def allowed_code(client: InProcessSandbox, account: str = "sandbox") -> str:
    _, query = redirected(post_form(client, "/oauth2/authorize", {**ASKED, "decision": "allow", "account": account}))
    return query["code"][0]


def exchanged(client: InProcessSandbox, **changes: str) -> tuple[int, dict[str, str]]:
    reply = post_form(client, "/oauth2/token", {**EXCHANGE, **changes})
    return reply.status, msgspec.json.decode(reply.body)


def test_the_page_offers_the_accounts_and_escapes_what_it_shows(client: InProcessSandbox) -> None:
    client.json("POST", "/_sandbox/accounts", {"name": "<b>Other</b>"}, 201)
    page = client.reply("GET", "/oauth2/authorize", **ASKED).body.decode()
    assert "Sandbox Co" in page
    assert "&lt;b&gt;Other&lt;/b&gt;" in page
    assert "st&amp;te=&lt;1&gt;" in page
    assert "Allow" in page
    assert "Deny" in page


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": DEFAULT_REDIRECT_URI + "/"},
        {"redirect_uri": DEFAULT_REDIRECT_URI + "?x=1"},
        {"redirect_uri": DEFAULT_REDIRECT_URI.replace("127.0.0.1", "localhost")},
        {"client_id": "other"},
        {"response_type": "token"},
    ],
)
def test_a_request_that_is_not_registered_is_shown_an_error_and_not_redirected(
    client: InProcessSandbox, change: dict[str, str]
) -> None:
    assert client.reply("GET", "/oauth2/authorize", **{**ASKED, **change}).status == 400
    assert post_form(client, "/oauth2/authorize", {**ASKED, **change, "decision": "allow"}).status == 400


def test_deny_redirects_with_an_error_and_the_state(client: InProcessSandbox) -> None:
    target, query = redirected(post_form(client, "/oauth2/authorize", {**ASKED, "decision": "deny"}))
    assert target == DEFAULT_REDIRECT_URI
    assert query == {"error": ["access_denied"], "state": [ASKED["state"]]}


def test_allow_gives_a_code_that_becomes_a_token_that_opens_the_api(client: InProcessSandbox) -> None:
    client.json("POST", "/_sandbox/accounts", {"name": "Other", "id": "other"}, 201)
    status, answer = exchanged(client, code=allowed_code(client, "other"))
    assert (status, sorted(answer)) == (200, ["access_token", "expires_in", "scope"])
    reply = client.reply("GET", "/3.0/", authorization=f"Bearer {answer['access_token']}")
    assert msgspec.json.decode(reply.body)["account_name"] == "Other"


def test_a_code_works_once_and_for_ten_minutes(client: InProcessSandbox) -> None:
    code = allowed_code(client)
    assert exchanged(client, code=code)[0] == 200
    assert exchanged(client, code=code) == (
        400,
        {
            "error": "invalid_grant",
            "error_description": "Invalid code, expired code, or redirect_uri of another request.",
        },
    )
    late = allowed_code(client)
    client.now += CODE_SECONDS + 1
    assert exchanged(client, code=late)[0] == 400


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "wrong"}, "invalid_client"),
        ({"grant_type": "refresh_token"}, "unsupported_grant_type"),
        ({"redirect_uri": "http://127.0.0.1:1/other"}, "invalid_grant"),
        ({"code": "wrong"}, "invalid_grant"),
    ],
)
def test_a_wrong_exchange_is_refused(client: InProcessSandbox, change: dict[str, str], error: str) -> None:
    status, answer = exchanged(client, **{"code": allowed_code(client), **change})
    assert (status, answer["error"]) == (400, error)


def test_metadata_tells_whose_token_it_is_and_where_the_api_is(client: InProcessSandbox) -> None:
    token = exchanged(client, code=allowed_code(client))[1]["access_token"]
    reply = client.reply("GET", "/oauth2/metadata", authorization=f"OAuth {token}")
    document = msgspec.json.decode(reply.body)
    assert sorted(document) == sorted(
        ["dc", "role", "accountname", "user_id", "login", "login_url", "api_endpoint"]  # as recorded from the real API
    )
    assert sorted(document["login"]) == ["avatar", "email", "login_email", "login_id", "login_name"]
    assert (document["dc"], document["api_endpoint"]) == ("us1", "http://127.0.0.1:8085")


def test_metadata_of_a_revoked_token_says_invalid_token(client: InProcessSandbox) -> None:
    token = exchanged(client, code=allowed_code(client))[1]["access_token"]
    assert client.reply("DELETE", f"/_sandbox/credentials/{token}").status == 204
    reply = client.reply("GET", "/oauth2/metadata", authorization=f"OAuth {token}")
    assert msgspec.json.decode(reply.body)["error"] == "invalid_token"
    assert client.reply("GET", "/3.0/", authorization=f"Bearer {token}").status == 401


def test_redirect_addresses_are_changed_through_the_control_api(client: InProcessSandbox) -> None:
    client.json("PUT", "/_sandbox/oauth-client", {"redirectUris": ["http://127.0.0.1:9/cb?x=1"]})
    assert client.reply("GET", "/oauth2/authorize", **ASKED).status == 400
    fields = {**ASKED, "redirect_uri": "http://127.0.0.1:9/cb?x=1", "decision": "allow"}
    target, query = redirected(post_form(client, "/oauth2/authorize", fields))
    assert (target, query["x"]) == ("http://127.0.0.1:9/cb", ["1"])

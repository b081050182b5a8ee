"""Signing in: the address for the browser, the code for a token, the token for an account."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.mailchimp import (
    ApiKeyMalformed,
    ApiRootRefused,
    MailchimpError,
    OAuthApp,
    ReplyUnusable,
    SignIn,
    SignInNotConfigured,
    SignInRefused,
    Transport,
    Unavailable,
    authorize_url,
    exchange_code,
    sign_in_of,
)
from tests.unit.fake_mailchimp import TOKEN, Canned, FakeMailchimp, problem

LOGIN = "https://login.mailchimp.com"
APP = OAuthApp(LOGIN, "1234567890", "s3cret-of-the-app", "https://app.example/api/oauth/callback")
METADATA = {
    "dc": "us3",
    "role": "admin",
    "accountname": "Example Co",
    "user_id": 1000001,
    "login": {"email": "owner@company.example", "avatar": None, "login_id": 1000002, "login_name": "owner"},
    "login_url": LOGIN,
    "api_endpoint": "https://us3.api.mailchimp.com",
}


def transport(*answers: Canned) -> tuple[FakeMailchimp, Transport]:
    fake = FakeMailchimp(*answers)
    return fake, Transport(LOGIN, session=fake.session())


def test_the_browser_is_sent_with_everything_that_must_come_back() -> None:
    parts = urlsplit(authorize_url(APP, "st&te=1"))
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{LOGIN}/oauth2/authorize"
    assert dict(parse_qsl(parts.query)) == {
        "response_type": "code",
        "client_id": "1234567890",
        "redirect_uri": "https://app.example/api/oauth/callback",
        "state": "st&te=1",
    }


def test_the_apps_secret_is_in_no_repr() -> None:
    assert "s3cret" not in repr(APP)


class TestTheCode:
    def test_becomes_a_token(self) -> None:
        fake, to_login = transport(Canned(body={"access_token": "5c6ccc561059aa386da9d112215bae55", "expires_in": 0}))
        assert exchange_code(APP, "c0de", to_login) == "5c6ccc561059aa386da9d112215bae55"
        assert fake.requests[0].url == f"{LOGIN}/oauth2/token"
        body = fake.requests[0].body
        assert isinstance(body, bytes)
        assert dict(parse_qsl(body.decode())) == {
            "grant_type": "authorization_code",
            "client_id": "1234567890",
            "client_secret": "s3cret-of-the-app",
            "redirect_uri": "https://app.example/api/oauth/callback",
            "code": "c0de",
        }

    @pytest.mark.parametrize("status", [200, 400, 401, 403])
    def test_that_was_used_before_asks_for_a_new_sign_in(self, status: int) -> None:
        answer = Canned(status, {"error": "invalid_grant", "error_description": "c0de is used for s3cret-of-the-app"})
        with pytest.raises(SignInRefused) as caught:
            exchange_code(APP, "c0de", transport(answer)[1])
        assert "again" in caught.value.action
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "redirect_uri_mismatch"])
    def test_of_an_app_that_mailchimp_does_not_know_is_for_the_administrator(self, error: str) -> None:
        with pytest.raises(SignInNotConfigured) as caught:
            exchange_code(APP, "c0de", transport(Canned(401, {"error": error}))[1])
        assert "MAILCHIMP_CLIENT_ID" in caught.value.action

    @pytest.mark.parametrize("token", [None, "", 7, ["x"], "a b", "abcd\nX-Evil: 1"])
    def test_that_brings_no_usable_token_brings_none(self, token: object) -> None:
        with pytest.raises(ReplyUnusable):
            exchange_code(APP, "c0de", transport(Canned(body={"access_token": token}))[1])

    @pytest.mark.parametrize("status", [403, 429, 500, 503])
    def test_meets_an_outage_like_any_call(self, status: int) -> None:
        with pytest.raises(Unavailable):
            exchange_code(APP, "c0de", transport(Canned(status, b"<html>"))[1])

    @pytest.mark.parametrize("code", ["", "e", "\ud83d" * 20, "x" * 5000])
    def test_that_somebody_made_up_is_refused_like_any_other(self, code: str) -> None:
        with pytest.raises(SignInRefused):
            exchange_code(APP, code, transport(Canned(400, {"error": "invalid_grant"}))[1])

    def test_is_in_no_message(self) -> None:
        answer = Canned(400, {"title": "x", "detail": "bad code: c0de-of-the-redirect for s3cret-of-the-app"})
        with pytest.raises(MailchimpError) as caught:
            exchange_code(APP, "c0de-of-the-redirect", transport(answer)[1])
        assert "c0de" not in f"{caught.value} {caught.value.detail}"
        assert "s3cret" not in f"{caught.value} {caught.value.detail}"


class TestTheToken:
    def test_says_whose_it_is_and_where_the_api_is(self) -> None:
        fake, to_login = transport(Canned(body=METADATA))
        assert sign_in_of(TOKEN, to_login) == SignIn(
            "https://us3.api.mailchimp.com", "us3", "Example Co", "admin", "1000002"
        )
        assert fake.requests[0].headers["Authorization"] == f"OAuth {TOKEN}"
        assert fake.path() == "/oauth2/metadata"

    def test_is_refused_by_an_error_inside_a_200(self) -> None:
        answer = Canned(200, {"error": "invalid_token", "error_description": "The access token is not valid"})
        with pytest.raises(SignInRefused):
            sign_in_of(TOKEN, transport(answer)[1])

    @pytest.mark.parametrize("answer", [problem(401, "API Key Invalid"), Canned(401, b"")])
    def test_is_refused_by_a_401(self, answer: Canned) -> None:
        with pytest.raises(SignInRefused):
            sign_in_of(TOKEN, transport(answer)[1])

    @pytest.mark.parametrize(
        "endpoint", ["https://evil.example", "http://us3.api.mailchimp.com", "https://169.254.169.254"]
    )
    def test_is_not_taken_to_a_strangers_address(self, endpoint: str) -> None:
        with pytest.raises(ApiRootRefused):
            sign_in_of(TOKEN, transport(Canned(body=METADATA | {"api_endpoint": endpoint}))[1])

    def test_goes_to_the_configured_address_if_there_is_one(self) -> None:
        answer = Canned(body=METADATA | {"api_endpoint": "http://127.0.0.1:9999"})
        signed_in = sign_in_of(TOKEN, transport(answer)[1], api_root_override="http://127.0.0.1:8085/")
        assert signed_in.api_root == "http://127.0.0.1:8085"
        answer = Canned(body=METADATA)
        signed_in = sign_in_of(TOKEN, transport(answer)[1], api_root_override="https://{dc}.proxy.example")
        assert signed_in.api_root == "https://us3.proxy.example"

    def test_that_cannot_stand_in_a_header_is_not_sent(self) -> None:
        fake, to_login = transport()
        with pytest.raises(ApiKeyMalformed):
            sign_in_of("abc\r\ndef", to_login)
        assert fake.requests == []

    @pytest.mark.parametrize("missing", ["dc", "api_endpoint"])
    def test_without_an_account_behind_it_is_an_unusable_reply(self, missing: str) -> None:
        wire: dict[str, Any] = {key: value for key, value in METADATA.items() if key != missing}
        with pytest.raises(ReplyUnusable):
            sign_in_of(TOKEN, transport(Canned(body=wire))[1])

    @pytest.mark.parametrize("login", [None, {}, [], {"login_id": None}])
    def test_goes_by_the_user_id_if_there_is_no_login(self, login: object) -> None:
        answer = Canned(body=json.dumps(METADATA | {"login": login}).encode())
        assert sign_in_of(TOKEN, transport(answer)[1]).login_id == "1000001"

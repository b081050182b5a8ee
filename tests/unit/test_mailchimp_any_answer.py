"""Whatever Mailchimp answers, a call returns or raises an error of this client's own, which holds no address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mailchimp import MailchimpClient, MailchimpError, OAuthApp, Transport, exchange_code, sign_in_of
from shared.mailchimp.problems import read_problem
from tests.unit.fake_mailchimp import AUDIENCE, TOKEN, Canned, FakeMailchimp

KEYS = [
    "new_members",
    "updated_members",
    "errors",
    "email_address",
    "tags",
    "name",
    "title",
    "detail",
    "field",
    "message",
    "error",
    "total_created",
    "lists",
    "segments",
    "merge_fields",
    "id",
    "total_items",
    "options",
    "members_added",
    "email_addresses",
    "access_token",
    "api_endpoint",
    "dc",
    "login",
    "login_id",
    "stats",
    "account_id",
    "tag",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 405, 413, 422, 429, 500, 503]) | st.integers(
    200, 999
)
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "Content-Encoding", "Location", "Content-Type"]),
    st.sampled_from(["gzip", "deflate", "7", "x", "http://[", "application/json", "br, gzip"]),
    max_size=2,
)
CALLS: list[Callable[[MailchimpClient], Any]] = [
    lambda client: client.ping(),
    lambda client: client.account(),
    lambda client: client.audiences(),
    lambda client: client.audience(AUDIENCE),
    lambda client: client.merge_fields(AUDIENCE),
    lambda client: client.tags(AUDIENCE),
    lambda client: client.find_or_create_tag(AUDIENCE, "VIP"),
    lambda client: client.tag_members(AUDIENCE, 7, ["a@mail.example"]),
    lambda client: client.subscribe(AUDIENCE, b"{}").check(1),
]


def refusal_of(call: Callable[[], object]) -> MailchimpError | None:
    """The error that the call raises; None if it succeeds. Any other kind of error passes through."""
    try:
        call()
    except MailchimpError as error:
        return error
    return None


@settings(max_examples=300, deadline=None)
@given(status=STATUSES, body=BODIES, headers=HEADERS, call=st.sampled_from(CALLS))
def test_no_answer_whatever_raises_anything_but_a_mailchimp_error(
    status: int, body: bytes, headers: dict[str, str], call: Callable[[MailchimpClient], Any]
) -> None:
    fake = FakeMailchimp(respond=lambda _: Canned(status, body, headers))
    refusal = refusal_of(lambda: call(fake.client()))
    assert "a@mail.example" not in str(refusal)
    read_problem(body)


@settings(max_examples=150, deadline=None)
@given(status=STATUSES, body=BODIES, headers=HEADERS)
def test_no_answer_to_a_sign_in_raises_anything_but_a_mailchimp_error(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    fake = FakeMailchimp(respond=lambda _: Canned(status, body, headers))
    transport = Transport("https://login.mailchimp.com", session=fake.session())
    app = OAuthApp("https://login.mailchimp.com", "1234", "secret", "https://app.example/api/oauth/callback")
    for call in (lambda: exchange_code(app, "code", transport), lambda: sign_in_of(TOKEN, transport)):
        refusal = refusal_of(call)
        assert refusal is None or refusal.action

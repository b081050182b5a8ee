"""Every class of failure: which answer leads to which exception, and what that exception gives away."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mailchimp import (
    AccessForbidden,
    AccountRestricted,
    AudienceNotFound,
    BatchRefused,
    FailureClass,
    MailchimpClient,
    MailchimpError,
    OAuthApp,
    RequestInvalid,
    SignInRefused,
    Stop,
    TagNotFound,
    Transport,
    Unavailable,
    errors,
    exchange_code,
    sign_in_of,
)
from shared.mailchimp.errors import without_addresses
from shared.mailchimp.problems import read_problem, retry_after_s
from tests.unit.fake_mailchimp import AUDIENCE, ROOT, TOKEN, Canned, FakeMailchimp, problem

HTML = b"<html><head><title>Access Denied</title></head><body>Reference #18.2d</body></html>"
NOT_VALIDATED = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."


def failure(answer: Canned, call: Callable[[MailchimpClient], Any] | None = None) -> MailchimpError:
    """What subscribing (or `call`) raises for an answer."""
    client = FakeMailchimp(answer).client(utc_now=lambda: datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC))
    with pytest.raises(MailchimpError) as caught:
        (call or (lambda c: c.subscribe(AUDIENCE, b"{}")))(client)
    return caught.value


STOPS = [
    (problem(401, "API Key Invalid", "Your API key may be invalid, or …"), SignInRefused, "Sign in to Mailchimp again"),
    (Canned(401, b""), SignInRefused, "Sign in to Mailchimp again"),
    (problem(403, "Forbidden", "The API key provided is linked to datacenter 'us6'"), AccessForbidden, "ending"),
    (problem(403, "User Disabled", "This account is deactivated"), AccessForbidden, "reactivate"),
    (
        problem(403, "User action not permitted", "User does not have access to the requested operation"),
        AccessForbidden,
        "Manager",
    ),
    (problem(404, "Resource Not Found"), AudienceNotFound, "choose an audience"),
    (problem(503, "ComplianceRelated", "This method has been disabled."), AccountRestricted, "compliance"),
    (problem(503, "Compliance Related", ""), AccountRestricted, "compliance"),
    (problem(503, "", "This method has been disabled."), AccountRestricted, "compliance"),
]


@pytest.mark.parametrize(("answer", "expected", "action"), STOPS)
def test_what_only_a_person_can_mend_stops_and_says_what_to_do(
    answer: Canned, expected: type[Stop], action: str
) -> None:
    error = failure(answer)
    assert type(error) is expected
    assert isinstance(error, Stop)
    assert error.failure_class is FailureClass.STOP
    assert action in error.action


PAUSES = [
    (problem(429, "Too Many Requests"), "tooManyConnections", False),
    (Canned(429, b""), "tooManyConnections", False),
    (Canned(429, HTML), "tooManyConnections", False),
    (Canned(403, b""), "blocked", False),
    (Canned(403, HTML), "blocked", False),
    (Canned(403, b'"Forbidden"'), "blocked", False),
    (Canned(404, HTML), "blocked", False),
    (Canned(408, b""), "serverError", True),
    (Canned(500, b""), "serverError", True),
    (
        problem(
            500, "Internal Server Error", "A deep, internal error has occurred.", type="about:blank", exception="9b"
        ),
        "serverError",
        True,
    ),
    (Canned(502, HTML), "serverError", True),
    (Canned(503, HTML), "serverError", True),
    (problem(503, "Service Unavailable", "Try again later."), "serverError", True),
    (Canned(504, b"upstream request timeout"), "serverError", True),
    (Canned(599, b"{}"), "serverError", True),
    (Canned(999, b""), "serverError", True),
    (Canned(301, b"", {"Location": "https://status.example/"}), "redirected", True),
    (Canned(303, b"", {"Location": "http://[broken"}), "redirected", True),
    (Canned(200, b""), "replyUnusable", True),
    (Canned(204, b""), "replyUnusable", True),
    (Canned(200, b"   "), "replyUnusable", True),
    (Canned(200, HTML), "replyUnusable", True),
    (Canned(200, b'{"new_members":[{"email_address":"ada@mail.exam'), "replyUnusable", True),
    (Canned(200, b"null"), "replyUnusable", True),
    (Canned(200, b"{}"), "replyUnusable", True),
    (Canned(200, {"new_members": 1, "updated_members": 0}), "replyUnusable", True),
    (Canned(200, {"new_members": [None], "updated_members": []}), "replyUnusable", True),
    (Canned(200, {"new_members": [{"status": "subscribed"}], "updated_members": []}), "replyUnusable", True),
    (Canned(200, b"[" * 200_000), "replyUnusable", True),
    (Canned(200, b'{"new_members":' + b'[{"tags":' * 100_000), "replyUnusable", True),
    (Canned(200, b'{"new_members":[],"updated_members":[{"email_address":"\xff\xfe"}]}'), "replyUnusable", True),
    (Canned(200, b"not gzip", {"Content-Encoding": "gzip"}), "connectionLost", True),
]


@pytest.mark.parametrize(("answer", "reason", "outcome_unknown"), PAUSES)
def test_what_may_pass_pauses_and_says_whether_it_was_applied(
    answer: Canned, reason: str, outcome_unknown: bool
) -> None:
    error = failure(answer)
    assert isinstance(error, Unavailable)
    assert error.failure_class is FailureClass.PAUSE
    assert (error.reason, error.outcome_unknown) == (reason, outcome_unknown)
    assert error.status in (answer.status, None)


class TestARefusedBatch:
    def test_names_the_row_and_its_field(self) -> None:
        named = [{"field": "members.item:3.status", "message": "Data presented is not one of the accepted values"}]
        error = failure(problem(400, detail=NOT_VALIDATED, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.failure_class is FailureClass.BATCH
        assert error.rows == (3,)
        assert error.message_of(3) == "status: Data presented is not one of the accepted values"

    def test_names_each_row_once_in_order(self) -> None:
        named = [
            {"field": "members.item:41.merge_fields.LTV", "message": "Schema describes number, string found instead"},
            {"field": "members.item:7.email_address", "message": "Schema describes string, integer found instead"},
            {"field": "members.item:41.status", "message": "Data presented is not one of the accepted values"},
            {"field": "members.item:0", "message": "Data did not match any of the schemas described in anyOf."},
        ]
        error = failure(problem(400, detail=NOT_VALIDATED, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.rows == (0, 7, 41)
        assert error.message_of(41).startswith("merge_fields.LTV: Schema describes number")
        assert [row.field for row in error.refused_rows] == ["merge_fields.LTV", "email_address", "status", ""]

    @pytest.mark.parametrize(
        "field",
        [
            "",
            "members",
            "members.item:",
            "members.item:x.status",
            "members.item:-1",
            "members.item:500",
            "item:3",
            7,
            None,
        ],
    )
    def test_names_no_row_that_cannot_be_one(self, field: object) -> None:
        error = failure(problem(400, errors=[{"field": field, "message": "?"}, "odd", None]))
        assert isinstance(error, BatchRefused)
        assert error.rows == ()

    def test_by_a_duplicate_names_no_row(self) -> None:
        error = failure(
            Canned(
                400,
                {
                    "title": "Invalid Resource",
                    "status": 400,
                    "detail": "Duplicate items found for email a@mail.example",
                },
            )
        )
        assert isinstance(error, BatchRefused)
        assert error.rows == ()
        assert "a@mail.example" in error.message_of(0)

    @pytest.mark.parametrize("status", [400, 413, 422])
    @pytest.mark.parametrize("body", [b"", HTML, b"[]", b"{}"])
    def test_without_a_document_is_still_a_refused_batch(self, status: int, body: bytes) -> None:
        error = failure(Canned(status, body))
        assert isinstance(error, BatchRefused)
        assert error.status == status
        assert error.message_of(0)

    def test_may_be_one_that_tags_members(self) -> None:
        detail = "Maximum allowed member items exceeded, please provide at most 500 items in members_to_add field"
        error = failure(problem(400, detail=detail), lambda client: client.tag_members(AUDIENCE, 7, ["a@mail.example"]))
        assert isinstance(error, BatchRefused)
        named = [{"field": "members_to_add.item:2", "message": "not an address"}]
        error = failure(problem(400, errors=named), lambda client: client.tag_members(AUDIENCE, 7, ["a@mail.example"]))
        assert isinstance(error, BatchRefused)
        assert error.rows == (2,)

    def test_may_name_all_500_rows(self) -> None:
        named = [{"field": f"members.item:{row}.status", "message": "x" * 300} for row in range(500)]
        error = failure(problem(400, errors=named))
        assert isinstance(error, BatchRefused)
        assert error.rows == tuple(range(500))


@pytest.mark.parametrize("status", [402, 405, 409, 410, 414, 415, 426, 451])
@pytest.mark.parametrize("body", [b"", HTML, b'{"title":"Odd","detail":"ada@mail.example is odd"}'])
def test_any_other_4xx_is_a_defect_of_ours(status: int, body: bytes) -> None:
    error = failure(Canned(status, body))
    assert type(error) is RequestInvalid
    assert error.failure_class is FailureClass.DEFECT
    assert str(status) in str(error)
    assert "ada@" not in str(error)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_call_without_rows_is_a_defect_of_ours(status: int) -> None:
    assert type(failure(problem(status), lambda client: client.ping())) is RequestInvalid


def test_a_404_outside_an_audience_is_a_defect_of_ours() -> None:
    assert type(failure(problem(404), lambda client: client.account())) is RequestInvalid


def test_an_error_body_is_read_only_up_to_a_limit() -> None:
    error = failure(Canned(400, b'{"title":"' + b"x" * 5_000_000 + b'"}'))
    assert isinstance(error, BatchRefused)
    assert error.title == ""


def test_a_reply_larger_than_the_limit_is_not_taken_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.mailchimp.transport._MAX_REPLY_BYTES", 10_000)
    error = failure(Canned(200, b" " * 10_001))
    assert isinstance(error, Unavailable)
    assert "larger than 10,000 bytes" in str(error)
    assert (error.reason, error.outcome_unknown) == ("replyUnusable", True)


def test_a_compressed_reply_is_limited_by_what_it_unpacks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.mailchimp.transport._MAX_REPLY_BYTES", 10_000)
    error = failure(Canned(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}))
    assert isinstance(error, Unavailable)
    assert error.reason == "replyUnusable"


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, None),
            ("", None),
            ("30", 30.0),
            (" 1.5 ", 1.5),
            ("0", 0.0),
            ("-5", 0.0),
            ("1e9", 3600.0),
            ("nan", None),
            ("inf", None),
            ("soon", None),
            ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
            ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
            ("Sun, 22 Nov 2020 12:00:30 GMT", 0.0),
            ("Sun, 22 Nov 2099 12:00:30 GMT", 3600.0),
            ("Sun, 99 Nov 2026 12:00:30 GMT", None),
        ],
    )
    def test_is_read_as_seconds_up_to_an_hour(self, header: str | None, seconds: float | None) -> None:
        assert retry_after_s(header, lambda: datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)) == seconds

    def test_is_passed_on_from_a_429(self) -> None:
        error = failure(Canned(429, b"", {"Retry-After": "17"}))
        assert isinstance(error, Unavailable)
        assert error.retry_after_s == 17.0
        assert error.log_fields()["retryAfterSeconds"] == 17.0

    @given(st.text(max_size=40))
    def test_never_fails_whatever_it_says(self, header: str) -> None:
        seconds = retry_after_s(header, lambda: datetime(2026, 11, 22, tzinfo=UTC))
        assert seconds is None or 0 <= seconds <= 3600


class TestWhatALogMaySee:
    ADDRESS = "ada.lovelace+news@mail.example"

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429, 500, 503])
    def test_holds_no_address_and_no_token_wherever_mailchimp_put_them(self, status: int) -> None:
        words = f"{self.ADDRESS} is {TOKEN}, really \n{self.ADDRESS}"
        named = [{"field": "members.item:0.email_address", "message": words}]
        error = failure(problem(status, words, words, errors=named, instance=words))
        logged = f"{error} {error!r} {error.action} {json.dumps(error.log_fields())}"
        assert "lovelace" not in logged
        assert TOKEN not in logged
        assert "\n" not in str(error)

    def test_leaves_the_words_for_the_rejected_profiles_file(self) -> None:
        error = failure(problem(400, "Member In Compliance State", f"{self.ADDRESS} is in a compliance state"))
        assert isinstance(error, BatchRefused)
        assert self.ADDRESS in error.message_of(0)
        assert self.ADDRESS in error.detail

    def test_never_repeats_the_token_even_there(self) -> None:
        error = failure(problem(400, detail=f"Authorization: Bearer {TOKEN}"))
        assert error.detail == "Authorization: Bearer <token>"

    def test_has_the_number_that_mailchimps_support_asks_for(self) -> None:
        assert failure(problem(500)).log_fields()["mailchimpInstance"] == "14c40d88-9b23-1adf-9d0b-bb2996468021"

    def test_quotes_what_mailchimp_says_about_the_account(self) -> None:
        error = failure(problem(403, "Forbidden", "The API key provided is linked to datacenter 'us6'"))
        assert "linked to datacenter 'us6'" in str(error)

    @given(st.text(max_size=100), st.text(max_size=100))
    def test_holds_no_word_with_an_at_sign(self, before: str, after: str) -> None:
        assert "@" not in without_addresses(f"{before}@{after}").replace("<address>", "")

    def test_has_no_library_error_behind_it(self) -> None:
        """A library's error holds the request, with its headers and body."""
        for answer in (Canned(200, b"{"), Canned(200, b"x", {"Content-Encoding": "gzip"}), Canned(500)):
            error = failure(answer)
            assert error.__cause__ is None
            assert error.__context__ is None


def test_every_error_says_in_its_docstring_when_it_is_retried() -> None:
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, MailchimpError)]
    assert len(tree) == 15
    assert len({cls.code for cls in tree}) == len(tree)
    for cls in tree:
        assert cls.__name__ in (errors.__doc__ or "")
        assert cls.__doc__


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


@settings(max_examples=300, deadline=None)
@given(status=STATUSES, body=BODIES, headers=HEADERS, call=st.sampled_from(CALLS))
def test_no_answer_whatever_raises_anything_but_a_mailchimp_error(
    status: int, body: bytes, headers: dict[str, str], call: Callable[[MailchimpClient], Any]
) -> None:
    fake = FakeMailchimp(respond=lambda _: Canned(status, body, headers))
    try:
        call(fake.client())
    except MailchimpError as error:
        assert "a@mail.example" not in str(error)  # noqa: PT017 (the error is optional here)
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
        try:
            call()
        except MailchimpError as error:
            assert error.action  # noqa: PT017


def test_a_tag_that_is_gone_is_no_reason_to_stop() -> None:
    assert not issubclass(TagNotFound, Stop)
    assert ROOT not in str(TagNotFound(AUDIENCE, 7))

"""Every class of failure: which answer leads to which exception, and what that exception gives away."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.mailchimp import (
    AccessForbidden,
    AccountRestricted,
    AudienceNotFound,
    BatchRefused,
    FailureClass,
    MailchimpError,
    RequestInvalid,
    SignInRefused,
    Stop,
    TagNotFound,
    Unavailable,
    errors,
)
from shared.mailchimp.errors import without_addresses
from shared.mailchimp.problems import retry_after_s
from tests.unit.fake_mailchimp import AUDIENCE, HTML, ROOT, TOKEN, Canned, failure, problem

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

    @given(st.text(max_size=40) | st.floats().map(str) | st.datetimes().map(format_datetime))
    @example("-1.5")
    @example("1e300")
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


def test_a_tag_that_is_gone_is_no_reason_to_stop() -> None:
    assert not issubclass(TagNotFound, Stop)
    assert ROOT not in str(TagNotFound(AUDIENCE, 7))

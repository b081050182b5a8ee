"""The calls of the Mailchimp client: what is sent, and what is made of good answers. Tags have a file of their own."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from shared.mailchimp import (
    Account,
    ApiKeyMalformed,
    ApiRootRefused,
    Audience,
    AudienceNotFound,
    MailchimpClient,
    MergeField,
    MergeFieldOptions,
    ReplyUnusable,
    Unavailable,
)
from tests.unit.fake_mailchimp import (
    AUDIENCE,
    AUDIENCE_ENTRY,
    ROOT,
    TOKEN,
    Canned,
    FakeMailchimp,
    batch_reply,
    member,
    problem,
)


class TestEveryCall:
    def test_carries_the_token_and_our_user_agent(self) -> None:
        fake = FakeMailchimp(Canned(body={"health_status": "Everything's Chimpy!"}))
        fake.client().ping()
        headers = fake.requests[0].headers
        assert fake.path() == "/3.0/ping"
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["User-Agent"].startswith("segments-to-mailchimp/")

    def test_goes_out_with_the_timeouts_given(self) -> None:
        fake = FakeMailchimp(Canned(body={}), Canned(body={}))
        fake.client().ping()
        fake.client(connect_timeout_s=3, read_timeout_s=7).ping()
        assert fake.timeouts == [(10, 130), (3, 7)]

    def test_keeps_its_token_although_netrc_knows_the_host(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine us19.api.mailchimp.com login someone password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        fake = FakeMailchimp(Canned(body={}))
        fake.client().ping()
        assert base64.b64encode(b"someone:secret").decode() not in str(fake.requests[0].headers["Authorization"])

    def test_brings_back_no_cookie(self) -> None:
        fake = FakeMailchimp(Canned(body={}, headers={"Set-Cookie": "_abck=1; path=/"}), Canned(body={}))
        client = fake.client()
        client.ping()
        client.ping()
        assert "Cookie" not in fake.requests[1].headers

    def test_follows_no_redirect(self) -> None:
        fake = FakeMailchimp(Canned(302, headers={"Location": "https://collector.example/"}), Canned(body={}))
        with pytest.raises(Unavailable) as caught:
            fake.client().ping()
        assert caught.value.reason == "redirected"
        assert len(fake.requests) == 1

    def test_shows_no_token_in_repr(self) -> None:
        assert repr(FakeMailchimp().client()) == f"MailchimpClient('{ROOT}')"


@pytest.mark.parametrize("token", ["", "  ", "abc", "ab cd efgh-us1", "abcd\r\nX-Evil: 1", "schlüssel-us1", "x" * 600])
def test_a_token_that_cannot_be_one_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(ApiKeyMalformed) as caught:
        MailchimpClient(ROOT, token)
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize(
    "root", ["", "us19.api.mailchimp.com", "ftp://us19.api.mailchimp.com", f"{ROOT}/3.0", "http://"]
)
def test_an_api_root_that_is_no_address_is_refused(root: str) -> None:
    with pytest.raises(ApiRootRefused):
        MailchimpClient(root, TOKEN)


def test_blanks_around_a_pasted_key_do_not_matter() -> None:
    fake = FakeMailchimp(Canned(body={}))
    MailchimpClient(ROOT + "/", f" {TOKEN}\n", session=fake.session()).ping()
    assert fake.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert fake.requests[0].url == f"{ROOT}/3.0/ping"


def test_a_session_that_was_passed_in_stays_open() -> None:
    closed: list[str] = []

    class Watched(requests.Session):
        def close(self) -> None:
            closed.append("closed")
            super().close()

    MailchimpClient(ROOT, TOKEN, session=Watched()).close()
    assert closed == []


class TestAccount:
    def test_is_read_with_the_few_fields_needed(self) -> None:
        wire = {
            "account_id": "8d3a3db4d97663a9074efcc16",
            "login_id": "1000001",
            "account_name": "Example Co",
            "email": "owner@company.example",
            "role": "owner",
            "pricing_plan_type": "monthly",
            "total_subscribers": 413,
        }
        fake = FakeMailchimp(Canned(body=wire))
        account = fake.client().account()
        assert account == Account("8d3a3db4d97663a9074efcc16", "Example Co", "owner", 413, "monthly", "1000001")
        assert fake.path() == "/3.0/"
        assert "total_subscribers" in fake.query()["fields"]

    def test_may_lack_everything_but_its_id(self) -> None:
        fake = FakeMailchimp(Canned(body={"account_id": "x1", "role": None, "total_subscribers": "many"}))
        assert fake.client().account() == Account("x1", "", "", 0, "", None)

    def test_without_an_id_is_no_account(self) -> None:
        with pytest.raises(ReplyUnusable):
            FakeMailchimp(Canned(body={"health_status": "fine"})).client().account()


class TestAudiences:
    def test_are_read_page_by_page(self) -> None:
        pages = [
            [AUDIENCE_ENTRY | {"id": f"list{number:04}"} for number in range(start, min(start + 1000, 2500))]
            for start in (0, 1000, 2000)
        ]
        fake = FakeMailchimp(*(Canned(body={"lists": page, "total_items": 2500}) for page in pages))
        audiences = fake.client().audiences()
        assert [audience.id for audience in audiences] == [f"list{number:04}" for number in range(2500)]
        assert [fake.query(number)["offset"] for number in range(3)] == ["0", "1000", "2000"]
        assert fake.query()["count"] == "1000"
        assert fake.query()["fields"].split(",")[0] == "lists.id"

    def test_are_all_read_although_a_page_is_shorter_than_asked_for(self) -> None:
        entries = [AUDIENCE_ENTRY | {"id": str(number)} for number in range(25)]

        def ten_at_most(request: requests.PreparedRequest) -> Canned:
            offset = int(dict(parse_qsl(urlsplit(request.url or "").query))["offset"])
            return Canned(body={"lists": entries[offset : offset + 10], "total_items": 25})

        assert len(FakeMailchimp(respond=ten_at_most).client().audiences()) == 25

    def test_say_what_an_administrator_must_know(self) -> None:
        fake = FakeMailchimp(Canned(body=AUDIENCE_ENTRY))
        assert fake.client().audience(AUDIENCE) == Audience(
            AUDIENCE, "Newsletter", 12, True, False, "2020-08-12T16:21:04+00:00"
        )
        assert fake.path() == f"/3.0/lists/{AUDIENCE}"

    def test_appear_once_although_a_page_shifted(self) -> None:
        first = [AUDIENCE_ENTRY | {"id": str(number)} for number in range(1000)]
        fake = FakeMailchimp(
            Canned(body={"lists": first, "total_items": 1001}),
            Canned(body={"lists": [first[-1]], "total_items": 1001}),
        )
        assert len(fake.client().audiences()) == 1000

    def test_end_at_an_empty_page_whatever_the_total_says(self) -> None:
        fake = FakeMailchimp(
            Canned(body={"lists": [AUDIENCE_ENTRY], "total_items": 10**9}),
            Canned(body={"lists": [], "total_items": 10**9}),
        )
        assert len(fake.client().audiences()) == 1

    def test_that_never_end_are_an_unusable_reply(self) -> None:
        fake = FakeMailchimp(respond=lambda _: Canned(body={"lists": [AUDIENCE_ENTRY], "total_items": 10**9}))
        with pytest.raises(ReplyUnusable):
            fake.client().audiences()
        assert len(fake.requests) <= 1000

    @pytest.mark.parametrize("body", [{}, {"lists": None}, {"lists": {}}, {"lists": "none"}])
    def test_that_are_missing_are_not_taken_for_none(self, body: dict[str, Any]) -> None:
        with pytest.raises(ReplyUnusable):
            FakeMailchimp(Canned(body=body)).client().audiences()

    def test_that_do_not_exist_are_named(self) -> None:
        fake = FakeMailchimp(problem(404, "Resource Not Found", "The requested resource could not be found."))
        with pytest.raises(AudienceNotFound, match=AUDIENCE) as caught:
            fake.client().audience(AUDIENCE)
        assert "choose an audience" in caught.value.action

    @pytest.mark.parametrize("audience_id", ["", "..", "../x", "a/b", "a?b=c", "a%2fb", "a b", "ä", "x" * 65])
    def test_with_an_id_that_would_leave_the_path_are_never_asked_for(self, audience_id: str) -> None:
        fake = FakeMailchimp()
        for call in (fake.client().audience, fake.client().merge_fields, fake.client().tags):
            with pytest.raises(AudienceNotFound):
                call(audience_id)
        assert fake.requests == []


def test_merge_fields_keep_their_rules() -> None:
    wire = [
        {
            "merge_id": 1,
            "tag": "FNAME",
            "name": "First Name",
            "type": "text",
            "required": True,
            "options": {"size": 25},
        },
        {"tag": "JOINED", "name": "", "type": "date", "options": {"date_format": "MM/DD/YYYY"}, "default_value": None},
        {"tag": "ADDRESS", "name": "Address", "type": "address", "options": {"default_country": 164}},
        {"tag": "PHONE", "name": "Phone", "type": "phone", "options": {"phone_format": "none"}, "default_value": "1"},
        {"tag": "SIZE", "name": "Size", "type": "dropdown", "options": {"choices": ["S", "M", None]}},
        {"tag": None, "name": "broken"},
        "broken",
    ]
    fake = FakeMailchimp(Canned(body={"merge_fields": wire, "total_items": 5, "list_id": AUDIENCE}))
    assert fake.client().merge_fields(AUDIENCE) == [
        MergeField("FNAME", "First Name", "text", True, "", MergeFieldOptions(size=25)),
        MergeField("JOINED", "JOINED", "date", False, "", MergeFieldOptions(date_format="MM/DD/YYYY")),
        MergeField("ADDRESS", "Address", "address", False, "", MergeFieldOptions(default_country="164")),
        MergeField("PHONE", "Phone", "phone", False, "1", MergeFieldOptions(phone_format="none")),
        MergeField("SIZE", "Size", "dropdown", False, "", MergeFieldOptions(choices=("S", "M"))),
    ]
    assert fake.path() == f"/3.0/lists/{AUDIENCE}/merge-fields"


class TestSubscribing:
    def test_sends_the_finished_body_as_it_is(self) -> None:
        body = b'{"members":[{"email_address":"ada@mail.example","status_if_new":"subscribed"}],"update_existing":true}'
        fake = FakeMailchimp(Canned(body=batch_reply(created=[member("ada@mail.example")])))
        fake.client().subscribe(AUDIENCE, body)
        assert fake.requests[0].body == body
        assert fake.requests[0].method == "POST"
        assert fake.path() == f"/3.0/lists/{AUDIENCE}"
        assert fake.query() == {"skip_duplicate_check": "true"}
        assert fake.requests[0].headers["Content-Type"] == "application/json"

    def test_reads_who_was_created_updated_and_refused(self) -> None:
        error = {
            "email_address": "eve@mail.example",
            "error": "eve@mail.example is already a list member",
            "error_code": "ERROR_CONTACT_EXISTS",
        }
        reply = batch_reply(
            created=[member("ada@mail.example", "VIP", "Spring")],
            updated=[member("bob@mail.example", status="unsubscribed")],
            errors=[error],
        )
        result = FakeMailchimp(Canned(body=reply)).client().subscribe(AUDIENCE, b"{}")
        result.check(3)
        assert [(m.email_address, m.status, m.tag_names, m.tags_count) for m in result.members()] == [
            ("ada@mail.example", "subscribed", ("VIP", "Spring"), 2),
            ("bob@mail.example", "unsubscribed", (), 0),
        ]
        assert [(e.email_address, e.code) for e in result.errors] == [("eve@mail.example", "ERROR_CONTACT_EXISTS")]
        assert (result.total_created, result.total_updated, result.error_count) == (1, 1, 1)

    def test_in_an_audience_that_is_gone_stops(self) -> None:
        with pytest.raises(AudienceNotFound):
            FakeMailchimp(problem(404, "Resource Not Found")).client().subscribe(AUDIENCE, b"{}")

    def test_reads_a_compressed_reply(self) -> None:
        body = gzip.compress(json.dumps(batch_reply(created=[member("ada@mail.example")])).encode())
        fake = FakeMailchimp(Canned(body=body, headers={"Content-Encoding": "gzip"}))
        assert fake.client().subscribe(AUDIENCE, b"{}").total_created == 1

"""The Mailchimp client against the sandbox: whole conversations, and the faults that the sandbox plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from dev.sandbox.control import API_KEY, AUDIENCE_ID, CLIENT_ID, CLIENT_SECRET, SandboxControl
from shared.mailchimp import (
    AccessForbidden,
    AccountRestricted,
    AudienceNotFound,
    BatchRefused,
    MailchimpClient,
    MailchimpError,
    OAuthApp,
    ReplyUnusable,
    SignInNotConfigured,
    SignInRefused,
    TagNotFound,
    Transport,
    Unavailable,
    authorize_url,
    classify_row_error,
    exchange_code,
    sign_in_of,
)
from tests.support import wait_for

REDIRECT_URI = "http://127.0.0.1:7071/api/oauth/callback"
SUBSCRIBE = {"method": "POST", "pathPattern": "/lists/[^/]+$"}


@pytest.fixture
def client(sandbox: SandboxControl) -> Iterator[MailchimpClient]:
    opened = MailchimpClient(sandbox.api_url, API_KEY, read_timeout_s=20)
    yield opened
    opened.close()


def batch(*rows: str | dict[str, Any], tags: tuple[str, ...] = ()) -> bytes:
    members = [
        {"email_address": row, "status_if_new": "subscribed", "tags": list(tags)} if isinstance(row, str) else row
        for row in rows
    ]
    return json.dumps({"members": members, "update_existing": True}).encode()


class TestASignIn:
    def test_is_accepted_with_a_key(self, client: MailchimpClient) -> None:
        client.ping()
        account = client.account()
        assert account.account_name == "Sandbox Co"
        assert account.login_id

    def test_that_was_revoked_is_refused(self, sandbox: SandboxControl, client: MailchimpClient) -> None:
        sandbox.revoke(API_KEY)
        with pytest.raises(SignInRefused):
            client.subscribe(AUDIENCE_ID, batch("ada@mail.example"))

    def test_with_a_key_of_another_data_centre_is_forbidden(self, sandbox: SandboxControl) -> None:
        key = sandbox.add_key(value="another-key-us6")
        with pytest.raises(AccessForbidden) as caught:
            MailchimpClient(sandbox.api_url, key).ping()
        assert "ending" in caught.value.action

    def test_goes_through_the_pages_to_a_token(self, sandbox: SandboxControl) -> None:
        app = OAuthApp(sandbox.address, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI)
        page = authorize_url(app, "state-1")
        assert requests.get(page, timeout=10).ok
        form = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()} | {"decision": "allow"}
        answer = requests.post(f"{sandbox.address}/oauth2/authorize", data=form, allow_redirects=False, timeout=10)
        returned = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert returned["state"] == ["state-1"]

        transport = Transport(sandbox.address)
        token = exchange_code(app, returned["code"][0], transport)
        signed_in = sign_in_of(token, transport, api_root_override=sandbox.api_url)
        assert signed_in.account_name == "Sandbox Co"
        MailchimpClient(signed_in.api_root, token).ping()

        with pytest.raises(SignInRefused):  # a code works once
            exchange_code(app, returned["code"][0], transport)
        sandbox.revoke(token)
        with pytest.raises(SignInRefused):
            sign_in_of(token, transport, api_root_override=sandbox.api_url)
        transport.close()

    def test_with_a_wrong_client_secret_is_for_the_administrator(self, sandbox: SandboxControl) -> None:
        app = OAuthApp(sandbox.address, CLIENT_ID, "wrong", REDIRECT_URI)
        with pytest.raises(SignInNotConfigured):
            exchange_code(app, "code", Transport(sandbox.address))


class TestAnAudience:
    def test_is_found_with_its_merge_fields(self, sandbox: SandboxControl, client: MailchimpClient) -> None:
        sandbox.add_audience("VIPs", id="0f0f0f0f0f", doubleOptin=True)
        assert {audience.name: audience.double_optin for audience in client.audiences()} == {
            "Newsletter": False,
            "VIPs": True,
        }
        assert client.audience("0f0f0f0f0f").name == "VIPs"
        fields = {field.tag: field for field in client.merge_fields(AUDIENCE_ID)}
        assert {"FNAME", "LNAME"} <= set(fields)
        assert not fields["FNAME"].required

    def test_that_does_not_exist_is_not_found_by_any_call(self, client: MailchimpClient) -> None:
        for call in (client.audience, client.merge_fields, client.tags, lambda name: client.find_tag(name, "VIP")):
            with pytest.raises(AudienceNotFound):
                call("ffffffffff")
        with pytest.raises(AudienceNotFound):
            client.subscribe("ffffffffff", batch("ada@mail.example"))
        with pytest.raises(AudienceNotFound):
            client.tag_members("ffffffffff", 1, ["ada@mail.example"])


class TestABatch:
    def test_creates_updates_and_refuses(self, sandbox: SandboxControl, client: MailchimpClient) -> None:
        sandbox.add_contacts(
            [
                {"email_address": "bob@mail.example", "status": "unsubscribed"},
                {"email_address": "gone@mail.example", "forgotten": True},
            ]
        )
        reply = client.subscribe(
            AUDIENCE_ID,
            batch(
                "ada@mail.example",
                "Bob@mail.example",
                "gone@mail.example",
                "x@example.com",
                "ada",
                tags=("VIP",),
            ),
        )
        reply.check(5)
        assert [(member.email_address, member.tag_names) for member in reply.created] == [
            ("ada@mail.example", ("VIP",))
        ]
        assert [(member.email_address.lower(), member.status) for member in reply.updated] == [
            ("bob@mail.example", "unsubscribed")
        ]
        reasons = {error.email_address: classify_row_error(error).code for error in reply.errors}
        assert reasons == {
            "gone@mail.example": "forgotten",
            "x@example.com": "fakeOrInvalid",
            "ada": "invalidAddress",
        }

    def test_of_500_arrives_in_realistic_size(self, sandbox: SandboxControl, client: MailchimpClient) -> None:
        sandbox.change_settings(realisticReplies=True)
        reply = client.subscribe(AUDIENCE_ID, batch(*(f"m{n}@mail.example" for n in range(500)), tags=("VIP",)))
        reply.check(500)
        assert all(member.tag_names == ("VIP",) for member in reply.members())

    def test_with_a_bad_row_is_refused_as_a_whole_and_names_the_row(
        self, sandbox: SandboxControl, client: MailchimpClient
    ) -> None:
        bad = {"email_address": "eve@mail.example", "status_if_new": ""}
        with pytest.raises(BatchRefused) as caught:
            client.subscribe(AUDIENCE_ID, batch("ada@mail.example", bad))
        assert caught.value.rows == (1,)
        assert sandbox.addresses() == set()

    def test_of_more_than_500_is_refused_as_a_whole(self, client: MailchimpClient) -> None:
        with pytest.raises(BatchRefused):
            client.subscribe(AUDIENCE_ID, batch(*(f"m{n}@mail.example" for n in range(501))))

    @pytest.mark.parametrize("action", ["skipRows", "hideRows"])
    def test_that_is_not_accounted_for_is_noticed(
        self, sandbox: SandboxControl, client: MailchimpClient, action: str
    ) -> None:
        sandbox.set_faults({"action": action, "rows": 1, "match": SUBSCRIBE})
        reply = client.subscribe(AUDIENCE_ID, batch("ada@mail.example", "bob@mail.example"))
        with pytest.raises(ReplyUnusable):
            reply.check(2)


class TestATag:
    def test_is_created_once_whatever_its_case(self, client: MailchimpClient) -> None:
        created = client.find_or_create_tag(AUDIENCE_ID, "Spring buyers")
        assert client.find_or_create_tag(AUDIENCE_ID, "SPRING buyers").id == created.id
        assert client.create_tag(AUDIENCE_ID, "spring Buyers").id == created.id
        assert client.find_tag(AUDIENCE_ID, "Spring") is None
        assert [(tag.name, tag.member_count) for tag in client.tags(AUDIENCE_ID)] == [("Spring buyers", 0)]

    def test_is_set_and_taken_off(self, sandbox: SandboxControl, client: MailchimpClient) -> None:
        client.subscribe(AUDIENCE_ID, batch("ada@mail.example", "bob@mail.example")).check(2)
        tag = client.create_tag(AUDIENCE_ID, "VIP")
        reply = client.tag_members(AUDIENCE_ID, tag.id, ["ada@mail.example", "bob@mail.example", "who@mail.example"])
        assert sorted(reply.added) == ["ada@mail.example", "bob@mail.example"]
        assert reply.total_added == 2
        assert client.untag_members(AUDIENCE_ID, tag.id, ["bob@mail.example"]).removed == ["bob@mail.example"]
        assert {member["email_address"]: member["tags"] for member in sandbox.members()} == {
            "ada@mail.example": ["VIP"],
            "bob@mail.example": [],
        }

    def test_that_somebody_deleted_is_told_from_a_deleted_audience(
        self, sandbox: SandboxControl, client: MailchimpClient
    ) -> None:
        tag = client.create_tag(AUDIENCE_ID, "VIP")
        requests.delete(
            f"{sandbox.api_url}/3.0/lists/{AUDIENCE_ID}/segments/{tag.id}",
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=10,
        ).raise_for_status()
        with pytest.raises(TagNotFound):
            client.tag_members(AUDIENCE_ID, tag.id, ["ada@mail.example"])

    def test_search_shows_all_that_share_a_beginning(self, client: MailchimpClient) -> None:
        for number in range(25):
            client.create_tag(AUDIENCE_ID, f"Segment {number}")
        assert client.create_tag(AUDIENCE_ID, "Segment").name == "Segment"
        assert client.find_or_create_tag(AUDIENCE_ID, "segment 2").name == "Segment 2"
        assert len(client.tags(AUDIENCE_ID)) == 26


PAUSES = [
    ({"action": "problem", "status": 429, "title": "Too Many Requests"}, "tooManyConnections", False, False),
    ({"action": "bare", "status": 429}, "tooManyConnections", False, False),
    ({"action": "bare", "status": 403}, "blocked", False, False),
    ({"action": "bare", "status": 503}, "serverError", True, False),
    ({"action": "bare", "status": 504}, "serverError", True, False),
    ({"action": "problem", "preset": "internalServerError"}, "serverError", True, False),
    ({"action": "resetBefore"}, "connectionLost", True, False),
    ({"action": "resetAfter"}, "connectionLost", True, True),
    ({"action": "noReply", "ms": 300}, "connectionLost", True, True),
    ({"action": "truncate"}, "replyUnusable", True, True),
    ({"action": "truncate", "closeEarly": True}, "connectionLost", True, True),
]


@pytest.mark.parametrize(("fault", "reason", "outcome_unknown", "applied"), PAUSES)
def test_a_passing_fault_pauses_and_sending_again_closes_the_books(
    sandbox: SandboxControl,
    client: MailchimpClient,
    fault: dict[str, Any],
    reason: str,
    outcome_unknown: bool,
    applied: bool,
) -> None:
    client.ping()  # the fault hits a kept-alive connection
    sandbox.set_faults({**fault, "count": 1, "match": SUBSCRIBE})
    body = batch("ada@mail.example")
    with pytest.raises(Unavailable) as caught:
        client.subscribe(AUDIENCE_ID, body)
    assert (caught.value.reason, caught.value.outcome_unknown) == (reason, outcome_unknown)
    assert (sandbox.addresses() == {"ada@mail.example"}) == applied
    reply = client.subscribe(AUDIENCE_ID, body)
    reply.check(1)
    assert (reply.total_created, reply.total_updated) == ((0, 1) if applied else (1, 0))


def test_a_call_that_takes_too_long_pauses_although_it_was_applied(sandbox: SandboxControl) -> None:
    sandbox.set_faults({"action": "noReply", "ms": 3000, "count": 1, "match": SUBSCRIBE})
    client = MailchimpClient(sandbox.api_url, API_KEY, read_timeout_s=0.3)
    with pytest.raises(Unavailable) as caught:
        client.subscribe(AUDIENCE_ID, batch("ada@mail.example"))
    assert (caught.value.reason, caught.value.outcome_unknown) == ("timeout", True)
    client.close()


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("complianceRelated", AccountRestricted),
        ("userDisabled", AccessForbidden),
        ("forbidden", AccessForbidden),
        ("apiKeyInvalid", SignInRefused),
    ],
)
def test_what_only_a_person_can_mend_stops(
    sandbox: SandboxControl, client: MailchimpClient, preset: str, expected: type[MailchimpError]
) -> None:
    sandbox.set_faults({"action": "problem", "preset": preset, "match": SUBSCRIBE})
    with pytest.raises(expected):
        client.subscribe(AUDIENCE_ID, batch("ada@mail.example"))


def test_one_connection_too_many_is_told_to_slow_down(sandbox: SandboxControl, client: MailchimpClient) -> None:
    sandbox.change_settings(maxConnections=1, latencyBaseMs=3000)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.ping)
        wait_for(lambda: sandbox.state()["openCalls"] == 1, "the first call")
        with pytest.raises(Unavailable) as caught:
            client.ping()
        assert caught.value.reason == "tooManyConnections"
        first.result()

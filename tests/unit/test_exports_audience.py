"""What prepare asks Mailchimp before anything is sent, and which changes of the audience end an export then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import requests

from shared.destinations.model import AddressMatching, DataMatching
from shared.exports.audience import Audience, Audiences
from shared.exports.problems import Impossible
from shared.exports.sign_in import SignIns
from shared.mailchimp import AudienceNotFound, MailchimpClient, SignInRefused
from shared.mailchimp.access import MailchimpAccess
from tests.unit.exports_in_memory import ready_destination
from tests.unit.fake_mailchimp import Canned, FakeMailchimp

HOME = AddressMatching(addr1="Street", city="City", state="State", zip="Zip")


class Desk:
    """Stands in for the sign-ins and for the connections; ``noted``: the destinations and secrets that were refused."""

    def __init__(self, mailchimp: FakeMailchimp) -> None:
        self.noted: list[tuple[str, str]] = []
        self._mailchimp = mailchimp

    def token(self, secret_name: str) -> str:
        return f"token in {secret_name}"

    def refused(self, destination_id: str, secret_name: str, problem: str) -> None:
        assert problem
        self.noted.append((destination_id, secret_name))

    @contextmanager
    def lookup(self, account: str, api_root: str, token: str) -> Iterator[MailchimpClient]:
        assert (account, api_root, token) == ("acc1", "https://us1.api.mailchimp.com", "token in mc-d1-1")
        yield self._mailchimp.client()


class Newsletter:
    """The audience, as Mailchimp shows it."""

    def __init__(self) -> None:
        self.is_there = True
        self.signed_in = True
        self.fields = {"FNAME": "text", "HOME": "address"}
        self.tags = {"gold": 7}
        self.asked: list[str] = []
        self.fake = FakeMailchimp(respond=self._respond)
        self.desk = Desk(self.fake)

    def ask(self, matching: DataMatching | None = None, *segments: str) -> Audience:
        audiences = Audiences(cast("SignIns", self.desk), cast("MailchimpAccess", self.desk))
        destination = ready_destination()
        assert destination.set_up is not None
        return audiences.ask(
            destination.id, destination.set_up, matching, segments, lambda: self.asked.append("may we go on?")
        )

    def _respond(self, request: requests.PreparedRequest) -> Canned:
        assert request.url is not None
        path = request.url.split("?")[0].partition("/lists/aud1")[2]
        self.asked.append(f"{request.method} {path or 'audience'}")
        if not self.signed_in:
            return problem(401, "API Key Invalid")
        if not self.is_there:
            return problem(404, "Resource Not Found")
        if request.method == "POST":
            self.tags["Silver"] = 8
            return Canned(body={"id": 8, "name": "Silver"})
        answers: dict[str, list[dict[str, Any]]] = {
            "merge_fields": [{"tag": tag, "name": tag, "type": type_} for tag, type_ in self.fields.items()],
            "members": [{"email_address": "gone@mail.example"}],
            "segments": [{"id": id_, "name": name} for name, id_ in self.tags.items()],
        }
        for name, found in answers.items():
            if path == "/" + name.replace("_", "-"):
                return Canned(body={name: found, "total_items": len(found)})
        return Canned(body={"id": "aud1", "name": "Newsletter"})


def problem(status: int, title: str) -> Canned:
    headers = {"Content-Type": "application/problem+json"}
    return Canned(status, {"status": status, "title": title, "detail": title, "type": "about:blank"}, headers)


@pytest.fixture
def newsletter() -> Newsletter:
    return Newsletter()


def matching(**merge_fields: str | AddressMatching) -> DataMatching:
    return DataMatching(email="EMail", first_name="FirstName", merge_fields=dict(merge_fields))


def test_the_audience_is_asked_for_first_and_the_stop_is_looked_for_after_the_archived(newsletter: Newsletter) -> None:
    found = newsletter.ask(matching(HOME=HOME), "Gold", "Silver")
    assert newsletter.asked == [
        "GET audience",
        "GET /merge-fields",
        "GET /members",
        "may we go on?",
        "GET /segments",
        "POST /segments",
    ]
    assert [value.tag for value in found.values] == ["FNAME", "HOME"]
    assert found.archived == ["gone@mail.example"]
    assert (found.tags, found.tag_ids) == (["gold", "Silver"], {"gold": 7, "Silver": 8}), "as they are written there"


def test_who_does_not_say_what_is_matched_reads_no_merge_fields(newsletter: Newsletter) -> None:
    newsletter.fields = {}
    assert newsletter.ask(None).values == []
    assert "GET /merge-fields" not in newsletter.asked


@pytest.mark.parametrize(
    ("fields", "code", "tag"),
    [
        ({"HOME": "address"}, "mergeFieldMissing", "FNAME"),
        ({"FNAME": "text"}, "mergeFieldMissing", "HOME"),
        ({"FNAME": "text", "HOME": "text"}, "mergeFieldTypeChanged", "HOME"),
        ({"FNAME": "address", "HOME": "address"}, "mergeFieldTypeChanged", "FNAME"),
    ],
    ids=["gone", "address gone", "no address any more", "an address now"],
)
def test_a_merge_field_that_does_not_fit_any_more_ends_the_export_before_anything_is_sent(
    newsletter: Newsletter, fields: dict[str, str], code: str, tag: str
) -> None:
    newsletter.fields = fields
    with pytest.raises(Impossible) as raised:
        newsletter.ask(matching(HOME=HOME), "Silver")
    assert raised.value.problem.code == code
    assert f"merge field {tag}" in raised.value.problem.message
    assert newsletter.tags == {"gold": 7}, "not even a tag is made"


def test_a_refused_sign_in_is_noted_at_the_destination(newsletter: Newsletter) -> None:
    newsletter.signed_in = False
    with pytest.raises(SignInRefused):
        newsletter.ask()
    assert newsletter.desk.noted == [("d1", "mc-d1-1")]


def test_an_audience_that_is_gone_ends_the_export(newsletter: Newsletter) -> None:
    newsletter.is_there = False
    with pytest.raises(AudienceNotFound):
        newsletter.ask()
    assert newsletter.asked == ["GET audience"]
    assert newsletter.desk.noted == []

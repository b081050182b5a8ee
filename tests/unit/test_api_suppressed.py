"""The calls that show and clear those whom Mailchimp refused for good."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from shared.api.suppressed import Code
from shared.exports.refusal_table import Refusal
from shared.mailchimp.row_errors import LASTING
from tests.unit.api_caller import Api, Reply
from tests.unit.setup_fakes import NOW


@pytest.fixture
def address(api: Api) -> str:
    """Of the list, at a destination in whose audience five people are remembered, by two exports."""
    destination = api.setup.ready().destination
    assert destination.sign_in.account_id
    assert destination.audience
    api.setup.refusals.held[destination.sign_in.account_id, destination.audience.id] = [
        Refusal(
            email=f"Person{number}@mail.example",
            code="forgotten" if number % 2 else "fakeOrInvalid",
            message="was refused",
            refused_at=NOW,
            until=NOW + timedelta(days=90),
            export_id="older" if number < 3 else "younger",
            position=number,
        )
        for number in range(5)
    ]
    return f"/api/destinations/{destination.id}/suppressed"


def numbers(reply: Reply) -> list[int]:
    return [member["number"] for member in reply.json["value"]]


def test_members_are_listed_with_the_reason_and_until_when(api: Api, address: str) -> None:
    reply = api.call("GET", address)
    assert numbers(reply) == [3, 4, 0, 1, 2]
    assert reply.json["value"][0] == {
        "email": "Person3@mail.example",
        "code": "forgotten",
        "message": "was refused",
        "refusedAt": "2026-11-23T12:00:00Z",
        "until": "2027-02-21T12:00:00Z",
        "exportId": "younger",
        "number": 3,
    }
    assert reply.json["audienceId"] == "aud1"
    assert reply.json["sharedWith"] == []


def test_pages_follow_each_other_and_no_address_is_in_a_link(api: Api, address: str) -> None:
    found: list[int] = []
    path = f"{address}?top=2"
    while path:
        reply = api.call("GET", path)
        found += numbers(reply)
        parts = urlsplit(reply.json["nextLink"] or "")
        path = f"{parts.path}?{parts.query}" if parts.query else ""
        assert "mail.example" not in path
        assert "bWFpbC5leGFtcGxl"[:8] not in path, "nor in base64"
    assert found == [3, 4, 0, 1, 2]


def test_one_reason_can_be_chosen(api: Api, address: str) -> None:
    assert numbers(api.call("GET", f"{address}?code=forgotten")) == [3, 1]
    assert api.call("GET", f"{address}?code=archived").status == 422


def test_the_reasons_that_can_be_chosen_are_those_that_are_remembered() -> None:
    assert set(get_args(Code)) == set(LASTING)


@pytest.mark.parametrize("after", ["WyJvbGRlciIsIngiXQ", "WyJvbGRlciJd", "nonsense"])
def test_a_cursor_that_no_page_has_answered_is_refused(api: Api, address: str, after: str) -> None:
    reply = api.call("GET", f"{address}?after={after}")
    assert (reply.status, reply.error["target"]) == (422, "after")


def test_destinations_of_the_same_audience_are_named(api: Api, address: str) -> None:
    other = api.setup.ready("Second brand").destination
    assert api.call("GET", address).json["sharedWith"] == [{"id": other.id, "displayName": "Second brand"}]
    cleared = api.call("POST", f"{address}/clear", {"all": True}).json
    assert cleared == {"cleared": 5, "sharedWith": [{"id": other.id, "displayName": "Second brand"}]}


def test_members_are_cleared_by_their_addresses(api: Api, address: str) -> None:
    reply = api.call("POST", f"{address}/clear", {"emails": [" person1@MAIL.example", "nobody@mail.example"]})
    assert (reply.status, reply.json["cleared"]) == (200, 1)
    assert numbers(api.call("GET", address)) == [3, 4, 0, 2]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": 1},
        {"emails": []},
        {"emails": ["a@mail.example"] * 1001},
        {"emails": ["a@mail.example"], "all": True},
        {"emails": [""]},
        {"emails": ["a" * 321]},
        {"emails": "a@mail.example"},
        {"emails": [1]},
        {"everybody": True},
    ],
)
def test_a_request_that_is_not_clear_is_refused_and_clears_nobody(api: Api, address: str, body: Any) -> None:
    reply = api.call("POST", f"{address}/clear", body)
    assert (reply.status, reply.error["code"]) == (422, "invalidRequest")
    assert "mail.example" not in reply.body.decode()
    assert len(numbers(api.call("GET", address))) == 5


def test_clearing_is_on_record_and_in_the_log_without_addresses(
    api: Api, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api.call("POST", f"{address}/clear", {"emails": ["person1@mail.example", "nobody@mail.example"]})
    api.call("POST", f"{address}/clear", {"all": True})
    records = [each for each in api.setup.audit_records() if each.action == "destination.suppressedClearRequested"]
    told = [{change.property: change.after for change in record.changes} for record in records]
    assert told == [{"audienceId": "aud1", "addresses": 2}, {"audienceId": "aud1", "addresses": "all"}]
    assert [record.target_name for record in records] == ["Newsletter", "Newsletter"]
    everything = "".join(record.model_dump_json() for record in records) + caplog.text
    assert "mail.example" not in everything


def test_a_destination_without_an_audience_leaves_nobody_out(api: Api) -> None:
    path = f"/api/destinations/{api.setup.created().destination.id}/suppressed"
    assert api.call("GET", path).json == {"nextLink": None, "audienceId": None, "sharedWith": [], "value": []}
    assert api.call("POST", f"{path}/clear", {"all": True}).json == {"cleared": 0, "sharedWith": []}


def test_a_destination_that_is_being_removed_is_left_as_it_is(api: Api, address: str) -> None:
    destination = next(api.setup.store.all()).destination
    api.setup.exports.start(destination, trigger="onDemand", requested_by=api.setup.audit_records()[0].who)
    assert api.call("DELETE", f"/api/destinations/{destination.id}").status == 202
    reply = api.call("POST", f"{address}/clear", {"all": True})
    assert (reply.status, reply.error["code"]) == (409, "destinationBeingRemoved")
    assert len(numbers(api.call("GET", address))) == 5

"""Segments, the schedule and the health of the app over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api_caller import Api


def test_segments_are_listed_and_described(api: Api) -> None:
    api.setup.segments.reasons["Silver"] = "it has no files"
    listed = api.call("GET", "/api/segments").json["value"]
    assert [(each["name"], each["exportable"], each["reason"]) for each in listed] == [
        ("Gold", True, None),
        ("Silver", False, "it has no files"),
    ]
    gold = api.call("GET", "/api/segments/Gold").json
    assert gold["suggestedDataMatching"] == {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    assert [field["name"] for field in gold["fields"]] == ["CustomerId", "EMail", "FirstName", "LastName", "City"]
    assert gold["files"][0]["name"] == "Gold/data.csv"


def test_a_segment_with_letters_of_any_alphabet_is_found(api: Api) -> None:
    api.setup.segments.fields["Käufer & Gäste"] = ["EMail"]
    assert api.call("GET", "/api/segments/K%C3%A4ufer%20%26%20G%C3%A4ste").json["name"] == "Käufer & Gäste"


def test_an_unknown_segment_is_not_found(api: Api) -> None:
    reply = api.call("GET", "/api/segments/Nope")
    assert (reply.status, reply.error["code"]) == (404, "segmentNotFound")


def test_the_schedule_is_off_until_it_is_set(api: Api) -> None:
    assert api.call("GET", "/api/schedule").json["isActive"] is False
    body = {"isActive": True, "timeZone": "Europe/Berlin", "days": ["friday", "monday"], "times": ["18:00", "06:00"]}
    reply = api.call("PUT", "/api/schedule", body)
    assert reply.json["nextRunAt"] == "2026-11-23T17:00:00Z"
    assert reply.json["days"] == ["monday", "friday"]
    assert reply.json["times"] == ["06:00", "18:00"]
    assert api.call("GET", "/api/schedule").json == reply.json


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"timeZone": "Berlin"}, "timeZone"),
        ({"timeZone": "Pacific Standard Tim"}, "timeZone"),
        ({"timeZone": "America"}, "timeZone"),
        ({"timeZone": "../../etc/passwd"}, "timeZone"),
        ({"timeZone": ""}, "timeZone"),
        ({"times": []}, "times"),
        ({"times": ["01:00", "02:00", "03:00", "04:00", "05:00"]}, "times"),
        ({"times": ["06:00", "06:00"]}, "times"),
        ({"times": ["24:00"]}, "times[0]"),
        ({"times": ["6:00"]}, "times[0]"),
        ({"times": ["٠٦:٠٠"]}, "times[0]"),
        ({"days": ["Monday"]}, "days[0]"),
        ({"days": ["monday", "monday"]}, "days"),
        ({"isActive": "yes"}, "isActive"),
        ({"cron": "* * * * *"}, "cron"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_naming_the_property(
    api: Api, change: dict[str, Any], target: str
) -> None:
    body = {"isActive": True, "timeZone": "UTC", "times": ["06:00"]} | change
    reply = api.call("PUT", "/api/schedule", body)
    assert (reply.status, reply.error["target"]) == (422, target)
    assert api.call("GET", "/api/schedule").json["isActive"] is False


def test_a_city_is_enough_to_suggest_its_time_zone(api: Api) -> None:
    body = {"isActive": True, "timeZone": "Berlin", "times": ["06:00"]}
    assert "'Europe/Berlin'" in api.call("PUT", "/api/schedule", body).error["message"]


def test_health_asks_nothing_and_readiness_asks_everything(api: Api) -> None:
    assert api.call("GET", "/api/ready").json == {"status": "ready", "checks": {"storage": True, "secretStore": True}}
    api.readiness["secretStore"] = False
    reply = api.call("GET", "/api/ready")
    assert (reply.status, reply.json["status"], reply.json["checks"]["secretStore"]) == (503, "notReady", False)
    assert api.call("GET", "/api/health").json == {"status": "ok"}

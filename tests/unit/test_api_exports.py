"""Exports over HTTP: started, listed, followed, canceled, resumed, and whom Mailchimp rejected."""

from __future__ import annotations

import pytest

from shared.destinations.model import Destination, Removal
from shared.exports.errors import RejectedExpired, RejectedNotReady
from shared.exports.model import Status
from tests.unit.api_caller import Api
from tests.unit.api_steps import connected, created, ready, started
from tests.unit.setup_fakes import ADA


def test_starting_an_export_says_where_to_follow_it(api: Api) -> None:
    reply = api.call("POST", f"/api/destinations/{ready(api)}/exports")
    assert reply.status == 202
    assert reply.headers["operation-location"] == f"http://127.0.0.1:7071/api/exports/{reply.json['id']}"
    assert int(reply.headers["retry-after"]) > 0
    assert reply.json["requestedBy"] == "local user"
    assert reply.json["status"] == "Queued"


def test_a_destination_that_is_not_ready_says_what_is_missing(api: Api) -> None:
    reply = api.call("POST", f"/api/destinations/{connected(api)}/exports")
    assert (reply.status, reply.error["code"]) == (409, "destinationNotReady")
    assert [detail["message"] for detail in reply.error["details"]] == [
        "choose an audience",
        "add yourself as export user",
        "match the Email field",
        "choose at least one segment",
    ]


def test_a_second_export_is_a_conflict_that_leads_to_the_first(api: Api) -> None:
    destination_id, export_id = started(api)
    reply = api.call("POST", f"/api/destinations/{destination_id}/exports")
    assert (reply.status, reply.error["code"]) == (409, "exportRunning")
    assert export_id in reply.error["message"]
    assert reply.headers["operation-location"].endswith(f"/api/exports/{export_id}")


def test_the_same_idempotency_key_starts_one_export_only(api: Api) -> None:
    path = f"/api/destinations/{ready(api)}/exports"
    first = api.call("POST", path, headers={"Idempotency-Key": "monday"})
    again = api.call("POST", path, headers={"Idempotency-Key": "monday"})
    assert (first.status, again.status) == (202, 202)
    assert first.json["id"] == again.json["id"]
    api.setup.exports.end(first.json["id"])
    after_end = api.call("POST", path, headers={"Idempotency-Key": "monday"})
    assert after_end.json["id"] == first.json["id"]
    assert "retry-after" not in after_end.headers


def test_no_caller_can_take_a_key_of_the_schedule(api: Api) -> None:
    path = f"/api/destinations/{ready(api)}/exports"
    api.call("POST", path, headers={"Idempotency-Key": "schedule-2026-11-24T00:00:00+00:00"})
    assert all(key.startswith("request-") for _, key in api.setup.exports.keys)


@pytest.mark.parametrize("key", ["x" * 256, "two words"])
def test_an_idempotency_key_has_limits(api: Api, key: str) -> None:
    reply = api.call("POST", f"/api/destinations/{ready(api)}/exports", headers={"Idempotency-Key": key})
    assert (reply.status, reply.error["target"]) == (422, "Idempotency-Key")
    assert api.setup.exports.views == {}


def test_exporting_all_starts_the_ready_ones_and_says_why_others_are_left_out(api: Api) -> None:
    running, running_export = started(api, "A")
    unfinished = created(api, "B")
    idle = ready(api, "C")
    reply = api.call("POST", "/api/exports", headers={"Idempotency-Key": "k"})
    assert reply.status == 202
    assert [export["destinationId"] for export in reply.json["started"]] == [idle]
    assert [(each["destinationId"], each["code"], each["exportId"]) for each in reply.json["skipped"]] == [
        (running, "exportRunning", running_export),
        (unfinished, "destinationNotReady", None),
    ]
    again = api.call("POST", "/api/exports", headers={"Idempotency-Key": "k"})
    assert again.json["started"] == reply.json["started"]


def test_the_history_can_be_filtered_and_cut(api: Api) -> None:
    first, first_export = started(api, "A")
    _, second_export = started(api, "B")
    api.setup.exports.end(first_export, Status.FAILED)

    def listed(query: str) -> list[str]:
        return [export["id"] for export in api.call("GET", f"/api/exports{query}").json["value"]]

    assert listed("") == [second_export, first_export]
    assert listed("?top=1") == [second_export]
    assert listed(f"?destinationId={first}") == [first_export]
    assert listed("?status=Failed") == [first_export]
    assert listed("?status=Successful") == []


@pytest.mark.parametrize("query", ["top=0", "top=201", "top=x", "status=Done", "destinationId=../x"])
def test_a_filter_that_makes_no_sense_is_named(api: Api, query: str) -> None:
    reply = api.call("GET", f"/api/exports?{query}")
    assert reply.status == 422
    assert reply.error["target"].removesuffix("[0]") == query.split("=", maxsplit=1)[0]


def test_an_export_is_to_be_asked_for_again_until_it_has_ended(api: Api) -> None:
    _, export_id = started(api)
    assert "retry-after" in api.call("GET", f"/api/exports/{export_id}").headers
    api.setup.exports.end(export_id)
    ended = api.call("GET", f"/api/exports/{export_id}")
    assert ended.json["status"] == "Successful"
    assert "retry-after" not in ended.headers


def test_canceling_is_accepted_once_the_export_runs_and_refused_when_it_has_ended(api: Api) -> None:
    _, export_id = started(api)
    reply = api.call("POST", f"/api/exports/{export_id}/cancel")
    assert reply.status == 202
    assert reply.headers["operation-location"].endswith(export_id)
    assert api.setup.exports.stopped == [(export_id, "local user")]
    api.setup.exports.end(export_id, Status.CANCELED)
    refused = api.call("POST", f"/api/exports/{export_id}/cancel")
    assert (refused.status, refused.error["code"]) == (409, "exportEnded")


def test_resuming_is_accepted_once_and_leads_to_the_new_export(api: Api) -> None:
    _, export_id = started(api)
    path = f"/api/exports/{export_id}/resume"
    assert api.call("POST", path).error["code"] == "exportNotEnded"
    api.setup.exports.end(export_id, Status.CANCELED)
    reply = api.call("POST", path, headers={"Idempotency-Key": "rest-1"})
    assert (reply.status, reply.json["resumes"]) == (202, export_id)
    assert reply.headers["operation-location"].endswith(reply.json["id"])
    assert reply.headers["retry-after"] == "2"
    again = api.call("POST", path)
    assert (again.status, again.error["code"]) == (409, "alreadyResumed")
    assert again.headers["operation-location"].endswith(reply.json["id"])


def test_nothing_of_a_destination_that_is_being_removed_is_resumed(api: Api) -> None:
    destination_id, export_id = started(api)
    api.setup.exports.end(export_id, Status.CANCELED)

    def mark(destination: Destination) -> Destination:
        destination.removal = Removal(requested_by=ADA, requested_at=destination.created_at)
        return destination

    api.setup.store.change(destination_id, mark, by=ADA, action="destination.removalStarted")
    reply = api.call("POST", f"/api/exports/{export_id}/resume")
    assert (reply.status, reply.error["code"]) == (409, "destinationBeingRemoved")


def test_rejected_profiles_are_a_csv_file_to_save(api: Api) -> None:
    _, export_id = started(api)
    api.setup.exports.csv = "email,reason\r\nödön@contoso.example,fake\r\n".encode()
    reply = api.call("GET", f"/api/exports/{export_id}/rejected")
    assert reply.body == api.setup.exports.csv
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"] == f'attachment; filename="rejected-{export_id}.csv"'
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("error", "status"), [(RejectedNotReady("e"), 409), (RejectedExpired("e"), 410)])
def test_rejected_profiles_that_are_not_there_say_why(api: Api, error: Exception, status: int) -> None:
    api.setup.exports.fault = error
    reply = api.call("GET", "/api/exports/e/rejected")
    assert (reply.status, reply.error["message"]) == (status, str(error))


def test_an_unknown_export_cannot_be_resumed(api: Api) -> None:
    assert api.call("POST", "/api/exports/e/resume").error["code"] == "exportNotFound"


@pytest.mark.parametrize("path", ["", "/rejected"])
def test_an_unknown_export_is_not_found(api: Api, path: str) -> None:
    assert api.call("GET", f"/api/exports/e{path}").error["code"] == "exportNotFound"


def test_a_start_takes_no_properties(api: Api) -> None:
    reply = api.call("POST", f"/api/destinations/{ready(api)}/exports", {"full": True})
    assert (reply.status, reply.error["target"]) == (422, "full")
    assert api.call("POST", "/api/exports", {}).status == 202

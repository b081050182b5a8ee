"""The HTTP API from creating a destination to the rejected profiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.destinations.model import Destination, Removal
from shared.exports.errors import RejectedExpired, RejectedNotReady
from shared.exports.model import Status
from tests.unit.api_caller import Api
from tests.unit.setup_fakes import ADA, KEY

READY = {
    "audienceId": "aud1",
    "segments": ["Gold"],
    "dataMatching": {"email": "EMail", "firstName": "FirstName", "mergeFields": {"CITY": "City"}},
}


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


def created(api: Api, name: str = "Newsletter") -> str:
    reply = api.call("POST", "/api/destinations", {"displayName": name, "consent": {"agreed": True}})
    assert reply.status == 201
    return str(reply.json["id"])


def connected(api: Api, name: str = "Newsletter") -> str:
    destination_id = created(api, name)
    assert api.call("PUT", f"/api/destinations/{destination_id}/api-key", {"apiKey": KEY}).status == 200
    return destination_id


def ready(api: Api, name: str = "Newsletter") -> str:
    destination_id = connected(api, name)
    assert api.call("PUT", f"/api/destinations/{destination_id}/export-user").status == 200
    assert api.call("PATCH", f"/api/destinations/{destination_id}", READY).json["ready"] is True
    return destination_id


def started(api: Api, name: str = "Newsletter") -> tuple[str, str]:
    destination_id = ready(api, name)
    reply = api.call("POST", f"/api/destinations/{destination_id}/exports")
    assert reply.status == 202
    return destination_id, str(reply.json["id"])


# -- destinations ------------------------------------------------------------------------------------------------


def test_creating_answers_where_the_destination_is_and_its_etag(api: Api) -> None:
    reply = api.call("POST", "/api/destinations", {"displayName": " Newsletter ", "consent": {"agreed": True}})
    assert reply.status == 201
    assert reply.headers["location"] == f"http://127.0.0.1:7071/api/destinations/{reply.json['id']}"
    assert reply.headers["etag"] == api.call("GET", f"/api/destinations/{reply.json['id']}").headers["etag"]
    assert reply.json["displayName"] == "Newsletter"
    assert reply.json["consent"]["agreedBy"] == "local user"


def test_the_text_that_is_agreed_to_can_be_read(api: Api) -> None:
    reply = api.call("GET", "/api/consent-text")
    assert reply.json["version"] == api.setup.created().destination.consent.text_version
    assert "Mailchimp" in reply.json["text"]


@pytest.mark.parametrize("consent", [{}, {"consent": {"agreed": False}}, {"consent": None}])
def test_without_consent_the_error_names_the_property(api: Api, consent: dict[str, Any]) -> None:
    reply = api.call("POST", "/api/destinations", {"displayName": "Newsletter"} | consent)
    assert (reply.status, reply.error["code"], reply.error["target"]) == (422, "consentRequired", "consent.agreed")


@pytest.mark.parametrize("name", ["", "   ", "x" * 129, "two\nlines", "\u202eevil", None, 5, ["a"]])
def test_a_display_name_that_cannot_be_shown_is_refused(api: Api, name: Any) -> None:
    reply = api.call("POST", "/api/destinations", {"displayName": name, "consent": {"agreed": True}})
    assert (reply.status, reply.error["target"]) == (422, "displayName")


def test_the_list_holds_every_destination(api: Api) -> None:
    ids = {created(api, "A"), created(api, "B")}
    assert {each["id"] for each in api.call("GET", "/api/destinations").json["value"]} == ids


def test_a_taken_name_is_a_conflict(api: Api) -> None:
    created(api)
    reply = api.call("POST", "/api/destinations", {"displayName": "newsletter", "consent": {"agreed": True}})
    assert (reply.status, reply.error["code"], reply.error["target"]) == (409, "displayNameTaken", "displayName")


def test_signing_in_never_answers_the_key(api: Api) -> None:
    destination_id = created(api)
    reply = api.call("PUT", f"/api/destinations/{destination_id}/api-key", {"apiKey": KEY})
    assert reply.json["signIn"]["state"] == "connected"
    assert reply.json["signIn"]["accountName"] == "Contoso"
    for answer in (reply, api.call("GET", f"/api/destinations/{destination_id}"), api.call("GET", "/api/destinations")):
        assert KEY.encode() not in answer.body
        assert b"secretName" not in answer.body


@pytest.mark.parametrize(
    ("key", "code"), [("1" * 32 + "-us19", "signInRefused"), ("nonsense", "apiKeyMalformed"), ("", "invalidRequest")]
)
def test_a_key_that_does_not_work_is_refused_without_repeating_it(api: Api, key: str, code: str) -> None:
    reply = api.call("PUT", f"/api/destinations/{created(api)}/api-key", {"apiKey": key})
    assert (reply.status, reply.error["code"], reply.error["target"]) == (422, code, "apiKey")
    assert not key or key.encode() not in reply.body
    assert not api.setup.secrets.values


def test_a_key_of_the_wrong_type_is_not_repeated_either(api: Api) -> None:
    reply = api.call("PUT", f"/api/destinations/{created(api)}/api-key", {"apiKey": [KEY]})
    assert reply.status == 422
    assert KEY.encode() not in reply.body


def test_audiences_are_listed_with_their_merge_fields(api: Api) -> None:
    destination_id = connected(api)
    listed = api.call("GET", f"/api/destinations/{destination_id}/audiences").json["value"]
    assert [audience["name"] for audience in listed] == ["Customers", "Partners"]
    assert listed[0]["mergeFields"][2] == {"tag": "ADDRESS", "name": "Address", "type": "address", "required": False}
    assert api.call("GET", f"/api/destinations/{destination_id}/audiences/aud2").json == listed[1]
    assert api.call("GET", f"/api/destinations/{destination_id}/audiences/aud9").error["code"] == "audienceNotFound"


def test_audiences_before_signing_in_are_a_conflict(api: Api) -> None:
    reply = api.call("GET", f"/api/destinations/{created(api)}/audiences")
    assert (reply.status, reply.error["code"]) == (409, "notConnected")


def test_every_finding_of_a_refused_change_is_listed_with_its_target(api: Api) -> None:
    body = READY | {"segments": ["Gold", "Nope"], "dataMatching": {"email": "Mail"}}
    reply = api.call("PATCH", f"/api/destinations/{connected(api)}", body)
    assert reply.status == 422
    assert reply.error["code"] == "configurationInvalid"
    assert [detail["target"] for detail in reply.error["details"]] == ["segments[1]", "dataMatching.email"]


def test_a_part_of_an_address_that_is_missing_is_named(api: Api) -> None:
    body = {
        "dataMatching": {"email": "EMail", "mergeFields": {"ADDRESS": {"addr1": "City", "city": "City", "zip": "Z"}}}
    }
    reply = api.call("PATCH", f"/api/destinations/{connected(api)}", body)
    assert (reply.status, reply.error["target"]) == (422, "dataMatching.mergeFields.ADDRESS.state")


def test_a_merge_tag_in_lower_case_is_refused(api: Api) -> None:
    body = {"dataMatching": {"email": "EMail", "mergeFields": {"city": "City"}}}
    reply = api.call("PATCH", f"/api/destinations/{connected(api)}", body)
    assert (reply.status, reply.error["target"]) == (422, "dataMatching.mergeFields.city")
    assert "upper-case" in reply.error["message"]


def test_the_caller_becomes_the_export_user(api: Api) -> None:
    reply = api.call("PUT", f"/api/destinations/{created(api)}/export-user")
    assert (reply.status, reply.json["exportUser"]["name"]) == (200, "local user")


def test_a_change_with_a_stale_etag_fails_and_with_the_right_one_works(api: Api) -> None:
    destination_id = created(api)
    path = f"/api/destinations/{destination_id}"
    stale = api.call("GET", path).headers["etag"]
    newer = api.call("PATCH", path, {"displayName": "B"}, headers={"If-Match": stale}).headers["etag"]
    refused = api.call("PATCH", path, {"displayName": "C"}, headers={"If-Match": stale})
    assert (refused.status, refused.error["code"]) == (412, "destinationChanged")
    assert api.call("DELETE", path, headers={"If-Match": stale}).status == 412
    assert api.call("PATCH", path, {"displayName": "D"}, headers={"If-Match": "*"}).status == 200
    assert api.call("PATCH", path, {"displayName": "E"}, headers={"If-Match": newer}).status == 412
    assert api.call("PATCH", path, {"displayName": "F"}).status == 200


def test_a_removed_destination_is_gone(api: Api) -> None:
    destination_id = ready(api)
    assert api.call("DELETE", f"/api/destinations/{destination_id}").status == 204
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"displayName": "A"}),
        ("DELETE", "", None),
        ("POST", "/exports", None),
        ("PUT", "/api-key", {"apiKey": KEY}),
        ("PUT", "/export-user", None),
        ("GET", "/audiences", None),
    ):
        reply = api.call(method, f"/api/destinations/{destination_id}{path}", body)
        assert (reply.status, reply.error["code"]) == (404, "destinationNotFound"), path


# -- exports -----------------------------------------------------------------------------------------------------


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


# -- segments, schedule, health ----------------------------------------------------------------------------------


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

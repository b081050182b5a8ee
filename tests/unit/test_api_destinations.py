"""Destinations over HTTP: made, signed in, configured, changed by two at once, and gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api_caller import Api
from tests.unit.api_steps import READY, connected, created, ready
from tests.unit.setup_fakes import KEY


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

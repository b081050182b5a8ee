"""The sandbox's answers have the form of real ones.

The forms and documents below were taken from recordings of the live Marketing API published by Grouparoo
(github.com/grouparoo/grouparoo, plugin mailchimp, MIT, 2021-2022) and from replies that users quote in public issues
(named at each). Addresses and ids are made up.
"""

from __future__ import annotations

from typing import Any

import pytest

from dev.sandbox.in_process import LIST, InProcessSandbox, row

GLOSSARY = "https://mailchimp.com/developer/marketing/docs/errors/"
LINK = {"rel": str, "href": str, "method": str, "targetSchema": str}
MEMBER = {
    "id": str,
    "email_address": str,
    "unique_email_id": str,
    "contact_id": str,
    "full_name": str,
    "web_id": int,
    "email_type": str,
    "status": str,
    "consents_to_one_to_one_messaging": bool,
    "merge_fields": dict.fromkeys(
        ("FNAME", "LNAME", "ADDRESS", "PHONE", "BIRTHDAY", "LTV", "JOINED", "PLAN", "WEBSITE", "ZIP"), str
    ),
    "stats": {"avg_open_rate": int, "avg_click_rate": int},
    "ip_signup": str,
    "timestamp_signup": str,
    "ip_opt": str,
    "timestamp_opt": str,
    "member_rating": int,
    "last_changed": str,
    "language": str,
    "vip": bool,
    "email_client": str,
    "location": {
        "latitude": int,
        "longitude": int,
        "gmtoff": int,
        "dstoff": int,
        "country_code": str,
        "timezone": str,
        "region": str,
    },
    "source": str,
    "tags_count": int,
    "tags": [{"id": int, "name": str}],
    "list_id": str,
    "_links": [LINK],
}
LINK_RELATIONS = ["self", "parent", "update", "upsert", "delete", "activity", "goals", "notes", "events"]
AUDIENCE = {
    **dict.fromkeys(
        (
            "id",
            "name",
            "permission_reminder",
            "notify_on_subscribe",
            "notify_on_unsubscribe",
            "date_created",
            "subscribe_url_short",
            "subscribe_url_long",
            "beamer_address",
            "visibility",
        ),
        str,
    ),
    **dict.fromkeys(
        ("use_archive_bar", "email_type_option", "double_optin", "has_welcome", "marketing_permissions"), bool
    ),
    "web_id": int,
    "campaign_defaults": dict.fromkeys(("from_name", "from_email", "subject", "language"), str),
    "list_rating": int,
    "modules": [],
    "stats": {
        **dict.fromkeys(
            (
                "member_count",
                "unsubscribe_count",
                "cleaned_count",
                "member_count_since_send",
                "unsubscribe_count_since_send",
                "cleaned_count_since_send",
                "campaign_count",
                "merge_field_count",
                "avg_sub_rate",
                "avg_unsub_rate",
                "target_sub_rate",
                "open_rate",
                "click_rate",
            ),
            int,
        ),
        **dict.fromkeys(("campaign_last_sent", "last_sub_date", "last_unsub_date"), str),
    },
    "_links": [LINK],
}
MERGE_FIELD = {
    "merge_id": int,
    "tag": str,
    "name": str,
    "type": str,
    "required": bool,
    "default_value": str,
    "public": bool,
    "display_order": int,
    "help_text": str,
    "list_id": str,
}


def form(value: Any) -> Any:
    """A document with its values replaced by their types; of an array the first element speaks for all."""
    if isinstance(value, dict):
        return {name: form(item) for name, item in value.items()}
    if isinstance(value, list):
        return [form(item) for item in value[:1]]
    return type(value)


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


def without_instance(document: dict[str, Any]) -> dict[str, Any]:
    assert len(document.pop("instance")) == 36
    return document


def test_a_member_object_has_every_property_of_the_recorded_one(client: InProcessSandbox) -> None:
    client.subscribe(row("ada@mail.example", merge_fields={"FNAME": "Ada", "LNAME": "Byron"}, tags=["people"]))
    member = client.json("GET", f"{LIST}/members/ada@mail.example")
    assert form(member) == MEMBER
    assert [link["rel"] for link in member["_links"]] == [*LINK_RELATIONS, "delete_permanent"]
    assert member["full_name"] == "Ada Byron"
    assert member["timestamp_opt"] == "2023-11-14T22:13:20+00:00"


def test_an_unsubscribed_member_says_who_unsubscribed(client: InProcessSandbox) -> None:
    client.subscribe(row("ada@mail.example", tags=["people"]))
    member = client.json("PUT", f"{LIST}/members/ada@mail.example", {"status": "unsubscribed"})
    assert form(member) == {**MEMBER, "unsubscribe_reason": str}
    assert member["unsubscribe_reason"] == "N/A (Unsubscribed by admin)"


def test_an_audience_with_marketing_permissions_shows_three_of_them_per_member(client: InProcessSandbox) -> None:
    audience = client.json("POST", "/_sandbox/audiences", {"name": "GDPR", "marketingPermissions": True}, 201)["id"]
    body = {"email_address": "ada@mail.example", "status": "subscribed"}
    member = client.json("POST", f"/3.0/lists/{audience}/members", body)
    assert [(item["text"], item["enabled"]) for item in member["marketing_permissions"]] == [
        ("Email", False),
        ("Direct Mail", False),
        ("Customized Online Advertising", False),
    ]
    assert client.json("GET", f"/3.0/lists/{audience}")["marketing_permissions"] is True


def test_audiences_look_as_recorded(client: InProcessSandbox) -> None:
    document = client.json("GET", "/3.0/lists")
    assert form(document["lists"][0]) == AUDIENCE
    assert sorted(document) == ["_links", "constraints", "lists", "total_items"]
    assert sorted(document["constraints"]) == ["current_total_instances", "max_instances", "may_create"]
    assert form(client.json("GET", LIST)) == AUDIENCE


def test_merge_fields_look_as_recorded_and_come_in_order_of_their_tags(client: InProcessSandbox) -> None:
    document = client.json("GET", f"{LIST}/merge-fields", count="100")
    tags = [field["tag"] for field in document["merge_fields"]]
    assert tags == sorted(tags)
    assert {"ADDRESS", "FNAME", "LNAME", "PHONE", "BIRTHDAY"} <= set(tags)
    for field in document["merge_fields"]:
        assert isinstance(field.pop("options"), dict)
        assert form(field) == MERGE_FIELD
    assert document["total_items"] == len(tags)


def test_a_wrong_merge_value_answers_as_recorded(client: InProcessSandbox) -> None:
    client.subscribe(row("ada@mail.example"))
    body = {"email_address": "ada@mail.example", "merge_fields": {"email_address": "x", "FNAME": "A", "LTV": "AAAAA"}}
    document = client.json("PUT", f"{LIST}/members/ada@mail.example", body, 400)
    assert without_instance(document) == {
        "type": GLOSSARY,
        "title": "Invalid Resource",
        "status": 400,
        "detail": "Your merge fields were invalid.",
        "errors": [{"field": "LTV", "message": "Please enter a number"}],
    }


def test_an_address_that_another_member_has_answers_as_recorded_without_a_type(client: InProcessSandbox) -> None:
    client.subscribe(row("ada@mail.example"), row("bob@mail.example"))
    body = {"email_address": "bob@mail.example", "status": "subscribed"}
    for name in ("ada@mail.example", "17cee0cf256326fd9119bae95bcb47b1"):
        document = client.json("PUT", f"{LIST}/members/{name}", body, 400)
        assert without_instance(document) == {
            "title": "Member Exists",
            "status": 400,
            "detail": "bob@mail.example is already a list member. Use PUT to insert or update list members.",
        }


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        ("AAAAA", "Please provide a valid email address."),
        ("foo@example.com", "foo@example.com looks fake or invalid, please enter a real email address."),
    ],
)
def test_refused_addresses_answer_as_recorded(client: InProcessSandbox, address: str, detail: str) -> None:
    document = client.json("POST", f"{LIST}/members", {"email_address": address, "status": "subscribed"}, 400)
    expected = {"type": GLOSSARY, "title": "Invalid Resource", "status": 400, "detail": detail}
    assert without_instance(document) == expected


def test_tags_of_an_unknown_member_answer_as_recorded(client: InProcessSandbox) -> None:
    body = {"tags": [{"name": "list one", "status": "inactive"}]}
    path = f"{LIST}/members/5eb0d793a5aa4f1b9fd29305d6afbf7c/tags"
    reply = client.reply("POST", path, body)
    assert reply.content_type == "application/problem+json; charset=utf-8"
    assert without_instance(client.json("POST", path, body, 404)) == {
        "type": GLOSSARY,
        "title": "Resource Not Found",
        "status": 404,
        "detail": "The requested resource could not be found.",
    }


def test_archiving_an_archived_member_answers_as_recorded(client: InProcessSandbox) -> None:
    client.preload({"email_address": "ada@mail.example", "status": "archived"})
    reply = client.reply("DELETE", f"{LIST}/members/ada@mail.example")
    assert ("Allow", "GET, PUT") in reply.headers
    document = client.json("DELETE", f"{LIST}/members/ada@mail.example", expect=405)
    assert without_instance(document) == {
        "type": GLOSSARY,
        "title": "Method Not Allowed",
        "status": 405,
        "detail": "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived",
    }


def test_a_compliance_state_answers_as_quoted(client: InProcessSandbox) -> None:
    """github.com/ibericode/mailchimp-for-wordpress/issues/798"""
    client.preload({"email_address": "ada@mail.example", "status": "unsubscribed", "compliance": True})
    for method in ("PATCH", "PUT"):
        document = client.json(method, f"{LIST}/members/ada@mail.example", {"status": "subscribed"}, 400)
        assert without_instance(document) == {
            "title": "Member In Compliance State",
            "status": 400,
            "detail": "ada@mail.example is in a compliance state due to unsubscribe, bounce, or compliance review and "
            "cannot be subscribed.",
        }


def test_a_forgotten_address_answers_as_quoted(client: InProcessSandbox) -> None:
    """github.com/ibericode/mailchimp-for-wordpress/issues/771"""
    client.preload({"email_address": "ada@mail.example", "forgotten": True})
    body = {"email_address": "ada@mail.example", "status": "subscribed"}
    assert without_instance(client.json("POST", f"{LIST}/members", body, 400)) == {
        "title": "Forgotten Email Not Subscribed",
        "status": 400,
        "detail": "ada@mail.example was permanently deleted and cannot be re-imported. The contact must re-subscribe "
        "to get back on the list.",
    }


def test_too_many_members_for_a_segment_answer_as_quoted(client: InProcessSandbox) -> None:
    """github.com/hitobito/hitobito/issues/1819"""
    segment = client.json("POST", f"{LIST}/segments", {"name": "T", "static_segment": []})["id"]
    for name in ("members_to_add", "members_to_remove"):
        body = {name: [f"p{n}@mail.example" for n in range(501)]}
        document = client.json("POST", f"{LIST}/segments/{segment}", body, 400)
        assert without_instance(document) == {
            "type": GLOSSARY,
            "title": "Invalid Resource",
            "status": 400,
            "detail": "Maximum allowed member items exceeded, please provide at most 500 items in members_to_add field "
            "or members_to_remove field",
        }


def test_a_taken_tag_name_answers_as_quoted(client: InProcessSandbox) -> None:
    client.subscribe(row("ada@mail.example", tags=["Loyal customers"]))
    document = client.json("POST", f"{LIST}/segments", {"name": "LOYAL Customers", "static_segment": []}, 400)
    assert (document["status"], document["detail"]) == (400, "Sorry, that tag already exists.")


def test_a_key_of_another_data_centre_answers_as_quoted(client: InProcessSandbox) -> None:
    """github.com/rudderlabs/rudder-transformer, Mailchimp destination"""
    reply = client.reply("GET", "/3.0/ping", authorization="Bearer 0123456789abcdef-us6")
    assert reply.status == 403
    assert b"The API key provided is linked to datacenter 'us6'" in reply.body
    assert b'"title":"Forbidden"' in reply.body


def test_an_internal_error_answers_as_quoted(client: InProcessSandbox) -> None:
    """github.com/mailchimp/APIv3-examples/issues/28"""
    client.set_faults({"action": "problem", "preset": "internalServerError"})
    document = client.json("GET", "/3.0/ping", expect=500)
    assert document["type"] == "about:blank"
    assert sorted(document) == ["detail", "exception", "instance", "status", "title", "type"]
    assert document["detail"].startswith("A deep, internal error has occurred")

"""Batch subscribe of the sandbox: what fails a whole call, what fails one member, what is applied."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dev.sandbox.in_process import LIST, InProcessSandbox, row


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


def test_new_members_are_created_with_status_merge_fields_and_tags(client: InProcessSandbox) -> None:
    answer = client.subscribe(
        row("Ada@mail.example", merge_fields={"FNAME": "Ada", "LTV": "12.5"}, tags=["VIP", "a b"])
    )
    assert (answer["total_created"], answer["total_updated"], answer["error_count"]) == (1, 0, 0)
    assert [tag["name"] for tag in answer["new_members"][0]["tags"]] == ["VIP", "a b"]
    assert client.held() == {
        "Ada@mail.example": {
            "email_address": "Ada@mail.example",
            "status": "subscribed",
            "merge_fields": {"FNAME": "Ada", "LTV": 12.5},
            "tags": ["VIP", "a b"],
            "compliance": False,
        }
    }


def test_five_hundred_rows_are_taken_and_one_more_fails_the_call(client: InProcessSandbox) -> None:
    rows = [row(f"p{n}@mail.example") for n in range(501)]
    assert client.subscribe(*rows, expect=400)["errors"][0]["field"] == "members"
    assert client.held() == {}
    assert client.subscribe(*rows[:500])["total_created"] == 500


def test_the_same_address_twice_fails_the_whole_call(client: InProcessSandbox) -> None:
    document = client.subscribe(row("a@mail.example"), row(" A@MAIL.example"), expect=400)
    assert document["title"] == "Invalid Resource"
    assert document["detail"].startswith("Duplicate items found for email A@MAIL.example")
    assert client.held() == {}


def test_with_skip_duplicate_check_the_first_appearance_wins(client: InProcessSandbox) -> None:
    answer = client.subscribe(
        row("a@mail.example", merge_fields={"FNAME": "first"}),
        row("A@mail.example", merge_fields={"FNAME": "second"}),
        skip_duplicate_check=True,
    )
    assert answer["total_created"] + answer["total_updated"] + answer["error_count"] == 1
    assert client.held()["a@mail.example"]["merge_fields"] == {"FNAME": "first"}


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        ({"status": ""}, ".status", "Data presented is not one of the accepted values"),
        ({"email_address": 7}, ".email_address", "Schema describes string, integer found instead"),
        ({"merge_fields": []}, ".merge_fields", "Schema describes object, array found instead"),
        ({"tags": ["x", 5]}, ".tags.item:1", "Schema describes string, integer found instead"),
        ({"status_if_new": None}, "", "Data did not match any of the schemas described in anyOf."),
    ],
)
def test_a_schema_error_in_a_row_fails_the_call_and_names_the_row(
    client: InProcessSandbox, wrong: dict[str, Any], field: str, message: str
) -> None:
    document = client.subscribe(row("a@mail.example"), {**row("b@mail.example"), **wrong}, expect=400)
    assert document["detail"].startswith("The resource submitted could not be validated.")
    assert [error["field"] for error in document["errors"]] == ["members.item:1" + field]
    assert document["errors"][0]["message"].startswith(message)
    assert client.held() == {}


def test_every_wrong_row_is_named(client: InProcessSandbox) -> None:
    rows = [row("a@mail.example", status="no"), row("b@mail.example"), row("c@mail.example", vip="yes")]
    document = client.subscribe(*rows, expect=400)
    assert [error["field"] for error in document["errors"]] == ["members.item:0.status", "members.item:2.vip"]


@pytest.mark.parametrize(
    "body", [b"{", b"", b'{"members":[{"email_address":"\xff"}]}', b"null", b'{"members":1}', b"{}"]
)
def test_a_body_that_is_no_batch_answers_400(client: InProcessSandbox, body: bytes) -> None:
    assert client.reply("POST", LIST, body).status == 400


def test_an_existing_member_is_refused_without_update_existing(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example"))
    answer = client.subscribe(row("A@mail.example"), update_existing=False)
    assert answer["errors"] == [
        {
            "email_address": "A@mail.example",
            "error": "A@mail.example is already a list member, do you want to update? please provide "
            "update_existing:true in the request body",
            "error_code": "ERROR_CONTACT_EXISTS",
            "field": "",
            "field_message": "",
        }
    ]


@pytest.mark.parametrize("status", ["subscribed", "unsubscribed", "cleaned", "pending", "transactional"])
@pytest.mark.parametrize("compliance", [False, True])
def test_status_if_new_updates_the_data_and_never_the_status(
    client: InProcessSandbox, status: str, compliance: bool
) -> None:
    client.preload({"email_address": "a@mail.example", "status": status, "compliance": compliance})
    answer = client.subscribe(row("a@mail.example", merge_fields={"FNAME": "Ada"}, tags=["T"]))
    assert answer["total_updated"] == 1
    contact = client.held()["a@mail.example"]
    assert (contact["status"], contact["compliance"]) == (status, compliance)
    assert (contact["merge_fields"], contact["tags"]) == ({"FNAME": "Ada"}, ["T"])


def test_status_subscribed_resubscribes_who_was_unsubscribed_by_an_administrator(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "status": "unsubscribed"})
    assert client.subscribe({"email_address": "a@mail.example", "status": "subscribed"})["total_updated"] == 1
    assert client.held()["a@mail.example"]["status"] == "subscribed"


@pytest.mark.parametrize(("status", "compliance"), [("unsubscribed", True), ("cleaned", False), ("archived", True)])
def test_status_subscribed_is_refused_in_a_compliance_state(
    client: InProcessSandbox, status: str, compliance: bool
) -> None:
    client.preload({"email_address": "a@mail.example", "status": status, "compliance": compliance})
    answer = client.subscribe({"email_address": "a@mail.example", "status": "subscribed"}, row("b@mail.example"))
    assert (answer["total_created"], answer["error_count"]) == (1, 1)
    assert answer["errors"][0]["error_code"] == "ERROR_GENERIC"
    assert "is in a compliance state" in answer["errors"][0]["error"]
    assert client.held()["a@mail.example"]["status"] == status


def test_a_contact_that_was_set_to_pending_has_left_the_compliance_state(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "status": "unsubscribed", "compliance": True})
    for status in ("pending", "subscribed"):
        assert client.subscribe({"email_address": "a@mail.example", "status": status})["total_updated"] == 1
        assert client.held()["a@mail.example"]["status"] == status


@pytest.mark.parametrize("update_existing", [True, False])
def test_an_archived_contact_comes_back_and_counts_as_created(client: InProcessSandbox, update_existing: bool) -> None:
    client.preload({"email_address": "a@mail.example", "status": "archived", "tags": ["old"]})
    answer = client.subscribe(row("a@mail.example", tags=["new"]), update_existing=update_existing)
    assert (answer["total_created"], answer["total_updated"]) == (1, 0)
    contact = client.held()["a@mail.example"]
    assert (contact["status"], contact["tags"]) == ("subscribed", ["old", "new"])


def test_a_forgotten_address_is_refused(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "forgotten": True})
    answer = client.subscribe(row("A@mail.example"))
    assert "was permanently deleted and cannot be re-imported" in answer["errors"][0]["error"]
    assert client.held() == {}


@pytest.mark.parametrize(
    "address",
    ["foo@example.com", "foo@EXAMPLE.org", "foo@example.net", "foo@mail.con", "foo@mailinator.com"],
)
def test_fake_addresses_are_refused_member_by_member(client: InProcessSandbox, address: str) -> None:
    answer = client.subscribe(row(address), row("good@mail.example"))
    assert answer["total_created"] == 1
    assert answer["errors"][0]["error"] == f"{address} looks fake or invalid, please enter a real email address."


@pytest.mark.parametrize(
    "address",
    ["AAAAA", "", "a@b", "a b@mail.example", "a,b@mail.example", ".a@mail.example", "a.@mail.example",
     "a@@mail.example", "a..b@mail.example", "a@mail.example.", "a@-mail.example",
     "@mail.example", "a\x00b@mail.example"],
)  # fmt: skip
def test_invalid_addresses_are_refused_member_by_member(client: InProcessSandbox, address: str) -> None:
    answer = client.subscribe(row(address), row("good@mail.example"))
    assert answer["total_created"] == 1
    assert answer["errors"][0]["error"] == "Please provide a valid email address."
    assert answer["errors"][0]["email_address"] == address


@pytest.mark.parametrize(
    "address", ["a+tag@mail.example", "o'hara@mail.example", "a-b_c@sub.mail.example", "ä@mäil.example"]
)
def test_unusual_but_valid_addresses_are_taken(client: InProcessSandbox, address: str) -> None:
    assert client.subscribe(row(address))["total_created"] == 1


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("LTV", "12", 12),
        ("LTV", 1.5, 1.5),
        ("JOINED", "2024-02-29", "2024-02-29"),
        ("JOINED", "02/29/2024", "2024-02-29"),
        ("JOINED", "2024-02-29T10:00:00Z", "2024-02-29"),
        ("BIRTHDAY", "2/9", "02/09"),
        ("PLAN", "Free", "Free"),
        ("WEBSITE", "https://shop.example/x", "https://shop.example/x"),
        ("ZIP", "12345-6789", "12345-6789"),
        ("PHONE", "+44 20 7946 0000", "+44 20 7946 0000"),
        ("FNAME", 5, "5"),
    ],
)
def test_merge_values_are_kept_in_the_form_of_their_type(
    client: InProcessSandbox, field: str, value: Any, kept: Any
) -> None:
    assert client.subscribe(row("a@mail.example", merge_fields={field: value}))["total_created"] == 1
    assert client.held()["a@mail.example"]["merge_fields"] == {field: kept}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("LTV", "AAAAA"),
        ("LTV", "inf"),
        ("JOINED", "2024-02-30"),
        ("JOINED", "yesterday"),
        ("BIRTHDAY", "13/01"),
        ("BIRTHDAY", "2024-01-01"),
        ("PLAN", "Gold"),
        ("PLAN", {"a": 1}),
        ("WEBSITE", "shop"),
        ("ZIP", "SW1A"),
        ("ADDRESS", {"addr1": "1 High St"}),
        ("ADDRESS", "1 High St"),
        ("FNAME", True),
        ("FNAME", {"a": 1}),
    ],
)
def test_a_merge_value_of_the_wrong_type_refuses_the_member_and_names_the_field(
    client: InProcessSandbox, field: str, value: Any
) -> None:
    answer = client.subscribe(row("a@mail.example", merge_fields={field: value}), row("b@mail.example"))
    assert answer["total_created"] == 1
    error = answer["errors"][0]
    assert (error["error_code"], error["field"]) == ("ERROR_GENERIC", field)
    assert error["error"].startswith("The resource submitted could not be validated.")
    assert error["field_message"]
    assert "a@mail.example" not in client.held()


def test_an_empty_text_clears_a_value_and_a_complete_address_is_kept(client: InProcessSandbox) -> None:
    address = {"addr1": "1 High St", "city": "York", "state": "NY", "zip": "10001"}
    client.subscribe(row("a@mail.example", merge_fields={"ADDRESS": address, "LTV": 5}))
    client.subscribe(row("a@mail.example", merge_fields={"LTV": ""}))
    kept = client.held()["a@mail.example"]["merge_fields"]
    assert kept == {"ADDRESS": {**address, "addr2": "", "country": ""}}


def test_unknown_merge_tags_are_ignored_without_a_word(client: InProcessSandbox) -> None:
    answer = client.subscribe(row("a@mail.example", merge_fields={"NOSUCH": "x", "fname": "x", "FNAME": "Ada"}))
    assert answer["error_count"] == 0
    assert client.held()["a@mail.example"]["merge_fields"] == {"FNAME": "Ada"}


def test_a_missing_required_field_refuses_the_member_unless_the_check_is_skipped(client: InProcessSandbox) -> None:
    field = {"name": "Company", "type": "text", "tag": "COMPANY", "required": True}
    client.json("POST", f"{LIST}/merge-fields", field)
    error = client.subscribe(row("a@mail.example"))["errors"][0]
    assert (error["field"], error["field_message"]) == ("COMPANY", "Please enter a value")
    assert client.subscribe(row("a@mail.example"), skip_merge_validation=True)["total_created"] == 1
    wrong = row("b@mail.example", merge_fields={"LTV": "x"})
    assert client.subscribe(wrong, skip_merge_validation=True)["error_count"] == 1


def test_tags_reach_existing_members_only_when_the_setting_says_so(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "tags": ["by hand"]})
    client.subscribe(row("a@mail.example", tags=["T1"]))
    client.json("PUT", "/_sandbox/settings", {"tagsReachExisting": False})
    answer = client.subscribe(row("a@mail.example", tags=["T2"]), row("b@mail.example", tags=["T2"]))
    assert [tag["name"] for tag in answer["updated_members"][0]["tags"]] == ["by hand", "T1"]
    held = client.held()
    assert (held["a@mail.example"]["tags"], held["b@mail.example"]["tags"]) == (["by hand", "T1"], ["T2"])


def test_sync_tags_replaces_all_tags_also_those_set_by_hand(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "tags": ["by hand"]})
    client.subscribe(row("a@mail.example", tags=["T"]), sync_tags=True)
    assert client.held()["a@mail.example"]["tags"] == ["T"]


def test_tag_names_are_matched_without_regard_to_case(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "tags": ["Über Kunden"]})
    client.subscribe(row("b@mail.example", tags=["über kunden"]))
    assert client.held()["b@mail.example"]["tags"] == ["Über Kunden"]
    assert client.json("GET", f"{LIST}/segments")["total_items"] == 1


def test_a_member_object_shows_fifty_tags_and_counts_all(client: InProcessSandbox) -> None:
    member = client.subscribe(row("a@mail.example", tags=[f"T{n}" for n in range(60)]))["new_members"][0]
    assert (len(member["tags"]), member["tags_count"]) == (50, 60)


def test_replies_have_their_real_weight_when_asked_for(client: InProcessSandbox) -> None:
    rows = [row(f"person.number{n}@mail.example", merge_fields={"FNAME": "Ada"}) for n in range(100)]
    light = len(client.reply("POST", LIST, {"members": rows}).body)
    client.json("PUT", "/_sandbox/settings", {"realisticReplies": True})
    reply = client.reply("POST", LIST, {"members": rows, "update_existing": True})
    assert light < 100_000
    assert 3_200 <= len(reply.body) / 100 <= 3_700
    assert len(msgspec.json.decode(reply.body)["updated_members"][99]["_links"]) == 10

"""Single members, tags and segments of the sandbox."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from dev.sandbox.in_process import LIST, InProcessSandbox, basic, row


@pytest.fixture
def client() -> InProcessSandbox:
    return InProcessSandbox()


def segment(client: InProcessSandbox, name: str, *addresses: str) -> int:
    created: int = client.json("POST", f"{LIST}/segments", {"name": name, "static_segment": addresses})["id"]
    return created


def test_a_member_is_found_by_hash_by_address_and_by_contact_id(client: InProcessSandbox) -> None:
    client.subscribe(row("Ada@mail.example"))
    subscriber_hash = hashlib.md5(b"ada@mail.example", usedforsecurity=False).hexdigest()
    member = client.json("GET", f"{LIST}/members/{subscriber_hash}")
    assert member["id"] == subscriber_hash
    assert client.json("GET", f"{LIST}/members/ADA@mail.example") == member
    assert client.json("GET", f"{LIST}/members/{member['contact_id']}") == member
    client.json("GET", f"{LIST}/members/nobody@mail.example", expect=404)
    client.json("GET", f"{LIST}/members/not-a-hash", expect=404)


def test_put_without_status_keeps_an_unsubscribed_member_unsubscribed(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "status": "unsubscribed", "merge_fields": {"FNAME": "Caio"}})
    body = {"email_address": "a@mail.example", "merge_fields": {"FNAME": "Samba"}, "status_if_new": "subscribed"}
    member = client.json("PUT", f"{LIST}/members/a@mail.example", body)
    assert (member["status"], member["full_name"]) == ("unsubscribed", "Samba")


def test_put_with_status_subscribed_resubscribes_who_was_unsubscribed_through_the_api(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "status": "unsubscribed"})
    assert client.json("PUT", f"{LIST}/members/a@mail.example", {"status": "subscribed"})["status"] == "subscribed"


def test_put_adds_a_member_that_is_not_there(client: InProcessSandbox) -> None:
    path = f"{LIST}/members/new@mail.example"
    assert client.json("PUT", path, {"email_address": "new@mail.example"}, 400)["title"] == "Invalid Resource"
    member = client.json("PUT", path, {"email_address": "new@mail.example", "status_if_new": "pending"})
    assert member["status"] == "pending"


def test_put_changes_the_address_of_a_member(client: InProcessSandbox) -> None:
    client.subscribe(row("old@mail.example", tags=["T"]))
    member = client.json("PUT", f"{LIST}/members/old@mail.example", {"email_address": "new@mail.example"})
    assert member["id"] == hashlib.md5(b"new@mail.example", usedforsecurity=False).hexdigest()
    assert list(client.held()) == ["new@mail.example"]


def test_post_of_a_member_is_refused_and_of_an_archived_one_is_not(client: InProcessSandbox) -> None:
    client.preload(
        {"email_address": "a@mail.example"},
        {"email_address": "b@mail.example", "status": "archived", "merge_fields": {"FNAME": "Test2"}, "tags": ["T"]},
    )
    body = {"email_address": "a@mail.example", "status": "subscribed"}
    assert client.json("POST", f"{LIST}/members", body, 400)["title"] == "Member Exists"
    member = client.json("POST", f"{LIST}/members", {**body, "email_address": "b@mail.example"})
    assert (member["status"], member["full_name"], member["tags_count"]) == ("subscribed", "Test2", 1)


def test_rarely_used_fields_are_kept(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", language="de", vip=True))
    client.json("PATCH", f"{LIST}/members/a@mail.example", {"email_type": "text"})
    member = client.json("GET", f"{LIST}/members/a@mail.example")
    assert (member["language"], member["vip"], member["email_type"]) == ("de", True, "text")


def test_an_archived_member_leaves_the_list_and_a_forgotten_one_the_audience(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example"), row("b@mail.example"), row("c@mail.example"))
    assert client.reply("DELETE", f"{LIST}/members/a@mail.example").status == 204
    assert client.reply("POST", f"{LIST}/members/b@mail.example/actions/delete-permanent").status == 204

    def listed(**query: Any) -> list[str]:
        document = client.json("GET", f"{LIST}/members", **query)
        return [member["email_address"] for member in document["members"]]

    assert listed() == ["c@mail.example"]
    assert listed(status="archived") == ["a@mail.example"]
    assert sorted(client.held()) == ["a@mail.example", "c@mail.example"]
    assert client.subscribe(row("b@mail.example"))["error_count"] == 1


def test_lists_come_in_pages_of_ten_and_of_a_thousand_at_most(client: InProcessSandbox) -> None:
    client.preload(*({"email_address": f"p{n}@mail.example"} for n in range(1200)))
    document = client.json("GET", f"{LIST}/members")
    assert (len(document["members"]), document["total_items"]) == (10, 1200)
    assert len(client.json("GET", f"{LIST}/members", count="5000")["members"]) == 1000
    last = client.json("GET", f"{LIST}/members", count="1000", offset="1000")["members"]
    assert [member["email_address"] for member in last] == [f"p{n}@mail.example" for n in range(1000, 1200)]
    client.json("GET", f"{LIST}/members", expect=400, count="ten")


def test_fields_and_exclude_fields_make_partial_answers(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", tags=["T"]))
    document = client.json("GET", f"{LIST}/members", fields="members.email_address,members.tags.name,total_items")
    assert document == {"members": [{"email_address": "a@mail.example", "tags": [{"name": "T"}]}], "total_items": 1}
    assert "_links" not in client.json("GET", "/3.0/lists", exclude_fields="_links,lists._links")


def test_tags_of_a_member_are_set_and_taken_away_by_name(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", tags=["One", "Two"]))
    body = {"tags": [{"name": "two", "status": "inactive"}, {"name": "Three", "status": "active"}]}
    assert client.reply("POST", f"{LIST}/members/a@mail.example/tags", body).status == 204
    assert client.held()["a@mail.example"]["tags"] == ["One", "Three"]
    shown = client.json("GET", f"{LIST}/members/a@mail.example/tags")
    assert ([tag["name"] for tag in shown["tags"]], shown["total_items"]) == (["One", "Three"], 2)


def test_segments_are_the_tags_and_come_in_pages(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", tags=[f"T{n}" for n in range(12)]))
    page = client.json("GET", f"{LIST}/segments", type="static", count="5", offset="10")
    assert [item["name"] for item in page["segments"]] == ["T10", "T11"]
    assert page["total_items"] == 12
    assert {item["type"] for item in page["segments"]} == {"static"}
    assert client.json("GET", f"{LIST}/segments", type="saved")["total_items"] == 0
    assert len(client.json("GET", f"{LIST}/segments")["segments"]) == 10


def test_a_segment_counts_subscribed_members_and_others_on_request(client: InProcessSandbox) -> None:
    statuses = ("subscribed", "unsubscribed", "cleaned", "transactional", "archived")
    client.preload(*({"email_address": f"{s}@mail.example", "status": s, "tags": ["T"]} for s in statuses))
    path = f"{LIST}/segments/{client.json('GET', f'{LIST}/segments')['segments'][0]['id']}"
    assert client.json("GET", path)["member_count"] == 1
    everyone = {f"include_{status}": True for status in statuses[1:4]}
    assert client.json("GET", path, **everyone)["member_count"] == 4
    assert client.json("GET", f"{path}/members")["total_items"] == 1
    assert client.json("GET", f"{path}/members", **everyone)["total_items"] == 4


def test_segment_members_are_added_and_removed_and_strangers_ignored(client: InProcessSandbox) -> None:
    client.preload(*({"email_address": f"p{n}@mail.example"} for n in range(3)))
    client.preload({"email_address": "gone@mail.example", "status": "archived"})
    path = f"{LIST}/segments/{segment(client, 'T', 'p0@mail.example', 'stranger@mail.example')}"
    body = {
        "members_to_add": ["P1@mail.example", "stranger@mail.example", "gone@mail.example"],
        "members_to_remove": ["p0@mail.example"],
    }
    answer = client.json("POST", path, body)
    assert (answer["total_added"], answer["total_removed"], answer["error_count"]) == (1, 1, 0)
    assert [tag["name"] for tag in answer["members_added"][0]["tags"]] == ["T"]
    assert [contact["tags"] for contact in client.held().values()] == [[], ["T"], [], []]


def test_a_segment_is_renamed_reset_and_deleted(client: InProcessSandbox) -> None:
    client.preload({"email_address": "a@mail.example", "tags": ["Old", "Kept"]})
    path = f"{LIST}/segments/{client.json('GET', f'{LIST}/segments')['segments'][0]['id']}"
    assert client.json("PATCH", path, {"name": "kept"}, 400)["detail"] == "Sorry, that tag already exists."
    client.json("PATCH", path, {"name": "New"})
    assert client.held()["a@mail.example"]["tags"] == ["New", "Kept"]
    assert client.json("PATCH", path, {"name": "New", "static_segment": []})["member_count"] == 0
    assert client.reply("DELETE", path).status == 204
    assert client.held()["a@mail.example"]["tags"] == ["Kept"]
    client.json("GET", path, expect=404)


def test_tags_are_searched_by_the_start_of_their_name(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", tags=["Spring sale", "SPRING 2", "Winter spring"]))
    found = client.json("GET", f"{LIST}/tag-search", name="spring")
    assert [tag["name"] for tag in found["tags"]] == ["Spring sale", "SPRING 2"]
    assert found["total_items"] == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "X", "type": "nonsense"}, "type"),
        ({"name": "X", "type": "text", "tag": "too long a tag"}, "tag"),
        ({"name": "X", "type": "text", "tag": "FNAME"}, "tag"),
        ({"name": "X", "type": "dropdown"}, "options.choices"),
    ],
)
def test_wrong_merge_fields_are_refused(client: InProcessSandbox, body: dict[str, Any], field: str) -> None:
    document = client.json("POST", f"{LIST}/merge-fields", body, 400)
    assert document["errors"][0]["field"] == field


def test_a_merge_field_is_added_and_older_members_show_it_empty(client: InProcessSandbox) -> None:
    client.subscribe(row("a@mail.example", merge_fields={"FNAME": "Ada"}))
    assert (
        client.json("POST", f"{LIST}/merge-fields", {"name": "Loyalty Points", "type": "number"})["tag"] == "LOYALTYPOI"
    )
    member = client.json("GET", f"{LIST}/members/a@mail.example")
    assert member["merge_fields"]["LOYALTYPOI"] == ""
    client.subscribe(row("a@mail.example", merge_fields={"LOYALTYPOI": "7"}))
    assert client.held()["a@mail.example"]["merge_fields"] == {"FNAME": "Ada", "LOYALTYPOI": 7}


@pytest.mark.parametrize("authorization", ["Bearer sandbox-key-us1", "OAuth sandbox-key-us1", basic("sandbox-key-us1")])
def test_a_key_is_taken_in_three_ways(client: InProcessSandbox, authorization: str) -> None:
    reply = client.reply("GET", "/3.0/ping", authorization=authorization)
    assert msgspec.json.decode(reply.body) == {"health_status": "Everything's Chimpy!"}


@pytest.mark.parametrize(
    ("authorization", "title"),
    [("", "API Key Missing"), ("Basic %%%", "API Key Missing"), ("Bearer wrong-us1", "API Key Invalid"),
     ("OAuth deadbeef", "API Key Invalid"), (basic("wrong"), "API Key Invalid")],
)  # fmt: skip
def test_a_missing_or_wrong_key_answers_401(client: InProcessSandbox, authorization: str, title: str) -> None:
    reply = client.reply("GET", "/3.0/", authorization=authorization)
    assert (reply.status, msgspec.json.decode(reply.body)["title"]) == (401, title)


def test_another_accounts_audience_is_not_there(client: InProcessSandbox) -> None:
    account = client.json("POST", "/_sandbox/accounts", {"name": "Other"}, 201)
    key = f"Bearer {account['apiKeys'][0]}"
    assert client.reply("GET", LIST, authorization=key).status == 404
    assert client.reply("GET", "/3.0/lists", authorization=key).status == 200


def test_unknown_paths_answer_404_and_wrong_methods_405(client: InProcessSandbox) -> None:
    client.json("GET", "/3.0/nothing", expect=404)
    client.json("GET", "/3.0/lists/nosuchlist", expect=404)
    reply = client.reply("DELETE", f"{LIST}/merge-fields")
    assert reply.status == 405
    assert ("Allow", "GET, POST") in reply.headers


def test_the_account_counts_whom_mailchimp_charges_for(client: InProcessSandbox) -> None:
    statuses = ("subscribed", "unsubscribed", "transactional", "cleaned", "archived")
    client.preload(*({"email_address": f"{status}@mail.example", "status": status} for status in statuses))
    assert client.json("GET", "/3.0/")["total_subscribers"] == 3

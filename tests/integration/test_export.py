"""A whole export: what the segments say is what Mailchimp holds, and every row is accounted for."""

from __future__ import annotations

from dev.sandbox.control import SandboxControl
from shared.destinations.model import DataMatching
from shared.exports.model import Status
from shared.storage.names import PREPARE_QUEUE
from tests.integration.engine import Engine, build_engine, people
from tests.support import StorageAccount


def test_every_profile_arrives_once_with_the_tags_of_its_segments(engine: Engine) -> None:
    engine.write_segment("Readers", people(700))
    engine.write_segment("VIP", people(300, start=600))
    view = engine.run(engine.destination(["Readers", "VIP"]))

    assert view.status is Status.SUCCESSFUL
    held = engine.members()
    assert set(held) == {f"person{n}@mail.example" for n in range(900)}
    assert {address for address, member in held.items() if "Readers" in member["tags"]} == {
        f"person{n}@mail.example" for n in range(700)
    }
    assert {address for address, member in held.items() if "VIP" in member["tags"]} == {
        f"person{n}@mail.example" for n in range(600, 900)
    }
    assert held["person1@mail.example"]["merge_fields"]["FNAME"] == "İpek"
    assert held["person3@mail.example"]["merge_fields"] == {"FNAME": "Әсел", "LNAME": "Қасым"}
    assert view.books.rows_read == 1000
    assert view.books.merged == 100
    assert view.books.created == view.books.sent == view.books.members == 900
    assert [(s.name, s.rows, s.members, s.merged, s.tagged) for s in view.segments] == [
        ("Readers", 700, 700, 0, 700),
        ("VIP", 300, 200, 100, 300),
    ]


def test_nobody_who_left_is_subscribed_again(engine: Engine) -> None:
    statuses = ["unsubscribed", "cleaned", "pending", "transactional"]
    engine.sandbox.add_contacts(
        [{"email_address": f"person{n}@mail.example", "status": status} for n, status in enumerate(statuses)]
    )
    engine.write_segment("Readers", people(10))
    view = engine.run(engine.destination(["Readers"]))

    held = engine.members()
    assert [held[f"person{n}@mail.example"]["status"] for n in range(4)] == statuses
    assert view.books.updated == 4
    assert view.contact_statuses["unsubscribed"] == 1
    assert view.contact_statuses["subscribed"] == 6


def test_archived_contacts_stay_archived_although_a_new_subscription_would_bring_them_back(engine: Engine) -> None:
    engine.sandbox.add_contacts(
        [{"email_address": f"Person{n}@mail.example", "status": "archived"} for n in range(1100)]
    )
    engine.write_segment("Readers", people(1500))
    view = engine.run(engine.destination(["Readers"]))

    held = engine.members()
    assert {held[f"person{n}@mail.example"]["status"] for n in range(1100)} == {"archived"}
    assert (view.books.members, view.books.suppressed, view.books.created) == (1500, 1100, 400)
    assert view.status is Status.SUCCESSFUL
    assert view.segments[0].tagged == 400
    listed = engine.rejected(view.id)
    assert len(listed) == 1100
    assert listed[0]["code"] == "archived"
    assert listed[0]["action"]


def test_tags_that_people_set_by_hand_stay(engine: Engine) -> None:
    engine.sandbox.add_contacts(
        [{"email_address": "person0@mail.example", "status": "subscribed", "tags": ["By hand"]}]
    )
    engine.write_segment("Readers", people(2))
    engine.run(engine.destination(["Readers"]))
    assert set(engine.members()["person0@mail.example"]["tags"]) == {"By hand", "Readers"}


def test_tags_that_did_not_reach_existing_members_are_repaired(engine: Engine) -> None:
    engine.sandbox.change_settings(tagsReachExisting=False)
    engine.sandbox.add_contacts(
        [{"email_address": f"person{n}@mail.example", "status": "subscribed"} for n in range(600)]
    )
    engine.write_segment("Readers", people(800))
    engine.write_segment("VIP", people(50))
    view = engine.run(engine.destination(["Readers", "VIP"]))

    held = engine.members()
    assert all("Readers" in held[f"person{n}@mail.example"]["tags"] for n in range(800))
    assert sum("VIP" in member["tags"] for member in held.values()) == 50
    assert view.repaired_tags == 650
    assert view.status is Status.SUCCESSFUL


def test_a_tag_in_other_letter_case_is_used_as_it_is_written_in_mailchimp(engine: Engine) -> None:
    engine.sandbox.add_contacts([{"email_address": "x@mail.example", "status": "subscribed", "tags": ["READERS"]}])
    engine.write_segment("Readers", people(3))
    view = engine.run(engine.destination(["Readers"]))
    assert view.segments[0].tag == "READERS"
    assert view.repaired_tags == 0
    assert engine.members()["person2@mail.example"]["tags"] == ["READERS"]


def test_every_row_that_is_not_sent_is_listed_with_its_place_and_reason(engine: Engine) -> None:
    rows = [
        *people(3),
        {"EMail": "", "FirstName": "Nobody", "LastName": ""},
        {"EMail": "no address", "FirstName": "=cmd|' /C calc'!A0", "LastName": ""},
        {"EMail": "=1+1@mail,example", "FirstName": "Formula", "LastName": ""},
        {"EMail": "fake@example.com", "FirstName": "Fake", "LastName": ""},
        {"EMail": "only-mailchimp-knows@mailinator.com", "FirstName": "Late", "LastName": ""},
        {"EMail": " PERSON1@mail.example ", "FirstName": "Again", "LastName": ""},
    ]
    engine.write_segment("Readers", rows)
    view = engine.run(engine.destination(["Readers"]))

    assert view.status is Status.COMPLETED_WITH_ERRORS
    assert view.books.rows_read == 9
    assert view.books.invalid == 4
    assert view.books.duplicates == 1
    assert view.books.created == 3
    assert view.books.rejected == 1
    assert view.invalid_reasons == {"emailInvalid": 2, "emailLooksFake": 1, "emailMissing": 1}
    listed = [(line["row"], line["email"], line["foundBy"], line["code"]) for line in engine.rejected(view.id)]
    assert listed == [
        ("5", "", "prepare", "emailMissing"),
        ("6", "no address", "prepare", "emailInvalid"),
        ("7", "'=1+1@mail,example", "prepare", "emailInvalid"),
        ("8", "fake@example.com", "prepare", "emailLooksFake"),
        ("9", "only-mailchimp-knows@mailinator.com", "mailchimp", "fakeOrInvalid"),
    ]
    assert all(line["file"] == "Readers.csv" and line["message"] for line in engine.rejected(view.id))


def test_typed_merge_fields_are_formatted_or_the_row_is_reported(engine: Engine) -> None:
    columns = ("EMail", "Points", "Joined", "Born")
    rows = [
        {"EMail": "a@mail.example", "Points": "42", "Joined": "2026-01-31T10:00:00Z", "Born": "1980-02-29"},
        {"EMail": "b@mail.example", "Points": "many", "Joined": "", "Born": ""},
        {"EMail": "c@mail.example", "Points": "", "Joined": "31.12.2025", "Born": "12/24"},
    ]
    engine.write_segment("Readers", rows, columns)
    matching = DataMatching(email="EMail", merge_fields={"LTV": "Points", "JOINED": "Joined", "BIRTHDAY": "Born"})
    view = engine.run(engine.destination(["Readers"], matching))

    held = engine.members()
    assert held["a@mail.example"]["merge_fields"] == {"LTV": 42, "JOINED": "2026-01-31", "BIRTHDAY": "02/29"}
    assert held["c@mail.example"]["merge_fields"] == {"JOINED": "2025-12-31", "BIRTHDAY": "12/24"}
    assert set(held) == {"a@mail.example", "c@mail.example"}
    assert view.invalid_reasons == {"fieldInvalid:LTV": 1}
    assert engine.rejected(view.id)[0]["field"] == "LTV"


def test_an_empty_segment_is_a_success_without_members(engine: Engine) -> None:
    engine.write_segment("Nobody", [])
    view = engine.run(engine.destination(["Nobody"]))
    assert view.status is Status.SUCCESSFUL
    assert view.books.rows_read == 0
    assert engine.members() == {}
    assert engine.rejected(view.id) == []


def test_exporting_again_creates_nobody_twice(engine: Engine) -> None:
    engine.write_segment("Readers", people(1200))
    destination = engine.destination(["Readers"])
    first, second = engine.run(destination), engine.run(destination)
    assert (first.books.created, first.books.updated) == (1200, 0)
    assert (second.books.created, second.books.updated) == (0, 1200)
    assert len(engine.members()) == 1200


def test_a_lane_whose_time_is_used_goes_on_where_it_was(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    one_second = build_engine(storage_account.connection_string, sandbox, LANE_TIME_BUDGET_SECONDS="1")
    sandbox.change_settings(latencyBaseMs=400)
    one_second.write_segment("Readers", people(20_000))
    view = one_second.run(one_second.destination(["Readers"]))
    assert view.status is Status.SUCCESSFUL
    assert view.books.created == 20_000
    assert sum(call["kind"] == "batchSubscribe" for call in sandbox.calls()) == 40, "each batch is sent once"


def test_fewer_connections_than_when_the_plan_was_made_send_everything_too(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    eight = build_engine(storage_account.connection_string, sandbox)
    eight.write_segment("Readers", people(6_000))
    export_id = eight.start(eight.destination(["Readers"]))
    for queue, message in eight.receive([PREPARE_QUEUE]):
        eight.handle(queue, message)
    sandbox.change_settings(latencyBaseMs=100)
    two = build_engine(storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="2")
    assert two.work_until_ended(export_id).books.created == 6_000
    assert sandbox.state()["maxOpenCalls"] <= 2


def test_a_million_and_more_is_refused_before_the_first_call_with_the_count_of_each_segment(engine: Engine) -> None:
    engine.product.preparer._max_profiles = 100
    engine.write_segment("Readers", people(90))
    engine.write_segment("VIP", people(60, start=60))
    view = engine.run(engine.destination(["Readers", "VIP"]))
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert view.problem.code == "tooManyProfiles"
    assert "Readers 90" in view.problem.message
    assert "VIP 60" in view.problem.message
    assert view.books.members == view.books.not_sent == 120
    assert engine.sandbox.calls() == []

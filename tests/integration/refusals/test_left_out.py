"""Whom Mailchimp refuses for good is left out of later exports, for a while, and then or when cleared is sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.destinations.model import Destination
from shared.exports.model import Status
from shared.storage.names import FINISH_QUEUE
from tests.integration.engine import SUBSCRIBE, Engine, people, scheduled
from tests.integration.refusals.steps import (
    FAKE,
    FORGOTTEN,
    MEMORY,
    clear,
    days_pass,
    refuse,
    remembered,
    until_finish,
)
from tests.integration.removal_support import another_process

# -- left out ------------------------------------------------------------------------------------------------------


def test_whom_mailchimp_refused_for_good_is_left_out_of_the_next_export(
    engine: Engine, destination: Destination
) -> None:
    first = engine.run(destination)
    assert (first.status, first.books.rejected) == (Status.COMPLETED_WITH_ERRORS, 2)
    second = engine.run(destination)
    assert (second.books.members, second.books.suppressed, second.books.sent) == (7, 2, 5)
    assert (second.books.updated, second.books.rejected) == (5, 0)
    assert second.suppressed_reasons == {"fakeOrInvalid": 1, "forgotten": 1}
    assert second.books.imbalances() == []
    assert [(count.members, count.tagged) for count in second.segments] == [(7, 5)]
    assert second.status is Status.SUCCESSFUL, "those who are left out are known, like archived contacts"
    assert len(engine.sandbox.calls("batchSubscribe")) == 2


def test_they_are_listed_with_what_mailchimp_said_and_until_when(engine: Engine, destination: Destination) -> None:
    first = engine.run(destination)
    refused = {row["email"]: row for row in engine.rejected(first.id)}
    rows = engine.rejected(engine.run(destination).id)
    assert {row["email"]: (row["foundBy"], row["code"], row["row"]) for row in rows} == {
        FAKE: ("memory", "fakeOrInvalid", refused[FAKE]["row"]),
        FORGOTTEN: ("memory", "forgotten", refused[FORGOTTEN]["row"]),
    }
    members = engine.product.suppressed.members(destination, None, None, 10).members
    since = {member.email: member.refused_at.astimezone(UTC) for member in members}
    for row in rows:
        said, refused_at = refused[row["email"]], since[row["email"]]
        assert first.created_at <= refused_at <= datetime.now(UTC)
        assert row["message"] == f"Refused on {refused_at:%Y-%m-%d} (UTC): {said['message']}"
        until = refused_at + timedelta(days=90)
        assert row["action"].startswith(f"{said['action']} Left out until {until:%Y-%m-%d}")
        assert row["retryable"] == "false"


def test_who_is_archived_as_well_is_left_out_as_archived(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    engine.sandbox.add_contacts([{"email_address": "Person0@mail.example", "status": "archived"}])
    view = engine.run(destination)
    assert view.suppressed_reasons == {"archived": 1, "fakeOrInvalid": 1, "forgotten": 1}
    assert {row["email"]: row["foundBy"] for row in engine.rejected(view.id)}["person0@mail.example"] == "prepare"


@pytest.mark.parametrize(
    "detail",
    ["has signed up to a lot of lists very recently", "merge fields were invalid", "something that nobody knows"],
)
def test_whom_mailchimp_refused_for_another_reason_is_sent_again(engine: Engine, detail: str) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    refuse(engine, "person3@", detail)
    assert engine.run(destination).books.rejected == 1
    assert remembered(engine, destination) == {}
    engine.sandbox.clear_faults()
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.created) == (0, 1)


def test_members_who_broke_every_call_are_sent_again(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    match = {**SUBSCRIBE, "emailContains": "person3@"}
    engine.sandbox.set_faults({"action": "problem", "status": 500, "match": match})
    assert engine.run(destination).rejected_reasons == {"serverError": 1}
    engine.sandbox.clear_faults()
    assert engine.run(destination).books.created == 1


def test_an_address_is_left_out_in_any_letter_case(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.write_segment("Readers", [*people(5), {"EMail": f" {FAKE.upper()} "}])
    assert engine.run(destination).suppressed_reasons == {"fakeOrInvalid": 1}


def test_two_destinations_of_one_audience_share_what_is_remembered(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    other = engine.destination(["Readers"], id_="d2")
    assert engine.run(other).suppressed_reasons == {"fakeOrInvalid": 1, "forgotten": 1}
    listed = engine.product.suppressed.members(other, None, None, 10)
    assert [shared.display_name for shared in listed.shared_with] == ["Destination d1"]


# -- sent again ----------------------------------------------------------------------------------------------------


def test_somebody_who_was_cleared_is_sent_again(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    assert clear(engine, destination, "PERSON0@mail.example", "nobody@mail.example") == 1
    assert remembered(engine, destination) == {FAKE: "fakeOrInvalid", FORGOTTEN: "forgotten"}
    view = engine.run(destination)
    assert (view.books.created, view.books.suppressed) == (1, 2)


def test_when_all_were_cleared_nothing_is_kept(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    assert clear(engine, destination) == 2
    assert not engine.product.documents.exists(MEMORY)
    assert clear(engine, destination) == 0
    assert engine.run(destination).books.rejected == 2


def test_when_the_time_is_over_they_are_tried_again(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    days_pass(engine, 89)
    assert engine.run(destination).books.suppressed == 3
    days_pass(engine, 91)
    assert remembered(engine, destination) == {}
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.created, view.books.rejected) == (0, 1, 2)
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}, "who was refused again is left out again"


def test_how_long_is_a_setting(engine: Engine, destination: Destination) -> None:
    short = another_process(engine, REFUSAL_MEMORY_DAYS="7")
    short.run(destination)
    [*members] = engine.product.suppressed.members(destination, None, None, 10).members
    assert {member.until - member.refused_at for member in members} == {timedelta(days=7)}


def test_whom_mailchimp_takes_after_all_is_forgotten(engine: Engine, destination: Destination) -> None:
    """Sent by a host whose clock is ahead, say: here their time is not over yet."""
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    export_id = engine.start(destination)
    days_pass(engine, 91)
    body = until_finish(engine, export_id)
    days_pass(engine, 0)
    assert set(remembered(engine, destination)) == {"person0@mail.example", FAKE, FORGOTTEN}
    engine.invoke(FINISH_QUEUE, body)
    assert engine.export(export_id).books.created == 1
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}
    assert scheduled(engine).status is Status.SKIPPED


# -- scheduled runs that have nothing to do ------------------------------------------------------------------------


def test_runs_without_a_change_are_skipped_while_they_are_left_out(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    assert scheduled(engine).status is Status.SKIPPED
    engine.run(destination)
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_after_somebody_was_cleared(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    clear(engine, destination, FAKE)
    assert scheduled(engine).rejected_reasons == {"fakeOrInvalid": 1}
    assert scheduled(engine).status is Status.SKIPPED
    clear(engine, destination)
    assert scheduled(engine).books.rejected == 2
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_after_somebodys_time_was_over(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.run(destination)
    days_pass(engine, 91)
    assert scheduled(engine).books.rejected == 2
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_when_the_whole_memory_is_gone(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.product.documents.delete(MEMORY)
    assert scheduled(engine).books.rejected == 2


def test_a_run_is_made_after_somebody_was_cleared_while_the_last_export_went_on(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    clear(engine, destination, FAKE)
    engine.invoke(FINISH_QUEUE, body)
    assert engine.export(export_id).status is Status.SUCCESSFUL
    assert scheduled(engine).rejected_reasons == {"fakeOrInvalid": 1}

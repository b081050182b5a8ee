"""Removing destinations with their tags: from exactly those whom they tagged, unless somebody decides otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
import requests

from shared.destinations.errors import TagsAreKept
from shared.destinations.view import view_of
from shared.exports.model import Status
from shared.mailchimp import TagReply
from shared.storage import names
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import AUDIENCE, KEY, TESTER, Engine, people
from tests.integration.removal_support import (
    KEEP,
    REMOVE,
    Killed,
    Stops,
    addresses,
    another_process,
    complete,
    destination,
    everything,
    handle,
    kill,
    last_word,
    left_behind,
    pretend_tagged,
    removal_of,
    remove,
    tagged,
    untag_calls,
    untagging,
    work_off,
)

# -- whom it concerns ----------------------------------------------------------------------------------------------


def test_the_tags_are_taken_from_everybody_whom_we_tagged_and_nothing_else_changes(engine: Engine) -> None:
    """Nobody else is touched: neither who has the tag by hand, nor the other tags, nor a status, nor the tag itself."""
    engine.sandbox.add_contacts(
        [
            {"email_address": "person0@mail.example", "status": "unsubscribed", "tags": ["By hand"]},
            {"email_address": "Person1@mail.example", "status": "cleaned"},
            {"email_address": "stranger@mail.example", "status": "subscribed", "tags": ["Readers", "By hand"]},
        ]
    )
    engine.write_segment("Readers", people(1300))
    engine.write_segment("VIP", people(300, start=1200))
    before = everything(engine.connection_string)
    engine.run(destination(engine, "Readers", "VIP"))
    held = engine.members()
    calls_before = len(engine.sandbox.calls())
    stored = remove(engine, tags=REMOVE)
    assert stored is not None
    assert not view_of(stored.destination).ready
    complete(engine)

    assert tagged(engine, "Readers") == {"stranger@mail.example"}
    assert tagged(engine, "VIP") == set()
    assert tagged(engine, "By hand") == {"person0@mail.example", "stranger@mail.example"}
    now = engine.members()
    assert {a: (m["status"], m["merge_fields"]) for a, m in now.items()} == {
        a: (m["status"], m["merge_fields"]) for a, m in held.items()
    }
    tags = [tag["name"] for tag in engine.sandbox.audience()["tags"]]
    assert {"Readers", "VIP"} <= set(tags)
    assert [call["rows"] for call in untag_calls(engine)] == [500, 500, 300, 300], "500 a call, tag by tag"
    assert all(call["openCalls"] <= 1 for call in engine.sandbox.calls()[calls_before:]), "one connection at a time"
    assert last_word(engine) == "Removed in Mailchimp: 1,600 tags on contacts."
    assert left_behind(before, everything(engine.connection_string)) == []


def test_tags_of_earlier_exports_are_taken_away_too(engine: Engine) -> None:
    """Who left a segment has kept its tag; a segment that is no longer chosen has left its tag behind."""
    engine.write_segment("Readers", people(20))
    engine.write_segment("VIP", people(10))
    made = destination(engine, "Readers", "VIP")
    engine.run(made)
    engine.write_segment("VIP", people(5))
    engine.run(made)
    engine.product.destination_store.change(
        "d1", lambda newest: newest.model_copy(update={"segments": ("Readers",)}), by=TESTER, action="test"
    )
    engine.run(engine.product.destination_store.get("d1").destination)
    assert len(tagged(engine, "VIP")) == 10
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "VIP") == tagged(engine, "Readers") == set()
    assert last_word(engine) == "Removed in Mailchimp: 30 tags on contacts."


def test_who_has_the_tag_from_another_destination_keeps_it(engine: Engine) -> None:
    engine.write_segment("Readers", people(900))
    engine.run(destination(engine))
    engine.write_segment("readers", [{**row, "EMail": row["EMail"].upper()} for row in people(300, start=700)])
    engine.run(destination(engine, "readers", id_="d2"))
    assert tagged(engine, "Readers") == set(addresses(1000))
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(300, start=700))
    remove(engine, "d2", tags=REMOVE)
    complete(engine, "d2")
    assert tagged(engine, "Readers") == set()


def test_every_audience_that_it_ever_exported_to_is_cleared(engine: Engine) -> None:
    other = engine.sandbox.add_audience("Another")["id"]
    engine.sandbox.add_contacts(
        [{"email_address": "stranger@mail.example", "status": "subscribed", "tags": ["Readers"]}], other
    )
    made = destination(engine)
    for audience in (AUDIENCE, other):
        pretend_tagged(engine, made, {"Readers": addresses(600)}, audience)
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set()
    assert [m["email_address"] for m in engine.sandbox.members(other) if m["tags"]] == ["stranger@mail.example"]
    assert last_word(engine) == "Removed in Mailchimp: 1,200 tags on contacts."


def test_what_a_canceled_export_has_tagged_is_taken_away_too(engine: Engine) -> None:
    engine.write_segment("Readers", people(9000))
    export_id = engine.start(destination(engine))
    handle(engine, PREPARE_QUEUE)
    lanes = engine.receive([LANES_QUEUE])
    engine.handle(*lanes[0])
    sent = len(tagged(engine, "Readers"))
    assert 0 < sent < 9000
    stored = remove(engine, tags=REMOVE)
    assert stored is not None
    removal = view_of(stored.destination).removal
    assert removal is not None
    assert removal.left[0] == f"The running export '{export_id}' has to end; it was asked to."
    assert not removal.sign_in_deleted, "it is needed"
    complete(engine)
    assert engine.export(export_id).status is Status.CANCELED
    assert len(engine.members()) == sent
    assert tagged(engine, "Readers") == set()
    assert last_word(engine) == f"Removed in Mailchimp: {sent:,} tags on contacts."


def test_a_destination_that_never_exported_is_gone_at_once(engine: Engine) -> None:
    destination(engine)
    assert remove(engine, tags=REMOVE) is None
    assert engine.sandbox.calls() == []


def test_contacts_and_tags_that_are_gone_from_mailchimp_are_no_error(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(700), "VIP": addresses(10)})
    engine.sandbox.add_contacts([{"email_address": "person1@mail.example", "status": "archived", "tags": []}])
    [vip] = [tag["id"] for tag in engine.sandbox.audience()["tags"] if tag["name"] == "VIP"]
    path = f"{engine.sandbox.address}/3.0/lists/{AUDIENCE}/segments/{vip}"
    assert requests.delete(path, auth=("any", KEY), timeout=10).status_code == 204
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set()
    assert last_word(engine) == "Removed in Mailchimp: 700 tags on contacts."


def test_messages_and_state_hold_no_address(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    remove(engine, tags=REMOVE)
    assert engine.messages(REMOVALS_QUEUE) == [{"v": 1, "destinationId": "d1"}]
    stops = Stops(engine.product.documents)
    stops.at(40, kill)
    with suppress(Killed):
        handle(engine, REMOVALS_QUEUE)
    assert stops.off()
    state = everything(engine.connection_string)
    for name in (names.removal("d1"), names.destination("d1")):
        assert b"@" not in state[f"state/{name}"]


# -- changing one's mind -------------------------------------------------------------------------------------------


def test_keeping_the_tags_after_all_gives_up_and_completes(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    assert remove(engine, tags=REMOVE) is not None
    again = remove(engine)
    assert again is not None
    assert again.destination.removal == removal_of(engine)
    assert removal_of(engine).tags is REMOVE, "a repeated call without the word changes nothing"
    assert remove(engine, tags=KEEP) is None
    work_off(engine)
    assert len(tagged(engine, "Readers")) == 10
    assert untag_calls(engine) == []
    assert last_word(engine) == (
        "Removed in Mailchimp: 0 tags on contacts. Not removed: tags, because test chose to keep them."
    )


def test_keeping_them_while_they_are_taken_away_stops_that_within_one_call(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(5000)})
    other = another_process(engine)
    remove(engine, tags=REMOVE)

    def kept_at_the_third(number: int, untag: Callable[[], TagReply]) -> TagReply:
        if number == 3:
            assert remove(other, tags=KEEP) is None
        return untag()

    with untagging(kept_at_the_third):
        work_off(engine)
    complete(engine)
    assert len(tagged(engine, "Readers")) == 3500
    assert "chose to keep them" in last_word(engine)
    assert list(engine.product.documents.list(names.REMOVALS_PREFIX)) == []


def test_taking_them_away_after_all_is_refused_once_the_sign_in_is_gone(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    engine.start(engine.product.destination_store.get("d1").destination)
    remove(engine, tags=KEEP)
    with pytest.raises(TagsAreKept, match="sign-in is already deleted"):
        remove(engine, tags=REMOVE)
    complete(engine)


def test_taking_them_away_after_all_works_while_the_sign_in_is_there(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        with suppress(Killed):
            remove(engine, tags=KEEP)
        stops.off()
        found = engine.product.destination_store.find("d1")
        if found is not None and found.destination.removal is not None:
            break
    assert engine.product.secrets.read("mc-d1-0001") == KEY
    assert remove(engine, tags=REMOVE) is not None
    complete(engine)
    assert tagged(engine, "Readers") == set()

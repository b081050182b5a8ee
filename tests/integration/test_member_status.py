"""The status of new members: chosen at the destination, and never that of somebody whom the audience knows."""

from __future__ import annotations

import pytest

from dev.sandbox.store import STATUSES
from shared.destinations.model import Destination, MemberStatus
from shared.exports.model import Status
from tests.integration.engine import TESTER, Engine, people


def destination_with(engine: Engine, status: MemberStatus) -> Destination:
    destination = engine.destination(["Readers"])

    def choose(destination: Destination) -> Destination:
        destination.member_status = status
        return destination

    store = engine.product.destination_store
    return store.change(destination.id, choose, by=TESTER, action="destination.configured").destination


@pytest.mark.parametrize("status", list(MemberStatus))
def test_new_members_get_the_chosen_status_and_all_others_keep_theirs(engine: Engine, status: MemberStatus) -> None:
    """``person0`` to ``person5`` are in the audience, one in each state; ``person6`` and ``person7`` are not."""
    engine.sandbox.add_contacts(
        {"email_address": f"person{n}@mail.example", "status": state, "merge_fields": {"FNAME": "Before"}}
        for n, state in enumerate(STATUSES)
    )
    engine.write_segment("Readers", people(8))
    view = engine.run(destination_with(engine, status))

    held = engine.members()
    for n, state in enumerate(STATUSES):
        member = held[f"person{n}@mail.example"]
        is_sent = state != "archived"
        assert member["status"] == state, "nobody's status changes"
        assert (member["merge_fields"]["FNAME"] != "Before", "Readers" in member["tags"]) == (is_sent, is_sent), state
    assert [held[f"person{n}@mail.example"]["status"] for n in (6, 7)] == [status.value] * 2
    assert (view.books.created, view.books.updated, view.books.suppressed) == (2, 5, 1)
    assert view.status is Status.SUCCESSFUL
    expected = dict.fromkeys(set(STATUSES) - {"archived"}, 1)
    assert view.contact_statuses == expected | {status.value: 3}
    assert [line["code"] for line in engine.rejected(view.id)] == ["archived"]


@pytest.mark.parametrize("status", list(MemberStatus))
def test_who_left_by_themselves_stays_away_whatever_is_chosen(engine: Engine, status: MemberStatus) -> None:
    states = ["unsubscribed", "cleaned", "archived"]
    engine.sandbox.add_contacts(
        {"email_address": f"person{n}@mail.example", "status": state, "compliance": True}
        for n, state in enumerate(states)
    )
    engine.write_segment("Readers", people(3))
    engine.run(destination_with(engine, status))
    held = engine.members()
    assert [held[f"person{n}@mail.example"]["status"] for n in range(3)] == states
    assert all(member["compliance"] for member in held.values())


def test_a_second_export_asks_nobody_twice_to_confirm(engine: Engine) -> None:
    engine.write_segment("Readers", people(4))
    destination = destination_with(engine, MemberStatus.PENDING)
    assert engine.run(destination).books.created == 4
    engine.sandbox.add_contacts([{"email_address": "person0@mail.example", "status": "subscribed"}])  # confirmed
    again = engine.run(destination)
    assert (again.books.created, again.books.updated) == (0, 4)
    assert again.contact_statuses == {"subscribed": 1, "pending": 3}

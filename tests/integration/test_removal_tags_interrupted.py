"""Tags are taken away although the work is killed, slow or doubled, and other destinations export or go too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from dev.sandbox.control import SandboxControl
from shared.exports.messages import RemovalMessage
from shared.mailchimp import TagReply
from shared.storage import names
from shared.storage.names import PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import Engine, build_engine, people
from tests.integration.removal_support import (
    REMOVE,
    Killed,
    Stops,
    addresses,
    complete,
    destination,
    everything,
    handle,
    is_gone,
    kill,
    last_word,
    left_behind,
    minutes_pass,
    pretend_tagged,
    removal_of,
    remove,
    tagged,
    untag_calls,
    untagging,
    work_off,
)
from tests.support import StorageAccount

# -- killed, slow, doubled -----------------------------------------------------------------------------------------


def test_killed_between_any_two_steps_it_goes_on_where_it_stood(engine: Engine) -> None:
    before = everything(engine.connection_string)
    pretend_tagged(engine, destination(engine, "Readers", "VIP"), {"Readers": addresses(1200), "VIP": addresses(600)})
    stops = Stops(engine.product.documents)
    remove(engine, tags=REMOVE)
    engine.receive([REMOVALS_QUEUE])
    number, kills = 4, 0
    while not is_gone(engine):
        stops.at(number, kill)
        try:
            engine.product.untagger.go_on(RemovalMessage(destination_id="d1"))
        except Killed:
            kills += 1
            number += 2
        stops.off()
    assert kills > 10
    assert tagged(engine, "Readers") == tagged(engine, "VIP") == set()
    assert last_word(engine) == "Removed in Mailchimp: 1,800 tags on contacts."
    minutes_pass(engine)
    work_off(engine)
    assert left_behind(before, everything(engine.connection_string)) == []


def test_after_a_kill_no_more_than_the_last_call_is_made_again(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(5000)})
    remove(engine, tags=REMOVE)
    stops = Stops(engine.product.documents)
    stops.at(48, kill)
    with suppress(Killed):
        work_off(engine)
    assert stops.off()
    made = len(untag_calls(engine))
    assert 1 < made < 10
    complete(engine)
    assert len(untag_calls(engine)) <= 11, "ten, and perhaps the last one before the kill again"
    assert tagged(engine, "Readers") == set()


def test_however_short_the_time_of_a_run_each_makes_a_call_and_none_is_made_twice(engine: Engine) -> None:
    engine.product.untagger._budget_s = 0
    pretend_tagged(engine, destination(engine), {"Readers": addresses(3000)})
    remove(engine, tags=REMOVE)
    runs = 0
    while not is_gone(engine) and runs < 10:
        [(queue, message)] = engine.receive([REMOVALS_QUEUE])
        engine.handle(queue, message)
        runs += 1
        if not is_gone(engine):
            removal = removal_of(engine)
            assert removal.tags_left is not None
            assert removal.tags_taken + removal.tags_left == 3000
    assert (runs, len(untag_calls(engine))) == (7, 6), "the last run finds nothing left"
    assert tagged(engine, "Readers") == set()


def test_a_message_that_comes_twice_finds_somebody_at_work_and_goes_away(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(600)})
    remove(engine, tags=REMOVE)
    with engine.product._leases.take(names.removal("d1")) as lease:
        assert lease is not None
        work_off(engine)
        assert untag_calls(engine) == []
        minutes_pass(engine)
        assert engine.receive([REMOVALS_QUEUE]) == [], "the timer sees that somebody is at work"
    minutes_pass(engine)
    work_off(engine)
    assert is_gone(engine)


def test_two_destinations_of_one_audience_that_go_at_once_leave_nothing_behind(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(900)})
    pretend_tagged(engine, destination(engine, id_="d2"), {"Readers": addresses(900)})
    remove(engine, tags=REMOVE)
    remove(engine, "d2", tags=REMOVE)
    messages = engine.receive([REMOVALS_QUEUE])
    for queue, message in reversed(messages):  # the later one first: it waits for its turn
        engine.handle(queue, message)
    assert is_gone(engine)
    assert "Waiting for the removal of the destination" in (removal_of(engine, "d2").problem or "")
    complete(engine, "d2")
    assert tagged(engine, "Readers") == set()


# -- exports of other destinations at the same time ----------------------------------------------------------------


def test_while_another_destination_sends_to_the_audience_nothing_is_taken_away(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    engine.run(destination(engine))
    other = destination(engine, id_="d2")
    export_id = engine.start(other)
    handle(engine, PREPARE_QUEUE)
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert untag_calls(engine) == []
    assert export_id in (removal_of(engine).problem or "")
    engine.work_until_ended(export_id)
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(600)), "all of them are the other destination's now"
    assert last_word(engine) == "Removed in Mailchimp: 0 tags on contacts."


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed after the call"])
def test_an_export_that_crosses_a_call_gets_its_tags_back(
    storage_account: StorageAccount, sandbox: SandboxControl, killed: bool
) -> None:
    """Another destination's whole export happens while a call is under way, and the call is applied after it."""
    engine, other = (
        build_engine(storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="7") for _ in range(2)
    )
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1100)})
    engine.write_segment("Readers", people(900, start=300))
    second = destination(engine, id_="d2")
    remove(engine, tags=REMOVE)

    def crossed(number: int, untag: Callable[[], TagReply]) -> TagReply:
        if number > 1:
            return untag()
        other.run(second)
        reply = untag()
        if killed:
            kill()
        return reply

    with untagging(crossed), suppress(Killed):
        handle(engine, REMOVALS_QUEUE)
    assert tagged(engine, "Readers") != set(addresses(900, start=300)), "the call took the tag from people of both"
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(900, start=300))

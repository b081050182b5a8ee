"""Removals that are killed, meet faults of storage or fail too often are completed by the timer."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from unittest.mock import patch

import pytest

from shared.storage import names
from shared.storage.names import FINISH_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import AUDIENCE, Engine, people
from tests.integration.removal_support import (
    REMOVE,
    Killed,
    Stops,
    addresses,
    another_process,
    assert_nothing_is_left,
    complete,
    destination,
    everything,
    forget_history,
    handle,
    is_gone,
    kill,
    minutes_pass,
    pretend_exported,
    pretend_tagged,
    removal_of,
    remove,
    work_off,
)


def test_a_removal_that_is_killed_between_any_two_steps_is_completed_by_the_timer(engine: Engine) -> None:
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    for number in count(1):
        made = destination(engine, id_=f"d{number}")
        pretend_exported(engine, made)
        stops.at(number, kill)
        with suppress(Killed):
            remove(engine, made.id)
        stops.off()
        found = other.product.destination_store.find(made.id)
        if found is not None and found.destination.removal is None:
            remove(other, made.id)  # killed before it was marked: nothing has happened, and the caller asks again
        complete(other, made.id)
        forget_history(engine)
        if not stops.reached:
            break
    assert number > 15
    assert_nothing_is_left(engine, before)


def test_a_storage_fault_in_the_middle_is_told_and_mended_within_minutes(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    before = everything(engine.connection_string)
    engine.run(destination(engine))

    def fail(destination_id: str) -> int:
        raise OSError("the disk is full")

    with patch.object(engine.product.exports, "erase_data", fail), pytest.raises(OSError, match="disk"):
        remove(engine)
    assert removal_of(engine).sign_in_deleted
    complete(engine)
    assert_nothing_is_left(engine, before)


def test_a_blob_that_cannot_be_deleted_is_tried_again_and_never_forgotten(engine: Engine) -> None:
    before = everything(engine.connection_string)
    made = destination(engine)
    pretend_exported(engine, made)
    with engine.product._leases.take(names.ledger(made.id, AUDIENCE)) as lease:
        assert lease is not None
        stored = remove(engine, made.id)
        assert stored is not None
        assert "goes on within a minute" in (removal_of(engine, made.id).problem or "")
    complete(engine, made.id)
    assert_nothing_is_left(engine, before)


def test_a_ledger_that_a_late_process_wrote_after_the_removal_is_found_and_deleted(engine: Engine) -> None:
    destination(engine)
    remove(engine)
    engine.product.documents.write(names.ledger("d1", "a1b2c3d4e5"), b"profiles")
    engine.product.documents.write(names.removal("d1"), b"{}")
    minutes_pass(engine)
    work_off(engine)
    assert list(engine.product.documents.list(names.LEDGERS_PREFIX)) == []
    assert list(engine.product.documents.list(names.REMOVALS_PREFIX)) == []


def test_the_timer_leaves_a_young_removal_and_one_that_waits_for_its_export_alone(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    engine.start(destination(engine))
    remove(engine)
    pretend_tagged(engine, destination(engine, id_="young"), {"Readers": addresses(10)})
    remove(engine, "young", tags=REMOVE)
    assert len(engine.receive([REMOVALS_QUEUE])) == 1
    assert engine.product.removals.finish_removals() == 0, "the message may still be on its way"
    minutes_pass(engine)
    redriven = [message["destinationId"] for message in engine.messages(REMOVALS_QUEUE)]
    assert redriven == ["young"], "for the other one, the end of its export sends the message"


def test_a_message_that_failed_too_often_is_told_and_the_timer_tries_again(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    engine.start(destination(engine))
    remove(engine)
    handle(engine, FINISH_QUEUE)
    [(queue, message)] = engine.receive([REMOVALS_QUEUE])
    engine.poison(queue, message)
    assert "failed several times" in (removal_of(engine).problem or "")
    assert "'d1'" in (removal_of(engine).problem or ""), "the reference to look for in the log"
    minutes_pass(engine)
    work_off(engine)
    assert is_gone(engine)

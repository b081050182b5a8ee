"""Removing destinations, their tags kept: whatever they are doing, nothing of them is left."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest

from shared.destinations.errors import DestinationNotFound
from shared.destinations.view import view_of
from shared.exports.model import Status
from shared.secrets.store import SecretNotFound
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, PATIENCE_S, Engine, gate, people
from tests.integration.removal_support import (
    Stops,
    another_process,
    assert_nothing_is_left,
    audit_of,
    complete,
    destination,
    everything,
    handle,
    is_gone,
    last_word,
    remove,
    work_off,
)

# -- what there is to do is done at once ---------------------------------------------------------------------------


def test_a_destination_that_does_nothing_is_gone_at_once_and_leaves_its_history_and_the_audit_log(
    engine: Engine,
) -> None:
    engine.write_segment("Readers", [*people(1200), {"EMail": "nobody", "FirstName": "", "LastName": ""}])
    before = everything(engine.connection_string)
    view = engine.run(destination(engine))
    assert engine.rejected(view.id)
    assert remove(engine) is None
    assert_nothing_is_left(engine, before)
    assert engine.product.exports.get(view.id).books.rows_read == 1201, "the account of it stays"
    assert [record.action for record in audit_of(engine)][-2:] == ["destination.removalStarted", "destination.removed"]
    assert last_word(engine) == "Contacts and tags in Mailchimp were left as they are."
    assert engine.everybody_arrived(1200), "contacts and tags stay"


def test_the_name_is_free_and_the_destination_unknown_afterwards(engine: Engine) -> None:
    engine.write_segment("Readers", people(1))
    engine.product.destination_store.claim_name("Destination d1", "d1")
    destination(engine)
    assert remove(engine) is None
    with pytest.raises(DestinationNotFound):
        remove(engine)
    engine.product.destination_store.claim_name("destination D1", "d2")


def test_nothing_is_left_of_a_destination_that_was_never_set_up(engine: Engine) -> None:
    before = everything(engine.connection_string)
    made = destination(engine)
    assert remove(engine, made.id) is None
    assert_nothing_is_left(engine, before)
    with pytest.raises(SecretNotFound):
        engine.product.secrets.read("mc-d1-0001")


def test_what_is_remembered_of_an_audience_goes_with_its_last_destination(engine: Engine) -> None:
    engine.write_segment("Readers", [*people(3), {"EMail": "fake@mailinator.com"}])
    before = everything(engine.connection_string)
    first, second = destination(engine), destination(engine, id_="d2")
    assert engine.run(first).books.rejected == 1
    memory = names.refusals(ACCOUNT, AUDIENCE)
    assert remove(engine) is None
    assert engine.product.documents.exists(memory), "it is the other one's too"
    assert engine.run(second).books.suppressed == 1
    assert remove(engine, "d2") is None
    assert not engine.product.documents.exists(memory)
    assert_nothing_is_left(engine, before)


def test_of_two_destinations_of_an_audience_that_go_at_once_neither_keeps_what_is_remembered_for_the_other(
    engine: Engine,
) -> None:
    engine.write_segment("Readers", [*people(3), {"EMail": "fake@mailinator.com"}])
    before = everything(engine.connection_string)
    first = destination(engine)
    destination(engine, id_="d2")
    engine.run(first)
    other = another_process(engine)
    stops = Stops(engine.product.documents)
    stops.at(6, lambda: remove(other, "d2"))
    remove(engine)
    assert stops.reached
    complete(engine)
    complete(engine, "d2")
    assert_nothing_is_left(engine, before)


# -- while it exports ----------------------------------------------------------------------------------------------


def test_while_it_is_queued(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    export_id = engine.start(destination(engine), key="monday")
    stored = remove(engine)
    assert stored is not None
    removal = view_of(stored.destination).removal
    assert removal is not None
    assert removal.sign_in_deleted, "nothing can be sent any more"
    assert removal.left == [
        f"The running export '{export_id}' has to end; it was asked to.",
        "The stored profiles and the configuration have to be deleted.",
    ]
    work_off(engine)
    assert engine.export(export_id).status is Status.CANCELED
    assert engine.sandbox.calls() == []
    assert_nothing_is_left(engine, before)


def test_while_it_prepares(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    before = everything(engine.connection_string)
    export_id = engine.start(destination(engine))
    other = another_process(engine)
    stops = Stops(engine.product.documents)
    stops.at(12, lambda: remove(other))
    handle(engine, PREPARE_QUEUE)
    assert stops.reached
    complete(engine)
    assert engine.export(export_id).status is Status.CANCELED
    assert engine.members() == {}
    assert_nothing_is_left(engine, before)


def test_while_it_sends_over_several_connections(engine: Engine) -> None:
    engine.sandbox.change_settings(latencyBaseMs=1000)  # longer than a lane goes without looking for a stop
    engine.write_segment("Readers", people(20_000))
    before = everything(engine.connection_string)
    export_id = engine.start(destination(engine))
    with gate(free=8) as between:
        worker = threading.Thread(target=engine.work_until_ended, args=(export_id,))
        worker.start()
        between.wait_until_at_it(8)
        stored = remove(engine)
        answered_at = time.time()
        between.open()
        worker.join(PATIENCE_S)
    assert stored is not None
    assert engine.export(export_id).status is Status.CANCELED
    later = [call for call in engine.sandbox.calls("batchSubscribe") if call["start"] > answered_at]
    assert len(later) <= 8, "at most one batch for each connection"
    complete(engine)
    books = engine.product.exports.get(export_id).books
    assert books.not_sent > 0
    assert books.imbalances() == []
    assert_nothing_is_left(engine, before)


def test_while_it_waits_for_mailchimp_which_stays_away(engine: Engine) -> None:
    engine.write_segment("Readers", people(5000))
    before = everything(engine.connection_string)
    export_id = engine.start(destination(engine))
    handle(engine, PREPARE_QUEUE)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: engine.handle(*each), engine.receive([LANES_QUEUE])))
    assert engine.export(export_id).status is Status.WAITING
    assert engine.receive([LANES_QUEUE]) == [], "the lanes rest for a while"
    assert remove(engine) is not None
    work_off(engine)
    assert is_gone(engine), "nobody waits for lanes that rest"
    assert engine.export(export_id).status is Status.CANCELED
    assert_nothing_is_left(engine, before)


def test_while_its_preparation_waits_for_mailchimp(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    export_id = engine.start(destination(engine))
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    handle(engine, PREPARE_QUEUE)
    assert engine.export(export_id).status is Status.WAITING
    assert remove(engine) is not None
    work_off(engine)
    assert is_gone(engine)
    assert engine.export(export_id).status is Status.CANCELED
    assert_nothing_is_left(engine, before)


def test_while_its_books_are_closed(engine: Engine) -> None:
    """Everything was sent by then: the export ends as what it is, or as Canceled if that had not begun."""
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    for number in count(1, step=2):
        made = destination(engine, id_=f"d{number}")
        export_id = engine.start(made)
        handle(engine, PREPARE_QUEUE)
        handle(engine, LANES_QUEUE)
        stops.at(number, partial(remove, other, made.id))
        handle(engine, FINISH_QUEUE)
        if not stops.off():
            remove(engine, made.id)
        complete(engine, made.id)
        view = engine.product.exports.get(export_id)
        assert (view.status, view.problem is None) in {(Status.CANCELED, False), (Status.SUCCESSFUL, True)}
        assert view.books.sent == 10
        if not stops.reached:
            break
    assert number > 15
    assert_nothing_is_left(engine, before)

"""An export is resumed although processes die, or writes fail, at any call of storage: all is sent, and once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import count

import pytest
from azure.storage.queue import QueueMessage

from shared.destinations.model import Destination
from shared.exports.errors import AlreadyResumed, ExportRunning
from shared.exports.model import Export, Problem, Status
from shared.exports.view import ExportView
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import TESTER, Engine, MovedClock, people
from tests.integration.removal_support import Killed, Stops, kill
from tests.integration.resume.steps import (
    PEOPLE,
    assert_all_arrived_once,
    failed_half_way,
    handle,
    ledger,
    resume,
    resumed,
    subscribed,
)
from tests.integration.write_faults import WriteFaults


def killed_at_every_call(engine: Engine, queue: str, message: QueueMessage) -> int:
    """Handle the message again and again, each time killed one call of storage later, until it comes through; returns
    how many times that took."""
    stops = Stops(engine.product.documents)
    number, killed = 0, True
    while killed:
        number += 1
        stops.at(number, kill)
        with suppress(Killed):
            engine.handle(queue, message)
        killed = stops.off()
    return number


def drive_to_the_end(engine: Engine, clock: MovedClock, export_id: str) -> ExportView:
    """As the sweeper does it, minute by minute, whatever was left half done."""
    for _ in range(20):
        if engine.export(export_id).ended and not list(engine.product.store.active()):
            return engine.product.exports.get(export_id)
        clock.go_on(minutes=2)
        engine.product.sweeper.sweep()
        handle(engine, PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE)
    raise AssertionError(engine.export(export_id))


@pytest.mark.parametrize("key", [None, "monday"])
def test_a_process_may_die_at_any_moment_of_the_start(
    engine: Engine, destination: Destination, clock: MovedClock, key: str | None
) -> None:
    """Before each call of storage in turn. Whoever asks again gets the same export with a key, and without one an
    answer that says how things are; the rest is sent once."""
    failed = failed_half_way(engine, destination)
    before = subscribed(engine)
    pristine = engine.export(failed.id)
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        started: str | None = None
        with suppress(Killed):
            started = resume(engine, failed.id, key).id
        if not stops.off():
            break
        with suppress(AlreadyResumed, ExportRunning):
            started = resume(engine, failed.id, key).id
        engine.receive()  # every message is lost
        holder = engine.product.store.running("d1") or started
        assert holder is not None
        assert started in {None, holder}
        engine.product.exports.cancel(holder, TESTER)
        engine.receive()
        going = [each.id for each in engine.product.store.active() if engine.product.store.find(each.id) is not None]
        ends = Counter(drive_to_the_end(engine, clock, each).status for each in going)
        assert ends.pop(Status.CANCELED) == 1
        assert set(ends) <= {Status.SKIPPED}, "one that was left behind gives way"
        clear(engine, pristine)
    assert number > 8
    assert started is not None
    rest = drive_to_the_end(engine, clock, started)
    assert subscribed(engine) - before == 3
    assert_all_arrived_once(engine, failed, rest)


def clear(engine: Engine, failed: Export) -> None:
    """Back to where nobody had asked yet."""
    documents = engine.product.documents
    for export_id in [name.rsplit("/", 1)[1] for name in documents.names(names.exports_of("d1"))]:
        if export_id != failed.id:
            engine.product.store.delete(export_id, "d1")
            documents.delete_all(names.run(export_id))
    documents.delete_all(names.ACTIVE_PREFIX)
    documents.delete_all(names.idempotency_keys("d1"))
    engine.product.store.change(failed.id, lambda export: setattr(export, "resumed_by", None))


def test_a_process_may_die_at_any_moment_of_preparing_the_rest(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    failed = failed_half_way(engine, destination)
    before = subscribed(engine)
    rest = resume(engine, failed.id)
    ((queue, message),) = engine.receive([PREPARE_QUEUE])
    assert killed_at_every_call(engine, queue, message) > 10
    ended = drive_to_the_end(engine, clock, rest.id)
    assert subscribed(engine) - before == 3
    assert_all_arrived_once(engine, failed, ended)


@pytest.mark.parametrize("stage", [PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE])
def test_a_storage_fault_at_any_write_loses_nothing_and_counts_nothing_twice(
    engine: Engine, destination: Destination, clock: MovedClock, stage: str
) -> None:
    failed = failed_half_way(engine, destination)
    faults = WriteFaults(engine.product.documents)
    started: list[str] = []
    faults.until_done(lambda: started.append(resume(engine, failed.id, "monday").id))
    clock.go_on(minutes=2)
    engine.product.sweeper.sweep()  # for the message that a start which is cut off does not send
    before = faults.raised
    for queue in (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE):
        for name, message in engine.receive([queue]):
            if queue == stage:
                faults.until_done(partial(engine.handle, name, message))
            else:
                engine.handle(name, message)
    assert faults.raised - before >= 3, "the stage had a message, and wrote"
    ended = drive_to_the_end(engine, clock, started[0])
    assert ended.status is Status.SUCCESSFUL
    assert ended.books.imbalances() == []
    assert sum(view.books.created + view.books.updated for view in (failed, ended)) == PEOPLE
    assert ledger(engine) == {row["EMail"]: 1 for row in people(PEOPLE)}


def test_the_end_of_the_earlier_export_may_be_cut_off_anywhere(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.product.store.fail(export_id, Problem(code="accountRestricted", message="For the test."))
    engine.handle(*second)
    ((queue, message),) = engine.receive([FINISH_QUEUE])
    assert killed_at_every_call(engine, queue, message) > 8
    failed = engine.product.exports.get(export_id)
    assert failed.resumable_until is not None
    assert_all_arrived_once(engine, failed, resumed(engine, export_id))

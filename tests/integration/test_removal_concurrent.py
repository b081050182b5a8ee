"""Removals at the same time as each other, and as exports that start, are prepared or would like to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count

import pytest

from shared.destinations.errors import DestinationNotFound
from shared.destinations.model import Destination
from shared.exports.errors import DestinationNotReady, ExportError
from shared.exports.history import ExportFilter
from shared.exports.model import Status
from shared.people import SCHEDULE
from shared.schedule.run_all import start_all
from shared.storage.names import FINISH_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import TESTER, Engine, people
from tests.integration.removal_support import (
    REMOVE,
    Stops,
    addresses,
    another_process,
    assert_nothing_is_left,
    audit_of,
    complete,
    destination,
    everything,
    forget_history,
    handle,
    left_behind,
    pretend_tagged,
    remove,
)


def test_removing_again_works_and_says_what_is_left(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    engine.start(destination(engine))
    first, second = remove(engine), engine.product.removals.remove("d1", TESTER, '"stale"')
    assert first is not None
    assert second is not None
    assert first.destination.removal == second.destination.removal
    assert engine.receive([REMOVALS_QUEUE]) == [], "the end of the export sends the message"
    complete(engine)
    actions = [record.action for record in audit_of(engine)]
    assert actions.count("destination.removalStarted") == actions.count("destination.removed") == 1


def test_removing_from_several_callers_at_once_removes_once(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    before = everything(engine.connection_string)
    engine.run(destination(engine))
    together = threading.Barrier(4)
    processes = [engine, *(another_process(engine) for _ in range(3))]

    def remove_in(process: Engine) -> None:
        together.wait()
        with suppress(DestinationNotFound):
            remove(process)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(remove_in, processes))
    complete(engine)
    assert [record.action for record in audit_of(engine)].count("destination.removed") == 1
    assert_nothing_is_left(engine, before)


def every_moment(engine: Engine, stops: Stops, step: int = 1) -> Iterator[tuple[int, Destination]]:
    """Moments of one piece of work, by number, each with a destination of its own, until the work ends before the
    moment comes. Of no removed destination an export has survived."""
    for number in count(1, step):
        made = destination(engine, id_=f"d{number}")
        yield number, made
        complete(engine, made.id)
        assert_no_export_survived(engine)
        if not stops.reached:
            return


def ways_to_start(engine: Engine, made: Destination) -> list[Callable[[], object]]:
    return [
        lambda: engine.start(made, key="monday"),
        lambda: start_all(
            [made], engine.product.exports, trigger="scheduled", requested_by=SCHEDULE, idempotency_key="s"
        ),
        partial(resume, engine, made),
    ]


def resume(engine: Engine, made: Destination) -> None:
    """Go on with an export that was canceled before it was prepared, if there is one."""
    canceled = ExportFilter(destination_id=made.id, statuses=frozenset({Status.CANCELED}))
    for earlier in engine.product.exports.list(canceled):
        engine.product.exports.resume(earlier.id, made, requested_by=TESTER, idempotency_key="r")


@pytest.mark.parametrize("way", [0, 1, 2], ids=["on demand", "scheduled", "resumed"])
def test_an_export_that_starts_in_the_very_moment_of_the_removal_does_not_survive(engine: Engine, way: int) -> None:
    """The whole removal happens between any two steps of the start, which knows the destination as it was before."""
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    moments = 0
    for moments, made in every_moment(engine, stops):
        if way == 2:
            engine.product.exports.cancel(engine.start(made), TESTER)
            handle(engine, FINISH_QUEUE)
        stops.at(moments, partial(remove, other, made.id))
        with suppress(ExportError):
            ways_to_start(engine, made)[way]()
        if not stops.off():
            remove(engine, made.id)
    assert moments > 5
    left = left_behind(before, everything(engine.connection_string))
    assert [name for name in left if "/idempotency/" not in name] == [], "the hash of a key at most, which expires"


@pytest.mark.parametrize("prepared", [False, True], ids=["started", "started and prepared"])
def test_an_export_that_starts_between_two_steps_of_the_removal_does_not_survive(
    engine: Engine, prepared: bool
) -> None:
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    moments = 0
    for moments, made in every_moment(engine, stops):

        def start(made: Destination = made) -> None:
            with suppress(ExportError):
                other.start(made, key="monday")
            if prepared:
                handle(other, PREPARE_QUEUE)

        stops.at(moments, start)
        remove(engine, made.id)
        stops.off()
    assert moments > 15
    left = left_behind(before, everything(engine.connection_string))
    assert [name for name in left if "/idempotency/" not in name] == [], "the hash of a key at most, which expires"


def test_an_export_that_is_prepared_while_the_removal_goes_through_does_not_survive(engine: Engine) -> None:
    """The removal happens between two steps of prepare: every other one, to save time."""
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    moments = 0
    for moments, made in every_moment(engine, stops, step=2):
        engine.start(made)
        stops.at(moments, partial(remove, other, made.id))
        handle(engine, PREPARE_QUEUE)
        if not stops.off():
            remove(engine, made.id)
    assert moments > 15
    assert_nothing_is_left(engine, before)


def assert_no_export_survived(engine: Engine) -> None:
    assert list(engine.product.store.active()) == []
    assert {export.status for export in engine.product.exports.list(top=200)} <= {Status.CANCELED}
    assert engine.members() == {}, "nobody was sent"
    forget_history(engine)


def test_nothing_starts_while_a_removal_goes_on(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    made = destination(engine)
    export_id = engine.start(made)  # it ends before the removal: else it is what keeps others from starting
    engine.product.exports.cancel(export_id, TESTER)
    handle(engine, FINISH_QUEUE)
    pretend_tagged(engine, made, {"Readers": addresses(10)})
    stored = remove(engine, tags=REMOVE)
    assert stored is not None
    for start in ways_to_start(engine, stored.destination):
        with suppress(DestinationNotReady):
            start()
    assert [view.id for view in engine.product.exports.list()] == [export_id]

"""Removing destinations, their tags kept: whatever they are doing, whatever is killed, nothing of them is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count

import pytest

from shared.destinations.errors import DestinationNotFound
from shared.destinations.model import Destination
from shared.destinations.view import view_of
from shared.exports.errors import ExportError
from shared.exports.history import ExportFilter
from shared.exports.model import Status
from shared.people import SCHEDULE
from shared.schedule.run_all import start_all
from shared.secrets.store import SecretNotFound
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, KEY, TESTER, Engine, people
from tests.integration.removal_support import (
    Killed,
    Stops,
    another_process,
    audit_of,
    complete,
    destination,
    everything,
    forget_history,
    is_gone,
    kill,
    last_word,
    left_behind,
    minutes_pass,
    pretend_exported,
    removal_of,
    remove,
    work_off,
)
from tests.support import wait_for


def assert_nothing_is_left(engine: Engine, before: dict[str, bytes]) -> None:
    after = everything(engine.connection_string)
    assert left_behind(before, after) == []
    for name, content in after.items():
        assert b"@mail.example" not in content, f"{name} holds an address"
        assert KEY.encode() not in content


def handle(engine: Engine, queue: str) -> None:
    for name, message in engine.receive([queue]):
        engine.handle(name, message)


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
    worker = threading.Thread(target=engine.work_until_ended, args=(export_id,))
    worker.start()
    wait_for(lambda: engine.product.store.progress(export_id).batches > 4, "the first batches")
    stored = remove(engine)
    answered_at = time.time()
    assert stored is not None
    worker.join(60)
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


# -- at the same time ----------------------------------------------------------------------------------------------


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
    for number in count(1):
        made = destination(engine, id_=f"d{number}")
        if way == 2:
            engine.product.exports.cancel(engine.start(made), TESTER)
            handle(engine, FINISH_QUEUE)
        stops.at(number, partial(remove, other, made.id))
        with suppress(ExportError):
            ways_to_start(engine, made)[way]()
        if not stops.off():
            remove(engine, made.id)
        complete(engine, made.id)
        assert_no_export_survived(engine)
        if not stops.reached:
            break
    assert number > 5
    left = left_behind(before, everything(engine.connection_string))
    assert [name for name in left if "/idempotency/" not in name] == [], "the hash of a key at most, which expires"


@pytest.mark.parametrize("prepared", [False, True], ids=["started", "started and prepared"])
def test_an_export_that_starts_between_two_steps_of_the_removal_does_not_survive(
    engine: Engine, prepared: bool
) -> None:
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    for number in count(1):
        made = destination(engine, id_=f"d{number}")

        def start(made: Destination = made) -> None:
            with suppress(ExportError):
                other.start(made, key="monday")
            if prepared:
                handle(other, PREPARE_QUEUE)

        stops.at(number, start)
        remove(engine, made.id)
        stops.off()
        complete(engine, made.id)
        assert_no_export_survived(engine)
        if not stops.reached:
            break
    assert number > 15
    left = left_behind(before, everything(engine.connection_string))
    assert [name for name in left if "/idempotency/" not in name] == [], "the hash of a key at most, which expires"


def test_an_export_that_is_prepared_while_the_removal_goes_through_does_not_survive(engine: Engine) -> None:
    """The removal happens between two steps of prepare: every other one, to save time."""
    engine.write_segment("Readers", people(10))
    before = everything(engine.connection_string)
    other, stops = another_process(engine), Stops(engine.product.documents)
    for number in count(1, step=2):
        made = destination(engine, id_=f"d{number}")
        engine.start(made)
        stops.at(number, partial(remove, other, made.id))
        handle(engine, PREPARE_QUEUE)
        if not stops.off():
            remove(engine, made.id)
        complete(engine, made.id)
        assert_no_export_survived(engine)
        if not stops.reached:
            break
    assert number > 15
    assert_nothing_is_left(engine, before)


def assert_no_export_survived(engine: Engine) -> None:
    assert list(engine.product.store.active()) == []
    assert {export.status for export in engine.product.exports.list(top=200)} <= {Status.CANCELED}
    assert engine.members() == {}, "nobody was sent"
    forget_history(engine)


def test_nothing_starts_while_a_removal_goes_on(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    export_id = engine.start(destination(engine))
    stored = remove(engine)
    assert stored is not None
    for start in ways_to_start(engine, stored.destination):
        with suppress(ExportError):
            start()
    assert [view.id for view in engine.product.exports.list() if view.status is not Status.SKIPPED] == [export_id]


# -- killed --------------------------------------------------------------------------------------------------------


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

    erase, engine.product.exports.erase_data = engine.product.exports.erase_data, fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="disk"):
        remove(engine)
    engine.product.exports.erase_data = erase  # type: ignore[method-assign]
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
    assert engine.product.removals.finish_removals() == 0, "the message may still be on its way"
    minutes_pass(engine)
    assert engine.receive([REMOVALS_QUEUE]) == [], "the end of the export sends the message"
    assert datetime.now(UTC) >= removal_of(engine).requested_at


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

"""A stop that hits an export in any state: it ends as Canceled, soon, with the reason, and its end is on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.sandbox.control import SandboxControl
from shared.audit.model import AuditRecord
from shared.destinations.model import Destination, Removal
from shared.exports.model import BatchResult, Status
from shared.people import SCHEDULE
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import TESTER, Engine, build_engine, people
from tests.support import StorageAccount

REASON = "The destination was removed by test."


@pytest.fixture
def destination(engine: Engine) -> Destination:
    engine.write_segment("Readers", people(10))
    return engine.destination(["Readers"])


def handle_all(engine: Engine, *queues: str) -> int:
    """Handle what is visible; returns how many messages that were."""
    messages = engine.receive(queues)
    for queue, message in messages:
        engine.handle(queue, message)
    return len(messages)


def stop(engine: Engine) -> None:
    engine.product.exports.stop_for_destination("d1", REASON)


def assert_canceled(engine: Engine, export_id: str, not_sent: int) -> None:
    export = engine.export(export_id)
    assert export.status is Status.CANCELED
    assert export.problem is not None
    assert (export.problem.code, export.problem.message) == ("destinationRemoved", REASON)
    assert (export.books.not_sent, export.books.imbalances()) == (not_sent, [])
    assert engine.members() == {}
    assert list(engine.product.store.active()) == []


def test_while_it_is_queued(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    stop(engine)
    assert handle_all(engine, FINISH_QUEUE) == 1
    assert_canceled(engine, export_id, not_sent=0)
    handle_all(engine, PREPARE_QUEUE)
    assert_canceled(engine, export_id, not_sent=0)


def while_pinning(engine: Engine, patched: pytest.MonkeyPatch) -> None:
    """The stop comes, and its message is dealt with, while prepare reads the segments."""
    pin = engine.product.catalog.pin

    def pin_and_stop(segments: Any) -> Any:
        stop(engine)
        handle_all(engine, FINISH_QUEUE)
        return pin(segments)

    patched.setattr(engine.product.catalog, "pin", pin_and_stop)


def test_while_it_is_prepared(engine: Engine, destination: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = engine.start(destination)
    while_pinning(engine, monkeypatch)
    handle_all(engine, PREPARE_QUEUE)
    assert engine.work_until_ended(export_id).status is Status.CANCELED
    is_planned = engine.product.store.plan(export_id) is not None  # prepare looks for a stop once a second
    assert_canceled(engine, export_id, not_sent=10 if is_planned else 0)


def test_while_it_is_prepared_and_mailchimp_is_away(
    engine: Engine, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = engine.start(destination)
    while_pinning(engine, monkeypatch)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    handle_all(engine, PREPARE_QUEUE)
    assert engine.export(export_id).status is Status.WAITING
    assert handle_all(engine, FINISH_QUEUE) == 1, "it does not wait for Mailchimp, nor for the sweeper"
    assert_canceled(engine, export_id, not_sent=0)


def test_while_it_waits_to_be_prepared(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    handle_all(engine, PREPARE_QUEUE)
    assert engine.export(export_id).status is Status.WAITING
    stop(engine)
    handle_all(engine, FINISH_QUEUE)
    assert_canceled(engine, export_id, not_sent=0)


def waits_for_mailchimp(engine: Engine, destination: Destination) -> str:
    """An export whose lane rests until Mailchimp is back, minutes later perhaps."""
    export_id = engine.start(destination)
    handle_all(engine, PREPARE_QUEUE)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    handle_all(engine, LANES_QUEUE)
    assert engine.export(export_id).status is Status.WAITING
    return export_id


def test_while_it_waits_to_be_sent(engine: Engine, destination: Destination) -> None:
    export_id = waits_for_mailchimp(engine, destination)
    calls = len(engine.sandbox.calls())
    stop(engine)
    handle_all(engine, FINISH_QUEUE)
    assert_canceled(engine, export_id, not_sent=10)
    assert len(engine.sandbox.calls()) == calls


def test_while_it_waits_to_be_sent_and_the_message_is_lost(engine: Engine, destination: Destination) -> None:
    export_id = waits_for_mailchimp(engine, destination)
    stop(engine)
    assert len(engine.receive([FINISH_QUEUE])) == 1
    engine.product.sweeper.sweep()
    handle_all(engine, FINISH_QUEUE)
    assert_canceled(engine, export_id, not_sent=10)


def test_another_export_that_waits_on_the_same_lane_is_left_alone(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    engine = build_engine(storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="1")
    engine.write_segment("Readers", people(10))
    export_id = engine.start(engine.destination(["Readers"]))
    other = engine.start(engine.destination(["Readers"], id_="d2"))
    handle_all(engine, PREPARE_QUEUE)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    handle_all(engine, LANES_QUEUE)
    stop(engine)
    handle_all(engine, FINISH_QUEUE)
    assert engine.export(export_id).status is Status.CANCELED
    assert engine.product.store.ended_lanes(other) == set()
    assert not engine.export(other).ended


def mark_removed(destination: Destination) -> Destination:
    destination.removal = Removal(requested_by=TESTER, requested_at=datetime.now(UTC))
    return destination


def withdraw_consent(destination: Destination) -> Destination:
    destination.consent.withdrawn_by, destination.consent.withdrawn_at = "ada", datetime.now(UTC)
    return destination


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [(mark_removed, "destinationRemoved", "removed"), (withdraw_consent, "consentWithdrawn", "withdrawn by ada")],
)
def test_a_stop_that_misses_the_moment_of_the_start_is_found_by_prepare(
    engine: Engine, destination: Destination, change: Callable[[Destination], Destination], code: str, words: str
) -> None:
    """The stop looks for a running export just before the export takes the destination's place."""
    export_id = engine.start(destination)
    engine.product.destination_store.change("d1", change, by=TESTER, action="destination.removalStarted")
    handle_all(engine, PREPARE_QUEUE)
    handle_all(engine, FINISH_QUEUE)
    export = engine.export(export_id)
    assert export.status is Status.CANCELED
    assert export.problem is not None
    assert export.problem.code == code
    assert words in export.problem.message
    assert engine.sandbox.calls() == []


# -- on record -------------------------------------------------------------------------------------------------------


def records(engine: Engine, export_id: str) -> list[AuditRecord]:
    documents = engine.product._audit_documents
    found = [documents.read(entry.name) for entry in documents.list("")]
    every = [AuditRecord.from_bytes(each.data) for each in found if each is not None]
    return [record for record in every if record.target_id == export_id]


def told(record: AuditRecord) -> dict[str, Any]:
    return {change.property: change.after for change in record.changes}


def test_a_run_is_on_record_from_its_start_to_its_end(engine: Engine, destination: Destination) -> None:
    view = engine.run(destination)
    started, ended = records(engine, view.id)
    assert (started.action, ended.action) == ("export.started", "export.ended")
    assert started.who == ended.who == TESTER
    assert (started.at, ended.at) == (view.created_at, view.ended_at)
    assert told(ended) == {"status": "Successful", "books": view.books.model_dump(by_alias=True), "problem": None}
    engine.invoke(FINISH_QUEUE, f'{{"v":1,"exportId":"{view.id}"}}'.encode())
    assert len(records(engine, view.id)) == 2


def test_a_cancellation_is_on_record_with_who_asked_for_it(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    engine.product.exports.cancel(export_id, SCHEDULE)
    handle_all(engine, FINISH_QUEUE)
    found = {record.action: record for record in records(engine, export_id)}
    assert set(found) == {"export.started", "export.cancelRequested", "export.ended"}
    assert found["export.cancelRequested"].who == SCHEDULE
    assert found["export.ended"].who == TESTER
    assert told(found["export.ended"])["status"] == "Canceled"


def test_a_run_that_had_nothing_to_do_is_on_record_as_skipped(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    view = engine.product.exports.start(destination, trigger="scheduled", requested_by=SCHEDULE)
    engine.work_until_ended(view.id)
    started, skipped = records(engine, view.id)
    assert (started.action, skipped.action) == ("export.started", "export.skipped")
    assert told(skipped)["problem"] == "unchanged"


class Outage:
    """An audit log that cannot be written for a while."""

    def __init__(self, engine: Engine) -> None:
        self._patched = pytest.MonkeyPatch()
        self._patched.setattr(engine.product.audit, "append", self._refuse)

    def _refuse(self, record: AuditRecord) -> None:
        raise ConnectionError

    def end(self) -> None:
        self._patched.undo()


def test_an_end_that_could_not_be_recorded_is_recorded_later(engine: Engine, destination: Destination) -> None:
    outage = Outage(engine)
    with pytest.raises(ConnectionError):
        engine.start(destination)
    (export,) = engine.product.exports.list()
    later = datetime.now(UTC) + timedelta(minutes=5)
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    engine.product.sweeper.sweep()
    with pytest.raises(ConnectionError):
        engine.work_until_ended(export.id)
    assert engine.export(export.id).ended
    assert records(engine, export.id) == []
    outage.end()
    engine.product.sweeper.sweep()
    handle_all(engine, FINISH_QUEUE)
    assert [record.action for record in records(engine, export.id)] == ["export.started", "export.ended"]
    assert list(engine.product.store.active()) == []


def test_no_profile_is_on_record(engine: Engine) -> None:
    rows = [*people(3), {"EMail": "not an address"}, {"EMail": "refused@mailinator.com"}]
    engine.write_segment("Readers", rows)
    engine.run(engine.destination(["Readers"]))
    documents = engine.product._audit_documents
    written = b"".join(found.data for entry in documents.list("") if (found := documents.read(entry.name)))
    assert b"export.ended" in written
    for word in (b"person", b"not an address", b"refused@", b"mailinator", "Ayşe".encode()):
        assert word not in written


def test_a_reason_is_that_of_the_first_stop(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    engine.product.exports.cancel(export_id, TESTER)
    stop(engine)
    handle_all(engine, FINISH_QUEUE)
    export = engine.export(export_id)
    assert export.problem is not None
    assert export.problem.message == "Canceled by test."


def test_an_export_whose_books_do_not_balance_keeps_nothing_to_resume(engine: Engine) -> None:
    """There is no telling who has a result."""
    engine.write_segment("Readers", people(600))
    export_id = engine.start(engine.destination(["Readers"]))
    handle_all(engine, PREPARE_QUEUE)
    plan, now = engine.product.store.plan(export_id), datetime.now(UTC)
    assert plan is not None
    wrong = BatchResult(
        batch=0, lane=plan.lanes[0], rows=500, created=499, updated=0, rejected=[], calls=1, sent_at=now, ended_at=now
    )
    engine.product.store.record(export_id, wrong)
    engine.product.exports.cancel(export_id, TESTER)
    handle_all(engine, LANES_QUEUE)
    handle_all(engine, FINISH_QUEUE)
    export = engine.export(export_id)
    assert export.problem is not None
    assert (export.status, export.problem.code) == (Status.FAILED, "booksDoNotBalance")
    assert (export.books.not_sent, export.resumable_until) == (100, None)
    assert list(engine.product.documents.list(names.all_batches(export_id))) == []

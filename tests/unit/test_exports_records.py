"""What a scheduled run that was not made leaves in the history, and what runs leave in the audit log."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.audit.model import AuditRecord
from shared.exports.errors import DestinationNotReady, ExportRunning
from shared.exports.model import Books, Export, Problem, Status
from shared.exports.rejected_header import NONE_REJECTED
from shared.exports.view import ExportView
from shared.people import SCHEDULE, Person
from shared.storage import names
from tests.unit.exports_in_memory import ADA, NOT_READY, NOW, ExportsInMemory, ready_destination

KEY = "schedule-2026-11-22T12:00:00+00:00"
BEA = Person(id="0002", name="bea@contoso.example")


@pytest.fixture
def exports() -> ExportsInMemory:
    return ExportsInMemory()


def skip(exports: ExportsInMemory, key: str = KEY, problem: Problem = NOT_READY) -> ExportView:
    return exports.service.record_skipped(
        ready_destination(), trigger="scheduled", requested_by=SCHEDULE, idempotency_key=key, problem=problem
    )


def start(exports: ExportsInMemory, key: str | None = None) -> ExportView:
    return exports.service.start(ready_destination(), trigger="onDemand", requested_by=ADA, idempotency_key=key)


def end(exports: ExportsInMemory, export_id: str, status: Status) -> Export:
    """What finish does to the document."""

    def ended(export: Export) -> None:
        export.books = Books(rows_read=3, members=3, sent=3, created=3)
        export.problem = export.stop.problem if export.stop else None
        export.ended_at = exports.now + timedelta(minutes=5)

    exports.store.move(export_id, Status.FINISHING)
    export = exports.store.move(export_id, status, ended)
    assert export is not None
    return export


def told(record: AuditRecord) -> dict[str, object]:
    return {change.property: change.after for change in record.changes}


# -- skipped ---------------------------------------------------------------------------------------------------------


def test_a_skipped_run_is_an_export_that_has_ended_with_its_reason(exports: ExportsInMemory) -> None:
    view = skip(exports)
    assert (view.status, view.ended, view.problem) == (Status.SKIPPED, True, NOT_READY)
    assert (view.trigger, view.requested_by, view.seconds) == ("scheduled", "schedule", 0)
    assert view.created_at == view.ended_at == NOW
    assert view.books.imbalances() == []
    assert [found.id for found in exports.service.list()] == [view.id]
    assert exports.service.rejected(view.id) == NONE_REJECTED


def test_a_skipped_run_takes_no_place_sends_no_message_and_leaves_nothing_to_do(exports: ExportsInMemory) -> None:
    skip(exports)
    assert exports.signals.sent == []
    assert exports.service.running_of("d1") is None
    assert list(exports.store.active()) == []
    assert not exports.documents.exists(names.current_export("d1"))


def test_a_skipped_run_does_not_disturb_the_export_that_runs(exports: ExportsInMemory) -> None:
    running = start(exports)
    skip(exports)
    assert exports.service.running_of("d1") == running.id
    with pytest.raises(ExportRunning):
        start(exports)


def test_the_same_key_skips_once(exports: ExportsInMemory) -> None:
    first = skip(exports)
    exports.now += timedelta(hours=1)
    assert skip(exports, problem=Problem(code="exportRunning", message="…")) == first
    assert len(exports.service.list()) == len(exports.audit_records()) == 1
    assert skip(exports, key="another").id != first.id


def test_a_start_whose_export_somebody_prepares_already_under_the_same_key_returns_it(
    exports: ExportsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start(exports, "portal-1")
    exports.documents.leased = {names.active(started.id)}
    unseen = iter([None])
    find = exports.store.find
    monkeypatch.setattr(exports.store, "find", lambda export_id: next(unseen, find(export_id)))
    assert start(exports, "portal-1").id == started.id
    assert [active.id for active in exports.store.active()] == [started.id]


def test_a_skipped_run_that_the_sweeper_looks_at_meanwhile_is_recorded_all_the_same(
    exports: ExportsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = exports.store.create

    def create_and_be_seen(export: Export) -> bool:
        created = create(export)
        exports.documents.leased = {names.active(export.id)}
        return created

    monkeypatch.setattr(exports.store, "create", create_and_be_seen)
    view = skip(exports)
    assert view.status is Status.SKIPPED
    assert [active.id for active in exports.store.active()] == [view.id], "the sweeper has it finished"


def test_a_run_that_was_skipped_is_not_started_under_the_same_key_nor_the_other_way_round(
    exports: ExportsInMemory,
) -> None:
    skipped = skip(exports)
    assert start(exports, key=KEY).id == skipped.id
    started = start(exports, key="k")
    assert skip(exports, key="k").id == started.id
    assert exports.service.get(started.id).status is Status.QUEUED
    assert [exports.documents.exists(names.active(each.id)) for each in (skipped, started)] == [False, True]
    end(exports, started.id, Status.SUCCESSFUL)
    exports.documents.delete(names.active(started.id))
    assert skip(exports, key="k").status is Status.SUCCESSFUL
    assert list(exports.store.active()) == []


def test_a_start_that_lost_to_a_skip_under_the_same_key_starts_nothing(
    exports: ExportsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = exports.store.create

    def create_later(export: Export) -> bool:
        monkeypatch.undo()
        skip(exports)
        return create(export)

    monkeypatch.setattr(exports.store, "create", create_later)
    assert start(exports, key=KEY).status is Status.SKIPPED
    assert exports.signals.sent == []
    assert [record.action for record in exports.audit_records()] == ["export.skipped"]


def test_a_skip_that_lost_to_a_start_under_the_same_key_leaves_it_alone(
    exports: ExportsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = exports.store.create

    def create_later(export: Export) -> bool:
        monkeypatch.undo()
        start(exports, key=KEY)
        return create(export)

    monkeypatch.setattr(exports.store, "create", create_later)
    view = skip(exports)
    assert view.status is Status.QUEUED
    assert exports.documents.exists(names.active(view.id))
    assert [record.action for record in exports.audit_records()] == ["export.started"]


@pytest.mark.parametrize("refusal", [ExportRunning, DestinationNotReady])
def test_a_refused_start_uses_up_no_key(exports: ExportsInMemory, refusal: type[Exception]) -> None:
    if refusal is ExportRunning:
        other = start(exports).id
        with pytest.raises(ExportRunning):
            start(exports, key="k")
        end(exports, other, Status.SUCCESSFUL)
    else:
        off = ready_destination().model_copy(update={"enabled": False})
        with pytest.raises(DestinationNotReady):
            exports.service.start(off, trigger="onDemand", requested_by=ADA, idempotency_key="k")
    exports.now += timedelta(hours=3)
    assert start(exports, key="k").created_at == exports.now, "its place in the history is that of its start"


# -- audit -----------------------------------------------------------------------------------------------------------


def test_a_start_is_recorded_with_who_and_what(exports: ExportsInMemory) -> None:
    view = start(exports)
    (record,) = exports.audit_records()
    assert (record.action, record.who, record.at) == ("export.started", ADA, view.created_at)
    assert (record.target_type, record.target_id, record.target_name) == ("export", view.id, "Destination d1")
    assert told(record) == {"destinationId": "d1", "trigger": "onDemand"}


def test_the_same_start_is_recorded_once(exports: ExportsInMemory) -> None:
    start(exports, key="k")
    start(exports, key="k")
    assert len(exports.audit_records()) == 1


def test_who_asked_to_cancel_is_recorded_and_a_second_request_changes_nothing(exports: ExportsInMemory) -> None:
    view = start(exports)
    exports.now += timedelta(seconds=30)
    exports.service.cancel(view.id, BEA)
    exports.now += timedelta(seconds=30)
    exports.service.cancel(view.id, ADA)
    (record,) = [each for each in exports.audit_records() if each.action == "export.cancelRequested"]
    assert (record.who, record.at, record.target_id) == (BEA, NOW + timedelta(seconds=30), view.id)


def test_an_export_that_its_destinations_removal_ends_was_canceled_by_nobody(exports: ExportsInMemory) -> None:
    start(exports)
    exports.service.stop_for_destination("d1", "The destination was removed by ada.")
    assert [record.action for record in exports.audit_records()] == ["export.started"]


def test_an_end_is_recorded_with_its_books_for_whoever_started_it(exports: ExportsInMemory) -> None:
    view = start(exports)
    exports.service.cancel(view.id, BEA)
    export = end(exports, view.id, Status.CANCELED)
    exports.records.ended(export)
    record = exports.audit_records()[-1]
    assert (record.action, record.who, record.at) == ("export.ended", ADA, export.ended_at)
    assert told(record) == {
        "status": "Canceled",
        "books": export.books.model_dump(by_alias=True),
        "problem": "canceled",
    }


def test_recording_an_end_again_adds_nothing_and_makes_up_for_what_is_missing(exports: ExportsInMemory) -> None:
    view = start(exports)
    exports.service.cancel(view.id, BEA)
    export = end(exports, view.id, Status.CANCELED)
    exports.records.ended(export)
    complete = exports.audit_records()
    assert [record.action for record in complete] == [
        "export.cancelRequested",
        "export.started",
        "export.ended",
    ]
    exports.records.ended(export)
    assert exports.audit_records() == complete
    exports.audit_documents.blobs.clear()
    exports.records.ended(export)
    assert exports.audit_records() == complete


def test_a_skipped_run_is_recorded_as_skipped_and_never_as_started(exports: ExportsInMemory) -> None:
    view = skip(exports)
    (record,) = exports.audit_records()
    assert (record.action, record.who, record.target_id) == ("export.skipped", SCHEDULE, view.id)
    assert told(record)["problem"] == "destinationNotReady"
    assert told(record)["destinationId"] == "d1"
    stored = exports.store.find(view.id)
    assert stored is not None
    exports.records.ended(stored)
    assert len(exports.audit_records()) == 1


def test_an_export_that_has_not_ended_has_no_record_of_its_end(exports: ExportsInMemory) -> None:
    stored = exports.store.find(start(exports).id)
    assert stored is not None
    exports.records.ended(stored)
    assert [record.action for record in exports.audit_records()] == ["export.started"]


# -- the end has begun -----------------------------------------------------------------------------------------------


def test_a_stop_after_the_end_has_begun_changes_neither_status_nor_reason(exports: ExportsInMemory) -> None:
    view = start(exports)
    exports.store.move(view.id, Status.FINISHING)
    exports.service.cancel(view.id, BEA)
    export = exports.store.find(view.id)
    assert export is not None
    assert export.stop is None
    assert "export.cancelRequested" not in [record.action for record in exports.audit_records()]

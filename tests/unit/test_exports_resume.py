"""What can be resumed, until when, and what the exports of a chain know of each other; over documents in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.exports.closed_books import ClosedBooks
from shared.exports.errors import NothingToResume, ResumeExpired
from shared.exports.model import Books, Export, Plan, Problem, Status, Stop, Tally
from shared.exports.resume import (
    arrived_before,
    check_resumable,
    is_being_resumed,
    is_resumable,
    newer_that_sent,
    resumable_until,
)
from shared.storage import names
from tests.unit.exports_in_memory import NOW, ExportsInMemory, ready_destination
from tests.unit.plans import a_plan

WEEK = timedelta(days=7)


@pytest.fixture
def exports() -> ExportsInMemory:
    return ExportsInMemory()


def add(
    exports: ExportsInMemory,
    hours_ago: float,
    status: Status = Status.FAILED,
    *,
    continues: str | None = None,
    books: Books | None = None,
) -> str:
    """An export; marked as the one that resumes the one that it continues."""
    made = exports.add(timedelta(hours=hours_ago), status=status)

    def tell(export: Export) -> None:
        export.continues = export.resumes = continues
        export.books = books or Books()

    exports.store.change(made, tell)
    if continues is not None:
        exports.store.change(continues, lambda earlier: setattr(earlier, "resumed_by", made))
    return made


def found(exports: ExportsInMemory, export_id: str) -> Export:
    export = exports.store.find(export_id)
    assert export is not None
    return export


def close_books(exports: ExportsInMemory, export_id: str, *, retryable: int = 0, untagged: int = 0) -> None:
    closed = ClosedBooks(books=Books(), tally=Tally(untagged=untagged), rejected_reasons={}, retryable=retryable)
    exports.documents.write(names.books(export_id), closed.to_bytes())


def plan_of(exports: ExportsInMemory, export_id: str) -> Plan:
    plan = a_plan(export_id, account_id="acc1", audience_id="aud1", attempt="a1", members=5)
    return exports.store.publish(plan)


# -- until when ------------------------------------------------------------------------------------------------------


def test_it_can_be_resumed_until_a_moment_and_not_in_that_moment(exports: ExportsInMemory) -> None:
    export = found(exports, add(exports, 1))
    assert not is_resumable(export, NOW)
    export.resumable_until = NOW
    assert is_resumable(export, NOW - timedelta(microseconds=1))
    assert not is_resumable(export, NOW)


def until(exports: ExportsInMemory, export: Export, plan: Plan | None, books: Books) -> object:
    return resumable_until(exports.store, export, plan, books, NOW, WEEK)


def test_what_was_not_sent_is_kept_for_a_week(exports: ExportsInMemory) -> None:
    export = found(exports, add(exports, 1))
    plan = plan_of(exports, export.id)
    left, nothing_left = Books(members=5, not_sent=5), Books(members=5, sent=5, created=5)
    assert until(exports, export, plan, left) is None, "it ended by itself"
    export.stop = Stop(status=Status.FAILED, problem=Problem(code="accountRestricted", message="x"), at=NOW)
    assert until(exports, export, plan, left) == NOW + WEEK
    assert until(exports, export, plan, nothing_left) is None
    assert until(exports, export, None, Books()) == NOW + WEEK, "it is made again"
    for code in ("destinationRemoved", "consentWithdrawn"):
        export.stop = Stop(status=Status.CANCELED, problem=Problem(code=code, message="x"), at=NOW)
        assert until(exports, export, plan, left) is None
    export.stop = Stop(status=Status.SKIPPED, problem=Problem(code="unchanged", message="x"), at=NOW)
    assert until(exports, export, None, Books()) is None


def test_a_rest_that_was_never_prepared_is_kept_no_longer_than_what_it_was_to_send(exports: ExportsInMemory) -> None:
    first = add(exports, 2)
    exports.store.change(first, lambda earlier: setattr(earlier, "resumable_until", NOW + timedelta(days=1)))
    export = found(exports, add(exports, 1, continues=first))
    export.stop = Stop(status=Status.FAILED, problem=Problem(code="accountRestricted", message="x"), at=NOW)
    assert until(exports, export, None, Books()) == NOW + timedelta(days=1)


def test_what_an_export_without_closed_books_had_left_is_not_there_any_more(exports: ExportsInMemory) -> None:
    """There is no telling who has a result."""
    not_closed = Books(rows_read=5, members=5)
    all_sent = Books(rows_read=5, members=5, sent=5, created=5)
    for books, refusal in ((not_closed, ResumeExpired), (all_sent, NothingToResume)):
        export = found(exports, add(exports, 1, books=books))
        plan_of(exports, export.id)
        with pytest.raises(refusal):
            check_resumable(exports.store, export, ready_destination(), NOW)


# -- chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(3))
def test_a_run_is_made_for_somebody_who_is_due_in_any_part(exports: ExportsInMemory, part: int) -> None:
    parts = [add(exports, 5)]
    parts += [add(exports, 4, continues=parts[0])]
    parts += [add(exports, 3, continues=parts[1])]
    last = found(exports, add(exports, 2, Status.SUCCESSFUL, continues=parts[2]))
    for each in parts:
        close_books(exports, each)
    assert arrived_before(exports.store, last)
    close_books(exports, parts[part], retryable=1)
    assert not arrived_before(exports.store, last)
    close_books(exports, parts[part], untagged=1)
    assert not arrived_before(exports.store, last)
    exports.documents.delete(names.books(parts[part]))
    assert not arrived_before(exports.store, last), "nobody knows"


def test_bodies_are_kept_while_any_export_of_the_chain_goes_on(exports: ExportsInMemory) -> None:
    first = add(exports, 5)
    assert not is_being_resumed(exports.store, found(exports, first))
    second = add(exports, 4, continues=first)
    third = add(exports, 3, Status.SENDING, continues=second)
    assert is_being_resumed(exports.store, found(exports, first))
    exports.store.change(third, lambda export: setattr(export, "status", Status.SUCCESSFUL))
    assert not is_being_resumed(exports.store, found(exports, first))


def test_only_a_newer_export_that_has_sent_something_counts(exports: ExportsInMemory) -> None:
    sent = Books(members=5, sent=5, created=5)
    add(exports, 6, Status.SUCCESSFUL, books=sent)
    first = found(exports, add(exports, 5, books=sent))
    add(exports, 4, Status.CANCELED)
    assert newer_that_sent(exports.store, first) is None
    newer = add(exports, 3, Status.SUCCESSFUL, books=sent)
    add(exports, 2, Status.CANCELED)
    assert newer_that_sent(exports.store, first) == newer
